"""The attributes that Envoy's CEL expressions may name, and those in an expression that it does not have.

Comes in: an expression that ``find_syntax_error`` takes. Goes out: unknown names. Envoy accepts them, and fails at each
request: a value reads as unknown, and a filter lets nothing pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lateen.values.expression import tokens_of

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


def unknown_attributes(text: str) -> Iterator[str]:
    """Such as ``request.methd``. Only names below Envoy's own roots are judged."""
    tokens = tokens_of(text)
    for at, (kind, root) in enumerate(tokens[:-2]):
        first = at == 0 or tokens[at - 1][1] != "."
        if kind == "name" and first and root in _MEMBERS and tokens[at + 1][1] == "." and tokens[at + 2][0] == "name":
            member = tokens[at + 2][1]
            if member not in ATTRIBUTES[root]:
                yield f"{root}.{member}"
