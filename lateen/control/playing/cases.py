"""Routing tests on a real Envoy: one for each case, its calls played and held against the walk.

Comes in: cases that were walked. Goes out: for each of their calls what Envoy did, and how that differs.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence

import msgspec

from lateen.control.playing.observed import disagreements
from lateen.control.playing.play import NotPlayed, Outcome, play
from lateen.control.routing_tests import CallResult, CaseResult
from lateen.explain.verdict import Error

SEVERAL_CHAINS = "multiple filter chains"


class LiveResult(msgspec.Struct, frozen=True):
    """One call on a real Envoy. ``disagreements``: how that differs from the walk (empty: it does not)."""

    outcome: Outcome
    disagreements: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the walk; a call that cannot be made does not."""
        return not self.disagreements


LiveCase = tuple[LiveResult, ...]


def play_cases(cases: Sequence[CaseResult]) -> tuple[LiveCase, ...]:
    """Play all calls of all cases, one case after the other. Nothing is left behind, on SIGTERM and SIGINT neither.

    Raises KeyboardInterrupt on either, OSError where Envoy cannot be started.
    """
    try:
        return asyncio.run(_play_all(cases))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _play_all(cases: Sequence[CaseResult]) -> tuple[LiveCase, ...]:
    task = asyncio.current_task()
    if task is None:
        raise AssertionError("a coroutine runs in a task")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return tuple([await _play_case(case) for case in cases])


async def _play_case(case: CaseResult) -> LiveCase:
    if not case.results:
        return ()
    calls = [result.call for result in case.results]
    outcomes = await play(case.resources, calls, trust_domain=case.trust_domain, namespace=case.namespace)
    return tuple(held_against(result, outcome) for result, outcome in zip(case.results, outcomes, strict=True))


def held_against(result: CallResult, outcome: Outcome) -> LiveResult:
    """What became of a call on Envoy, and where that differs from the walk."""
    if not isinstance(outcome, NotPlayed):
        return LiveResult(outcome, disagreements(result.verdict, outcome))
    alike = result.verdict.error is Error.MULTIPLE_FILTER_CHAINS and SEVERAL_CHAINS in outcome.reason
    return LiveResult(outcome, (outcome.reason,) if outcome.refused and not alike else ())
