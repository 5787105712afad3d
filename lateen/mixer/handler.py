"""A handler at work: an adapter behind a deadline and a breaker of its own.

Comes in: instances. Goes out: verdicts, and what became of calls (``Tally``). Whatever an adapter raises, and however
long it takes, its caller gets an answer, and other handlers are not touched.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Sequence
from typing import TypeVar

import msgspec
import re2

from lateen.mixer.adapter import (
    DEADLINE_EXCEEDED,
    INTERNAL,
    UNAVAILABLE,
    Adapter,
    AttributeAdapter,
    CheckAdapter,
    CheckResult,
    QuotaAdapter,
    QuotaArgs,
    QuotaResult,
    ReportAdapter,
)
from lateen.mixer.breaker import Breaker
from lateen.mixer.counters import CounterError
from lateen.mixer.seldom import Seldom
from lateen.mixer.templates import Instance

LOG = logging.getLogger("lateen.mixer")
_HEADER = re2.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re2.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_T = TypeVar("_T")


class Tally(msgspec.Struct):
    """What became of the calls of one handler."""

    calls: int = 0
    failures: int = 0
    timeouts: int = 0
    held_back: int = 0


class _Failed(Exception):
    """A call that gave no answer: a code of google.rpc.Code, and why."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


class Handler:
    """``deadline`` is seconds. ``fail_open``: what could not be decided goes on, unless a call says otherwise;
    ``lenient``: whatever a call says."""

    def __init__(self, name: str, adapter: Adapter, *, deadline: float, fail_open: bool, lenient: bool = False) -> None:
        self.name = name
        self.adapter = adapter
        self.tally = Tally()
        self._deadline = deadline
        self._fail_open = fail_open
        self._lenient = lenient
        self._breaker = Breaker()
        self._seldom = Seldom()

    @property
    def adapter_is_lookup(self) -> bool:
        """Whether the adapter finds the same for the same instance, as long as the rules hold."""
        return isinstance(self.adapter, AttributeAdapter) and self.adapter.is_lookup

    async def check(self, instance: Instance, *, fail_open: bool | None = None) -> CheckResult:
        """The adapter's verdict; where there is none, what the rules say for that. Such a verdict is not kept."""
        try:
            if not isinstance(self.adapter, CheckAdapter):
                raise _Failed(INTERNAL, "it does not decide")
            return _fit(await self._call(self.adapter.check(instance)))
        except _Failed as problem:
            return CheckResult(valid=0.0) if self._goes_on(fail_open) else CheckResult(problem.code, str(problem), 0.0)

    async def allot(self, instance: Instance, args: QuotaArgs, *, fail_open: bool | None = None) -> QuotaResult:
        """What the adapter grants; where it does not say, all or nothing, as the rules say for that."""
        try:
            if not isinstance(self.adapter, QuotaAdapter):
                raise _Failed(INTERNAL, "it does not count")
            return await self._call(self.adapter.allot(instance, args))
        except _Failed as problem:
            if self._goes_on(fail_open):
                return QuotaResult(args.amount, 0.0)
            return QuotaResult(0, 0.0, problem.code, str(problem))

    async def find(self, instance: Instance, *, fail_open: bool | None = None) -> dict[str, object] | CheckResult:
        """What the adapter finds out; where it fails, nothing, or the refusal of what needs it."""
        try:
            if not isinstance(self.adapter, AttributeAdapter):
                raise _Failed(INTERNAL, "it does not find attributes")
            return await self._call(self.adapter.find(instance))
        except _Failed as problem:
            return {} if self._goes_on(fail_open) else CheckResult(problem.code, f"{self.name}:{problem}", 0.0)

    def _goes_on(self, said: bool | None) -> bool:
        """Whether what could not be decided goes on."""
        return self._lenient or (self._fail_open if said is None else said)

    async def report(self, template: str, instances: Sequence[Instance]) -> bool:
        """Whether the adapter took note of them."""
        try:
            if not isinstance(self.adapter, ReportAdapter):
                raise _Failed(INTERNAL, "it takes no reports")
            await self._call(self.adapter.report(template, instances))
        except _Failed:
            return False
        return True

    async def close(self) -> None:
        """Let go of the adapter; it is given as long as for a call."""
        try:
            async with asyncio.timeout(self._deadline):
                await self.adapter.close()
        except Exception as problem:
            LOG.warning("handler %s: was not closed: %s", self.name, _words(problem))

    async def _call(self, work: Awaitable[_T]) -> _T:
        if not self._breaker.allows(time.monotonic()):
            self.tally.held_back += 1
            if asyncio.iscoroutine(work):
                work.close()
            raise _Failed(UNAVAILABLE, "it has failed too often, and is tried again soon")
        self.tally.calls += 1
        try:
            async with asyncio.timeout(self._deadline):
                result = await work
        except asyncio.CancelledError:
            raise
        except Exception as problem:
            raise self._failed(problem) from problem
        self._breaker.succeed()
        return result

    def _failed(self, problem: Exception) -> _Failed:
        """What the client is told. Words of the problem may name files, addresses and queries: the log has them."""
        self._breaker.fail(time.monotonic())
        self.tally.failures += 1
        if isinstance(problem, TimeoutError):
            self.tally.timeouts += 1
            failed, words = _Failed(DEADLINE_EXCEEDED, f"it did not answer within {self._deadline:g} s"), ""
        elif isinstance(problem, OSError | CounterError):
            failed, words = _Failed(UNAVAILABLE, "what it asks does not answer"), _words(problem)
        else:
            failed, words = _Failed(INTERNAL, "it failed"), _words(problem)
        if self._seldom.may(type(problem).__name__):
            LOG.warning("handler %s: %s", self.name, words or failed)
        return failed


def _fit(result: CheckResult) -> CheckResult:
    """The result of an adapter. Raises _Failed where it has an answer that HTTP does not know."""
    answer = result.answer
    if answer is None:
        return result
    if not 200 <= answer.status <= 599:
        raise _Failed(INTERNAL, f"its answer has the status {answer.status}, which is not from 200 to 599")
    for name, value in answer.headers.items():
        if not _HEADER.fullmatch(name) or not _VALUE.fullmatch(value):
            raise _Failed(INTERNAL, f"its answer has a header that cannot be sent: {name!r}")
    return result


def _words(problem: Exception) -> str:
    return f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__
