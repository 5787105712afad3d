"""The interface of adapters: what one is given, and what it may answer. Adapters of your own use it too.

An adapter is made once for each handler, with the handler's parameters. It takes instances of the templates that it
names, as the structs of ``lateen.mixer.templates``. What it raises counts as its failure; it is given no more time than
its deadline, and while it fails again and again it is not called for a while.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import ClassVar

import msgspec

from lateen.mixer.templates import Instance
from lateen.values.rpc_code import (
    ABORTED as ABORTED,
    ALREADY_EXISTS as ALREADY_EXISTS,
    CANCELLED as CANCELLED,
    DATA_LOSS as DATA_LOSS,
    DEADLINE_EXCEEDED as DEADLINE_EXCEEDED,
    FAILED_PRECONDITION as FAILED_PRECONDITION,
    INTERNAL as INTERNAL,
    INVALID_ARGUMENT as INVALID_ARGUMENT,
    NOT_FOUND as NOT_FOUND,
    OK as OK,
    OUT_OF_RANGE as OUT_OF_RANGE,
    PERMISSION_DENIED as PERMISSION_DENIED,
    RESOURCE_EXHAUSTED as RESOURCE_EXHAUSTED,
    UNAUTHENTICATED as UNAUTHENTICATED,
    UNAVAILABLE as UNAVAILABLE,
    UNIMPLEMENTED as UNIMPLEMENTED,
    UNKNOWN as UNKNOWN,
)

DEFAULT_VALID = 60.0
DEFAULT_USES = 10_000


class DirectAnswer(msgspec.Struct, frozen=True):
    """What a client is answered by the proxy itself: an HTTP status from 200 to 599, headers and body."""

    status: int
    body: str = ""
    headers: dict[str, str] = {}


class CheckResult(msgspec.Struct, frozen=True):
    """An adapter's verdict: a code of google.rpc.Code (0: go on), and for how long (seconds) and often it holds.

    ``answer``: what the client is answered, in place of Mixer's own words, or of going on.
    """

    code: int = OK
    message: str = ""
    valid: float = DEFAULT_VALID
    uses: int = DEFAULT_USES
    answer: DirectAnswer | None = None


class QuotaArgs(msgspec.Struct, frozen=True):
    """How much of a quota is asked for. ``best_effort``: less than all is welcome. ``deduplication_id``: asked once."""

    amount: int = 1
    best_effort: bool = False
    deduplication_id: str = ""


class QuotaResult(msgspec.Struct, frozen=True):
    """How much was granted, and for how long (seconds)."""

    granted: int
    valid: float = DEFAULT_VALID
    code: int = OK
    message: str = ""


class NoParams(msgspec.Struct, frozen=True):
    """Of an adapter that takes none."""


class Adapter(abc.ABC):  # noqa: B024 - its kinds have what is abstract
    """One handler at work. ``templates`` names those whose instances it takes.

    An adapter of your own is made with its ``Params``, if it has any, and runs in a process of its own. ``blocking``:
    its methods are ordinary functions that may wait, and are called in threads; otherwise they are coroutines.
    """

    templates: ClassVar[frozenset[str]] = frozenset()
    blocking: ClassVar[bool] = False
    Params: ClassVar[type[msgspec.Struct]] = NoParams

    async def close(self) -> None:
        """The handler is gone or replaced: write what is left, let go of connections."""
        return


class CheckAdapter(Adapter):
    """Decides."""

    @abc.abstractmethod
    async def check(self, instance: Instance) -> CheckResult:
        """The verdict on one request or connection."""


class QuotaAdapter(Adapter):
    """Counts."""

    @abc.abstractmethod
    async def allot(self, instance: Instance, args: QuotaArgs) -> QuotaResult:
        """Take an amount off what is left."""


class ReportAdapter(Adapter):
    """Takes note. ``lost`` counts what it was given and could not pass on."""

    lost: int = 0

    @abc.abstractmethod
    async def report(self, template: str, instances: Sequence[Instance]) -> None:
        """Instances of one template, in the order in which they came. Called off the way of requests."""


class AttributeAdapter(Adapter):
    """Finds out more about a request. ``is_lookup``: the same for the same instance, as long as the rules hold."""

    is_lookup: ClassVar[bool] = False

    @abc.abstractmethod
    async def find(self, instance: Instance) -> dict[str, object]:
        """Output fields by name, to which ``attributeBindings`` refer as ``$out.NAME``; absent ones are left out."""
