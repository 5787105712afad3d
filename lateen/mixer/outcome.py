"""What a check comes to: the verdicts of several handlers as one, and as an HTTP answer. Pure.

Rules, as Mixer had them: the first code that is not OK counts, and what all handlers said against the request is
joined; the verdict holds for the shortest time and the fewest uses that any of them gave; operations on headers belong
to a request that goes on.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from lateen.mixer.adapter import DEFAULT_USES, DEFAULT_VALID, OK, CheckResult
from lateen.values.rpc_code import http_status, refusal_text


class HeaderOperation(msgspec.Struct, frozen=True):
    """``operation`` is ``replace``, ``append`` or ``remove``."""

    operation: str
    name: str
    value: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """The whole verdict. ``inputs``: what it depends on (``lateen.envoy.check_cache``); None: it cannot be kept.

    ``refused_by``: the rules that refuse, as ``name.namespace``.
    """

    code: int = OK
    message: str = ""
    valid: float = DEFAULT_VALID
    uses: int = DEFAULT_USES
    request: tuple[HeaderOperation, ...] = ()
    response: tuple[HeaderOperation, ...] = ()
    inputs: tuple[str, ...] | None = None
    refused_by: tuple[str, ...] = ()

    @property
    def status(self) -> int:
        """The HTTP status that a refused request is answered with."""
        return http_status(self.code)

    @property
    def body(self) -> str:
        """The text that it is answered with."""
        return refusal_text(self.code, self.message)


def combine(results: Iterable[tuple[str, CheckResult]]) -> CheckResult:
    """One verdict of those of several handlers, each with its handler's name, in the order of their rules."""
    code, messages, valid, uses = OK, [], DEFAULT_VALID, DEFAULT_USES
    some = False
    for name, result in results:
        valid = min(valid, result.valid) if some else result.valid
        uses = min(uses, result.uses) if some else result.uses
        some = True
        if result.code != OK:
            code = code or result.code
            messages.append(f"{name}:{result.message}")
    return CheckResult(code, ", ".join(messages), valid, uses)
