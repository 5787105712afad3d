"""What a real Envoy did with a call, in the words of a walk, and whether that is what the walk says.

Comes in: what a client got, and the lines that Envoy left in its log. Goes out: an ``Observed``, and the differences.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from lateen.control.playing.client import Exchange
from lateen.control.playing.credentials import PlayedCredentials
from lateen.control.playing.recorder import cluster_of
from lateen.envoy.chain_names import written_name
from lateen.envoy.played import Played
from lateen.explain.call import Call, Tls
from lateen.explain.verdict import Error, Verdict

Line = Mapping[str, object]

NOT_FOUND = frozenset({Error.NO_ROUTE, Error.NO_VIRTUAL_HOST})
TLS_PROBLEMS = frozenset({Error.TLS_ERROR, Error.MTLS_ERROR})
RBAC_DENIED = "rbac_access_denied"
PARTS = (
    ("listener", "listener"),
    ("filter chain", "filter_chain"),
    ("route table", "route_config"),
    ("virtual host", "virtual_host"),
    ("route", "route"),
)


class Observed(msgspec.Struct, frozen=True):
    """Where a call ended; fields as those of a ``Verdict``. ``detail`` is what Envoy says of it."""

    error: Error | None = None
    listener: str = ""
    filter_chain: str = ""
    route_config: str = ""
    virtual_host: str = ""
    route: str = ""
    cluster: str = ""
    status: int = 0
    detail: str = ""

    @property
    def named(self) -> dict[str, str]:
        """In the names of routing tests."""
        return {
            "error": self.error.value if self.error is not None else "",
            "listener": self.listener,
            "filterChain": self.filter_chain,
            "routeConfig": self.route_config,
            "virtualHost": self.virtual_host,
            "route": self.route,
            "cluster": self.cluster,
        }

    @property
    def end(self) -> str:
        """The end in a few words."""
        detail = f" ({self.detail})" if self.detail else ""
        if self.error is not None:
            return f"{self.error.value}{detail}"
        if self.cluster:
            return self.cluster
        return f"an answer of its own, {self.status}{detail}" if self.status else f"nowhere{detail}"


def observe(
    call: Call, got: Exchange, connection: Line, request: Line | None, made: Played, credentials: PlayedCredentials
) -> Observed:
    """Read the lines of a connection and of its request (None: none was understood)."""
    found = Observed(
        listener=_text(connection, "listener"),
        filter_chain=written_name(_text(connection, "chain")),
        cluster=cluster_of(got.received),
        detail=_first(connection, "tls", "details", "ended", "flags"),
    )
    if request is not None:
        found = _with_request(found, request)
    error = _error(call, got, connection, request, credentials)
    if error is None and not found.cluster and not found.status:
        error = Error.PROTOCOL_ERROR
        if request is None and (found.listener, found.filter_chain) in made.ends_tls and _text(connection, "tls"):
            error = Error.TLS_ERROR if call.tls is Tls.PLAINTEXT else Error.MTLS_ERROR
    if error is not None:
        return msgspec.structs.replace(found, error=error, cluster="")
    if found.cluster in made.absent:
        return msgspec.structs.replace(found, detail="the proxy has no such cluster and would answer 503")
    return msgspec.structs.replace(found, detail="") if found.cluster else found


def _with_request(found: Observed, request: Line) -> Observed:
    forwarded = _text(request, "details") == "via_upstream"
    return msgspec.structs.replace(
        found,
        route_config=_text(request, "table"),
        virtual_host=_text(request, "host"),
        route=_text(request, "route"),
        cluster=found.cluster or (_text(request, "cluster") if forwarded else ""),
        status=int(_text(request, "status") or 0),
        detail="" if forwarded else _first(request, "details", "flags"),
    )


def _error(
    call: Call, got: Exchange, connection: Line, request: Line | None, credentials: PlayedCredentials
) -> Error | None:
    if "filter_chain_not_found" in _text(connection, "details"):
        return Error.NO_FILTER_CHAIN
    if got.shown is not None:
        if call.tls is Tls.MTLS and not _text(connection, "peer"):
            return Error.MTLS_ERROR
        if call.certificate and credentials.name_of(got.shown) != call.certificate:
            return Error.MTLS_ERROR
    if _text(connection, "ended").startswith(RBAC_DENIED):
        return Error.ACCESS_DENIED
    if request is None:
        return None
    if "DownstreamProtocolError" in _text(request, "flags"):
        return Error.PROTOCOL_ERROR
    if _text(request, "details") == "route_not_found":
        return Error.NO_ROUTE
    if _text(request, "details").startswith(RBAC_DENIED):
        return Error.ACCESS_DENIED
    moved = _text(request, "status") == "301" and _text(request, "location").startswith("https:")
    return Error.TLS_REDIRECT if moved and not _text(request, "host") else None


def _text(line: Line, name: str) -> str:
    return str(line.get(name) or "")


def _first(line: Line, *names: str) -> str:
    return next((text for name in names if (text := _text(line, name))), "")


# --- against the walk ------------------------------------------------------------------------------------------------


def disagreements(walked: Verdict, observed: Observed) -> tuple[str, ...]:
    """How Envoy differs from the walk. What either does not say is not compared."""
    found = [
        f"{name}: the walk says {said}, Envoy {seen}"
        for name, field in PARTS
        if (said := getattr(walked, field)) and (seen := getattr(observed, field)) and said != seen
    ]
    if walked.error is not None or observed.error is not None:
        if not _alike(walked.error, observed.error):
            found.append(f"the walk says {_end(walked)}, Envoy {observed.end}")
        return tuple(found)
    if walked.virtual_host and observed.status and (walked.route or "") != observed.route:
        found.append(f"route: the walk says {walked.route or 'one without a name'}, Envoy {observed.route or 'none'}")
    if walked.status:
        if observed.cluster or observed.status != walked.status:
            found.append(f"the walk says {_end(walked)}, Envoy {observed.end}")
    elif observed.cluster not in {name for name, weight in walked.clusters if weight > 0}:
        found.append(f"cluster: the walk says {_end(walked)}, Envoy {observed.end}")
    return tuple(dict.fromkeys(found))


def _alike(walked: Error | None, observed: Error | None) -> bool:
    """Envoy does not say whether it was the host or the path that it did not find."""
    return walked is observed or {walked, observed} <= NOT_FOUND or {walked, observed} <= TLS_PROBLEMS


def _end(walked: Verdict) -> str:
    if walked.error is not None:
        return walked.error.value
    if walked.clusters:
        return " or ".join(name for name, weight in walked.clusters if weight > 0)
    return f"an answer of its own, {walked.status}"
