"""What a check comes to: the verdicts of several handlers as one, and as an HTTP answer. Pure.

Rules, as Mixer had them: the first code that is not OK counts, and what all handlers said against the request is
joined; the verdict holds for the shortest time and the fewest uses that any of them gave; operations on headers belong
to a request that goes on.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from lateen.mixer import adapter
from lateen.mixer.adapter import DEFAULT_USES, DEFAULT_VALID, OK, CheckResult

NAMES = {
    number: name
    for name, number in vars(adapter).items()
    if name.isupper() and isinstance(number, int) and not name.startswith("DEFAULT")
}
"""The names of the codes of google.rpc.Code."""

HTTP_STATUS = {
    adapter.CANCELLED: 499,
    adapter.UNKNOWN: 500,
    adapter.INVALID_ARGUMENT: 400,
    adapter.DEADLINE_EXCEEDED: 504,
    adapter.NOT_FOUND: 404,
    adapter.ALREADY_EXISTS: 409,
    adapter.PERMISSION_DENIED: 403,
    adapter.RESOURCE_EXHAUSTED: 429,
    adapter.FAILED_PRECONDITION: 400,
    adapter.ABORTED: 409,
    adapter.OUT_OF_RANGE: 400,
    adapter.UNIMPLEMENTED: 501,
    adapter.INTERNAL: 500,
    adapter.UNAVAILABLE: 503,
    adapter.DATA_LOSS: 500,
    adapter.UNAUTHENTICATED: 401,
}


class HeaderOperation(msgspec.Struct, frozen=True):
    """``operation`` is ``replace``, ``append`` or ``remove``."""

    operation: str
    name: str
    value: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """The whole verdict. ``inputs``: what it depends on (``lateen.envoy.check_cache``); None: it cannot be kept."""

    code: int = OK
    message: str = ""
    valid: float = DEFAULT_VALID
    uses: int = DEFAULT_USES
    request: tuple[HeaderOperation, ...] = ()
    response: tuple[HeaderOperation, ...] = ()
    inputs: tuple[str, ...] | None = None

    @property
    def status(self) -> int:
        """The HTTP status that a refused request is answered with."""
        return HTTP_STATUS.get(self.code, 500)

    @property
    def body(self) -> str:
        """The text that it is answered with."""
        return f"{NAMES.get(self.code, str(self.code))}:{self.message}"


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
