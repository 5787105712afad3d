"""What annotations of a workload say of Mixer's checks there: whether they are made, and what without an answer.

Comes in: annotations as Istio's pods have them. Goes out: a ``Policy``; ``BadAnnotation`` where a value cannot be.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import msgspec

from lateen.expressions.functions import Unusable, to_duration

CHECK = "policy.istio.io/check"
RETRIES = "policy.istio.io/checkRetries"
BASE_WAIT = "policy.istio.io/checkBaseRetryWaitTime"
MAX_WAIT = "policy.istio.io/checkMaxRetryWaitTime"
ANNOTATIONS = (CHECK, RETRIES, BASE_WAIT, MAX_WAIT)
ENABLE, DISABLE, ALLOW_ON_ERROR = "enable", "disable", "allow-on-error"
MODES = (ENABLE, DISABLE, ALLOW_ON_ERROR)
MOST_RETRIES = 10
LONGEST_WAIT_S = 10.0


class BadAnnotation(ValueError):
    """An annotation that cannot be: its ``name``, what is wrong with it, and ``remedy``."""

    def __init__(self, name: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.name, self.remedy = name, remedy


class Policy(msgspec.Struct, frozen=True):
    """Whether checks are made, and whether what nobody answers goes on. How often a call that failed is made again, and
    how long (seconds) it waits before: from ``base_wait``, doubled each time, to ``max_wait``."""

    checked: bool = True
    fail_open: bool = False
    retries: int = 0
    base_wait: float = 0.08
    max_wait: float = 1.0

    @property
    def patience(self) -> float:
        """How long retries may wait, all together."""
        return sum(min(self.base_wait * float(1 << number), self.max_wait) for number in range(self.retries))


def policy_of(annotations: Mapping[str, str], *, disabled: bool = False, fail_open: bool = False) -> Policy:
    """What holds at a workload; ``disabled`` and ``fail_open`` are the mesh's. Raises BadAnnotation."""
    mode = annotations.get(CHECK, "")
    if mode not in ("", *MODES):
        near = difflib.get_close_matches(mode, MODES, 1)
        remedy = f"did you mean {near[0]}?" if near else f"write {' or '.join(MODES)}"
        raise BadAnnotation(CHECK, f"{mode!r} is none of {', '.join(MODES)}", remedy)
    policy = Policy(
        checked=mode != DISABLE if mode else not disabled,
        fail_open=mode == ALLOW_ON_ERROR if mode else fail_open,
        retries=_count(annotations.get(RETRIES)),
        base_wait=_seconds(annotations, BASE_WAIT, 0.08),
        max_wait=_seconds(annotations, MAX_WAIT, 1.0),
    )
    if policy.base_wait > policy.max_wait:
        message = f"{policy.base_wait:g} s is longer than the longest wait, {policy.max_wait:g} s"
        raise BadAnnotation(BASE_WAIT, message, f"raise {MAX_WAIT}")
    return policy


def _count(text: str | None) -> int:
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit()) or len(text) > 2 or int(text) > MOST_RETRIES:
        raise BadAnnotation(RETRIES, f"{text!r} is no number from 0 to {MOST_RETRIES}", "write one in quotes")
    return int(text)


def _seconds(annotations: Mapping[str, str], name: str, default: float) -> float:
    text = annotations.get(name)
    if text is None:
        return default
    try:
        found = to_duration(text).total_seconds()
    except Unusable as problem:
        raise BadAnnotation(name, str(problem), "write one such as 80ms") from None
    if not 0 < found <= LONGEST_WAIT_S:
        raise BadAnnotation(name, f"{text!r} is not above 0 and at most {LONGEST_WAIT_S:g} s", "write one such as 80ms")
    return found
