"""Which parts of a request an answer depends on, in the words of the cache that proxies have for answers.

Comes in: the attributes that were looked at. Goes out: inputs as ``lateen.envoy.check_cache`` names them; None where
one of the attributes cannot be read there, so that the answer must not be kept. What is constant for a proxy needs no
input: its answers are kept apart from those of others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lateen.expressions.evaluate import PRESENCE
from lateen.expressions.vocabulary import OF_HEADERS
from lateen.values.network import is_read_header

CLAIM_ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "request.auth.principal": ("iss", "sub"),
    "request.auth.audiences": ("aud",),
    "request.auth.presenter": ("azp",),
}
_SOURCE = (
    "name uid namespace owner serviceAccount labels metadata services workload.uid workload.name workload.namespace"
)
IDENTITY_ATTRIBUTES = frozenset(
    {"source.principal", "source.user", "connection.mtls", *(f"source.{name}" for name in _SOURCE.split())}
)
"""What follows from the client's certificate: its identity, and the names in its subject."""
CONSTANT_PREFIXES = ("destination.", "context.reporter.")
BY_API = frozenset({"api.service", "api.version", "api.operation", "api.protocol", "request.api_key"})
"""What is made of other parts of a request, which are looked at themselves."""


def inputs_of(seen: Iterable[tuple[str, str | None]]) -> tuple[str, ...] | None:
    """The inputs, in order, each once."""
    found: set[str] = set()
    for name, key in seen:
        inputs = _inputs(name, key)
        if inputs is None:
            return None
        found.update(inputs)
    return tuple(sorted(found))


def _inputs(name: str, key: str | None) -> tuple[str, ...] | None:
    if name == "request.headers":
        return None if key is None else _of_header(key.lower())
    if name in OF_HEADERS:
        return (f"header:{OF_HEADERS[name]}",)
    if name == "request.auth.claims":
        if key is None or not key.isprintable():
            return None
        return (f"claim:{key}", "claim:iss") if key == PRESENCE else (f"claim:{key}",)
    if name in CLAIM_ATTRIBUTES:
        return tuple(f"claim:{claim}" for claim in CLAIM_ATTRIBUTES[name])
    if name in IDENTITY_ATTRIBUTES:
        return ("names", "principal")
    if name == "source.ip":
        return ("address",)
    if name == "origin.ip":
        return ("origin",)
    if name == "connection.requested_server_name":
        return ("server_name",)
    return () if name.startswith(CONSTANT_PREFIXES) or name in BY_API else None


def _of_header(name: str) -> tuple[str, ...]:
    """No request has a header whose name is none, so that nothing depends on it."""
    return (f"header:{name}",) if is_read_header(name) else ()
