"""What is the same about spans, whoever they are sent to: their ids, and which traces are sampled."""

from __future__ import annotations

import msgspec
import re2

from lateen.mixer.templates import TraceSpan, Value

_ID = re2.compile(r"[0-9a-f]{16}|[0-9a-f]{32}")
HALF = 1 << 63


class SpanIds(msgspec.Struct, frozen=True):
    """Hexadecimal, in lower case; ``parent`` is empty where there is none."""

    trace: str
    own: str
    parent: str = ""

    def is_sampled(self, below: int) -> bool:
        """Whether the trace is one of those that are sent: so all of a mesh decide alike."""
        return int(self.trace[-16:], 16) % HALF < below


def ids_of(instance: TraceSpan) -> SpanIds | None:
    """The ids of a span; None where they are none.

    ``rewrite_client_span_id``: both sides tell the same id, and the client's becomes another one that both can derive.
    """
    trace, own = _id(instance.trace_id), _id(instance.span_id)
    if trace is None or own is None:
        return None
    parent = _id(instance.parent_span_id) or ""
    if instance.rewrite_client_span_id:
        other = f"{int(own[-16:], 16) ^ HALF:016x}"
        own, parent = (other, parent) if instance.client_span else (own, other)
    return SpanIds(trace, own, parent)


def _id(given: str) -> str | None:
    found = given.lower()
    return found if _ID.fullmatch(found) else None


def common_tags(instance: TraceSpan) -> dict[str, Value]:
    """The sizes and the protocol of an API, as tags."""
    found: dict[str, Value] = {}
    for name in ("request_size", "request_total_size", "response_size", "response_total_size"):
        size = getattr(instance, name)
        if size:
            found[name.replace("_", ".", 1)] = size
    if instance.api_protocol:
        found["api.protocol"] = instance.api_protocol
    return found
