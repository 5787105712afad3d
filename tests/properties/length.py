"""How long property tests run: briefly by default, at length where LATEEN_LONG is set (``make long``)."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings


def is_long() -> bool:
    return bool(os.environ.get("LATEEN_LONG"))


def examples(short: int, long: int) -> settings:
    """Settings for a test with so many examples; each may take its time."""
    return settings(
        max_examples=long if is_long() else short,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
