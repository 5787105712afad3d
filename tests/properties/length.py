"""How long property tests run: briefly by default, at length where LATEEN_LONG is set (``make long``).

The short form makes the same examples every time: whether a change breaks a test is not left to chance. The long form
explores: its examples are others every time (``--hypothesis-seed`` says which), and those that failed are kept.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

_SHRINKING_S = 300
"""How long Hypothesis makes a failing example smaller, at most; it has no setting for that."""


def is_long() -> bool:
    return bool(os.environ.get("LATEEN_LONG"))


LONGEST_S = _SHRINKING_S + (3300 if is_long() else 300)
"""After how long a property test is given up."""


def load_profile() -> None:
    """Settings of all property tests; each example may take its time, as machines are busy."""
    settings.register_profile(
        "lateen",
        derandomize=not is_long(),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    settings.load_profile("lateen")


def examples(short: int, long: int, *, shrinks: bool = True) -> settings:
    """Settings for a test with so many examples. ``shrinks``: whether Hypothesis makes what it found small."""
    phases = [phase for phase in Phase if shrinks or phase not in (Phase.shrink, Phase.explain)]
    return settings(max_examples=long if is_long() else short, phases=phases)
