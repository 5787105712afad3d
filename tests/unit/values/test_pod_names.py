"""Workloads by the names of their pods, as Kubernetes makes them."""

from __future__ import annotations

import pytest

from lateen.values.pod_names import workload_of_pod


@pytest.mark.parametrize(
    ("pod", "workload"),
    [
        ("reviews-v1-66b6955995-9w8xf", "reviews-v1"),
        ("web-7d5bfc9b8-x2x5z", "web"),
        ("kafka-12", "kafka"),
        ("log-agent-8k2zq", "log-agent"),
        ("by-hand", "by-hand"),
        ("reviews", "reviews"),
    ],
)
def test_a_pod_is_called_after_its_workload(pod: str, workload: str) -> None:
    assert workload_of_pod(pod) == workload
