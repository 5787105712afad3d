"""The translation of each case is what its file says; ``python -m tests.golden.rewrite`` writes the files."""

from __future__ import annotations

import pytest

from tests.golden.plan_to_envoy.cases import CASES
from tests.golden.plan_to_envoy.golden import FOLDER, path_of, rendered


@pytest.mark.parametrize("case", CASES)
def test_the_translation_is_the_golden_one(case: str) -> None:
    assert rendered(CASES[case]()) == path_of(case).read_text(), "run `make golden` and read the diff"


def test_no_file_is_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(CASES)
