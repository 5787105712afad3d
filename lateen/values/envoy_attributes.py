"""The attributes that Envoy's CEL expressions may name, and those in an expression that it does not have.

Comes in: an expression that ``find_syntax_error`` takes. Goes out: unknown names. Envoy accepts them, and fails at each
request: a value reads as unknown, and a filter lets nothing pass.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

from lateen.values.expression import CONSTANTS, FUNCTIONS, tokens_of

_TLS = """
    tls_version subject_local_certificate subject_peer_certificate dns_san_local_certificate dns_san_peer_certificate
    uri_san_local_certificate uri_san_peer_certificate sha256_peer_certificate_digest transport_failure_reason
"""
_MEMBERS: Mapping[str, str] = {
    "request": """
        path url_path host scheme method headers referer useragent time id protocol query duration size total_size
    """,
    "response": "code code_details flags grpc_status headers trailers size total_size backend_latency",
    "source": "address port",
    "destination": "address port",
    "connection": f"id mtls requested_server_name termination_details {_TLS}",
    "upstream": f"address port local_address request_attempt_count cx_pool_ready_duration locality {_TLS}",
    "xds": """
        node cluster_name cluster_metadata listener_direction listener_metadata route_name route_metadata
        upstream_host_metadata upstream_host_locality_metadata filter_chain_name virtual_host_name virtual_host_metadata
    """,
}
ATTRIBUTES: Mapping[str, frozenset[str]] = {root: frozenset(names.split()) for root, names in _MEMBERS.items()}
"""By root, what may stand after its dot."""
_STATES = ("filter_state", "upstream_filter_state")
_ROOTS = frozenset({*_MEMBERS, *_STATES, "metadata"})
_NO_ATTRIBUTES = CONSTANTS | FUNCTIONS.keys() | {"in", "string", "list", "map", "null_type"}
"""Names that stand alone and mean something else: types, for one."""
_PEERS = ("upstream_peer", "downstream_peer", "wasm.upstream_peer", "wasm.downstream_peer")
"""What Istio's own filters keep of the other side."""


def unknown_attributes(text: str) -> Iterator[str]:
    """Such as ``request.methd``, or ``downstream_peer``, which Istio's own filters have."""
    tokens = tokens_of(text)
    for at, (kind, root) in enumerate(tokens[:-1]):
        if kind != "name" or root in _NO_ATTRIBUTES or tokens[at + 1][1] == "(":
            continue
        if at and tokens[at - 1][1] == ".":
            continue
        member = _member(tokens[at + 1 : at + 3])
        if root not in _ROOTS:
            yield root
        elif member and (member in _PEERS if root in _STATES else member not in ATTRIBUTES.get(root, {member})):
            yield f"{root}.{member}"


def _member(tokens: list[tuple[str, str]]) -> str:
    """What stands after a root, as ``.name`` or, of states, ``["name"]``."""
    (_, sign), (kind, text) = tokens if len(tokens) == 2 else (("", ""), ("", ""))
    if sign == ".":
        return text if kind == "name" else ""
    return text[1:-1] if sign == "[" and text[1:-1] in _PEERS else ""


def in_place_of(name: str) -> str:
    """What to write in place of an attribute that Envoy does not have."""
    root, _, member = name.rpartition(".")
    if root in _STATES or name in _PEERS:
        return "take the labels that each metric has of both sides, such as source_workload and destination_app"
    if name in ATTRIBUTES["xds"]:
        return f"write xds.{name}"
    before = f"{root}." if root else ""
    known = sorted(ATTRIBUTES.get(root, _ROOTS))
    near = difflib.get_close_matches(member, known, 1)
    return f"did you mean {before}{near[0]}?" if near else f"there are {', '.join(before + one for one in known)}"
