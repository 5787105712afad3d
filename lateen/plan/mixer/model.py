"""Mixer's part of a plan: whom a chain asks and tells, and what it decides without asking.

Comes in: rules, resolved for one proxy. Goes out: values that the translation turns into filters, and that
``lateen mixer explain`` reads.
"""

from __future__ import annotations

import msgspec

from lateen.plan.access.model import Condition
from lateen.values.names import Origin

MIXER_CLUSTER = "lateen-mixer"
"""The pool that leads to the mixer's socket."""

Attributes = tuple[tuple[str, str], ...]


class MixerCheck(msgspec.Struct, frozen=True, cache_hash=True):
    """The mixer can be asked about each request, unless its answer to one like it still holds.

    ``proxy`` and ``port`` tell the mixer which constant attributes hold here. ``timeout`` is seconds.
    ``fail_open``: what happens while it cannot be asked. ``retries``: how often a call that fails is made again, and
    between which times (seconds) it waits before. ``generation``: answers of another one are forgotten; empty:
    no rule concerns what arrives here, and nobody is asked. ``changed``: rules whose operations on headers the proxy
    does by itself, as NAME.NAMESPACE; ``counted``: quotas that it counts by itself, by their instances' full names.
    """

    proxy: str
    port: int
    timeout: float = 1.0
    fail_open: bool = False
    retries: int = 0
    waits: tuple[float, float] = (0.08, 1.0)
    generation: str = ""
    changed: tuple[str, ...] = ()
    counted: tuple[str, ...] = ()


class MixerReport(msgspec.Struct, frozen=True, cache_hash=True):
    """The mixer is told of each request that is over, with the headers that rules look at; or of each connection, once
    it has opened and once it is over."""

    proxy: str
    port: int
    request_headers: tuple[str, ...] = ()
    response_headers: tuple[str, ...] = ()


class MixerDenial(msgspec.Struct, frozen=True, cache_hash=True):
    """Requests for which the condition holds are refused by the proxy itself.

    ``reply`` stands for status and body: denials with the same ones share it. ``name`` begins with ``mixer-REPLY:``.
    """

    name: str
    reply: str
    status: int
    body: str
    condition: Condition
    origin: Origin
