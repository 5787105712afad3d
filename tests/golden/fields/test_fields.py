"""The plan of each case is what its file says; ``python -m tests.golden.rewrite`` writes the files."""

from __future__ import annotations

import pytest

from tests.golden.fields.golden import FOLDER, cases, rendered


@pytest.mark.parametrize("case", cases())
def test_the_plan_is_the_golden_one(case: str) -> None:
    assert rendered(case) == (FOLDER / f"{case}.json").read_text(), "run `make golden` and read the diff"


def test_no_file_is_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(cases())
