"""``zipkin``: spans as JSON of Zipkin's API, version 2.

Comes in: instances of ``tracespan``. Goes out: batches of spans, posted to ``url``. Whether a trace is sampled follows
from its id, so that all of a mesh decide alike.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from lateen.mixer.adapter import ReportAdapter
from lateen.mixer.adapters.outbox import Outbox
from lateen.mixer.adapters.spans import HALF, SpanIds, common_tags, ids_of
from lateen.mixer.adapters.texts import text
from lateen.mixer.templates import Instance, TraceSpan, Value

LONGEST_WAIT = 10_000
BATCH = 1 << 20
INTERVAL_S = 1.0
TRIES = 3
_SERVER_ERRORS = 500
Post = Callable[[str, bytes], Awaitable[bytes]]


class Zipkin(ReportAdapter):
    """``probability``: the share of traces that is sent. ``post`` posts JSON, or raises OSError."""

    templates = frozenset({"tracespan"})

    def __init__(
        self, url: str, post: Post, *, probability: float = 0.0, interval: float = INTERVAL_S, name: str = "zipkin"
    ) -> None:
        self._url = url
        self._post = post
        self._below = int(probability * HALF)
        self._out: Outbox[bytes] = Outbox(
            self._send, name=name, interval=interval, batch=BATCH, longest=LONGEST_WAIT, tries=TRIES
        )
        self.unreadable = 0

    @property
    def lost(self) -> int:  # type: ignore[override]
        """How many spans did not arrive, or had no ids that Zipkin can read."""
        return self._out.lost + self.unreadable

    async def report(self, template: str, instances: Sequence[Instance]) -> None:
        for instance in instances:
            if not isinstance(instance, TraceSpan):
                raise TypeError(f"zipkin takes no {type(instance).__name__}")
            if not instance.trace_id:
                continue
            ids = ids_of(instance)
            if ids is None or instance.start_time is None:
                self.unreadable += 1
            elif ids.is_sampled(self._below):
                encoded = msgspec.json.encode(_span(instance, ids))
                self._out.put(encoded, len(encoded) + 1)

    async def close(self) -> None:
        await self._out.close()

    async def _send(self, spans: Sequence[bytes]) -> None:
        await self._post(self._url, b"[" + b",".join(spans) + b"]")


def _span(instance: TraceSpan, ids: SpanIds) -> dict[str, Any]:
    assert instance.start_time is not None
    source = _endpoint(instance.source_name, instance.source_ip)
    destination = _endpoint(instance.destination_name, instance.destination_ip)
    here, there = (source, destination) if instance.client_span else (destination, source)
    span = {
        "traceId": ids.trace,
        "id": ids.own[-16:],
        "parentId": ids.parent[-16:],
        "kind": "CLIENT" if instance.client_span else "SERVER",
        "name": instance.span_name,
        "timestamp": _microseconds(instance.start_time),
        "duration": _duration(instance),
        "localEndpoint": here,
        "remoteEndpoint": there,
        "tags": _tags(instance),
    }
    return {name: value for name, value in span.items() if value}


def _microseconds(moment: datetime.datetime) -> int:
    return (moment - datetime.datetime.fromtimestamp(0, datetime.UTC)) // datetime.timedelta(microseconds=1)


def _duration(instance: TraceSpan) -> int | None:
    """At least 1, as Zipkin wants it; None where the end is not known."""
    if instance.start_time is None or instance.end_time is None:
        return None
    return max(1, (instance.end_time - instance.start_time) // datetime.timedelta(microseconds=1))


def _endpoint(name: str, address: Value) -> dict[str, str]:
    found = {"serviceName": name} if name else {}
    if isinstance(address, ipaddress.IPv4Address):
        found["ipv4"] = str(address)
    elif isinstance(address, ipaddress.IPv6Address):
        found["ipv6"] = str(address)
    return found


def _tags(instance: TraceSpan) -> dict[str, str]:
    tags = {name: text(value) for name, value in instance.span_tags.items() if value is not None}
    if instance.http_status_code:
        tags["http.status_code"] = str(instance.http_status_code)
    if instance.http_status_code >= _SERVER_ERRORS:
        tags.setdefault("error", "true")
    return {**{name: text(value) for name, value in common_tags(instance).items()}, **tags}
