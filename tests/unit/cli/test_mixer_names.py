"""Which workloads the name after ``lateen mixer explain`` means."""

from __future__ import annotations

import pytest

from lateen.cli.mixer import meant_by

WORKLOADS = ["ratings-v1", "reviews-v1", "reviews-v2", "traces"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("reviews-v1", {"reviews-v1"}),
        ("reviews-v1-0", {"reviews-v1"}),
        ("traces-12", {"traces"}),
        ("reviews", {"reviews-v1", "reviews-v2"}),
        ("review", set()),
        ("reviews-v3-0", set()),
        ("-0", set()),
    ],
)
def test_a_workload_its_instance_or_its_service(name: str, meant: set[str]) -> None:
    assert meant_by(name, WORKLOADS) == meant
