"""What all kinds of resources share: the struct base and the types of their scalar fields."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec


class Duration(float):
    """A length of time in seconds, written ``10s``, ``0.5s``, ``100ms``, ``1m`` or ``1h30m``."""

    __slots__ = ()


class Spec(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """Base of every struct that is read from a resource."""


Uint32 = Annotated[int, msgspec.Meta(ge=0, le=4294967295)]
Int32 = Annotated[int, msgspec.Meta(ge=-2147483648, le=2147483647)]
Uint64 = Annotated[int, msgspec.Meta(ge=0)]


NUMBERED = "numbered"
"""In what is said of a type of names: which name each number stands for, as protobuf's JSON takes both."""


def numbered(*names: str, first: int = 0) -> Any:
    """What is said of a type whose names may be written as numbers, which count from ``first``."""
    return msgspec.Meta(extra={NUMBERED: dict(enumerate(names, first))})


class WorkloadSelector(Spec, frozen=True):
    """``selector: {matchLabels}`` of security resources and DestinationRule."""

    match_labels: dict[str, str] = {}


class LabelSelector(Spec, frozen=True):
    """``workloadSelector: {labels}`` of Sidecar, EnvoyFilter and ServiceEntry."""

    labels: dict[str, str] = {}


class PolicyTargetReference(Spec, frozen=True):
    group: str = ""
    kind: str = ""
    name: str = ""
    namespace: str = ""


class StringMatch(Spec, frozen=True):
    """At most one of the three; none of them asks that the value is there."""

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None


class Percent(Spec, frozen=True):
    value: float | None = None
