"""What a check comes to: the verdicts of several handlers as one, and as an HTTP answer. Pure.

Rules, as Mixer had them: the first code that is not OK counts, and what all handlers said against the request is
joined; of the answers that they give themselves the first counts; the verdict holds for the shortest time and the
fewest uses that any of them gave; operations on headers belong to a request that goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from lateen.mixer.adapter import DEFAULT_USES, DEFAULT_VALID, OK, CheckResult, DirectAnswer
from lateen.values.rpc_code import http_status, refusal_text


class HeaderOperation(msgspec.Struct, frozen=True):
    """``operation`` is ``replace``, ``append`` or ``remove``."""

    operation: str
    name: str
    value: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """The whole verdict. ``inputs``: what it depends on (``lateen.envoy.check_cache``); None: it cannot be kept.

    ``refused_by``: the rules that refuse, as ``name.namespace``. ``answer``: what the client is answered instead.
    """

    code: int = OK
    message: str = ""
    valid: float = DEFAULT_VALID
    uses: int = DEFAULT_USES
    request: tuple[HeaderOperation, ...] = ()
    response: tuple[HeaderOperation, ...] = ()
    inputs: tuple[str, ...] | None = None
    refused_by: tuple[str, ...] = ()
    answer: DirectAnswer | None = None

    @property
    def goes_on(self) -> bool:
        """Whether the request goes on to whom it is for."""
        return self.code == OK and self.answer is None

    @property
    def status(self) -> int:
        """The HTTP status that a request is answered with that does not go on."""
        return http_status(self.code) if self.answer is None else self.answer.status

    @property
    def body(self) -> str:
        """The text that it is answered with."""
        return refusal_text(self.code, self.message) if self.answer is None else self.answer.body

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of that answer."""
        own = {} if self.answer is None else {name.lower(): value for name, value in self.answer.headers.items()}
        return {"content-type": "text/plain", **own}


def combine(results: Iterable[tuple[str, CheckResult]]) -> CheckResult:
    """One verdict of those of several handlers, each with its handler's name, in the order of their rules."""
    code, messages, valid, uses = OK, [], DEFAULT_VALID, DEFAULT_USES
    answers: dict[bool, DirectAnswer] = {}
    some = False
    for name, result in results:
        if result.answer is not None:
            answers.setdefault(result.code == OK, result.answer)
        valid = min(valid, result.valid) if some else result.valid
        uses = min(uses, result.uses) if some else result.uses
        some = True
        if result.code != OK:
            code = code or result.code
            messages.append(f"{name}:{result.message}")
    return CheckResult(code, ", ".join(messages), valid, uses, answers.get(code == OK))
