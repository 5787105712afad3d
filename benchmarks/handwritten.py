"""The yardstick: sidecars configured by hand with the least that does the work, to hold a mesh's own against.

No policy, no telemetry, no access log, no discovery: a listener, a route, a cluster; mutual TLS between two of them.
``sidecar_config`` gives a static Envoy configuration, ``paths`` runs the whole yardstick:

    python benchmarks/handwritten.py --rate 1000 --connections 4

measures an upstream directly, behind one sidecar, and behind two with mutual TLS between them, in turns.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from benchmarks.load import Load, Result, merge, run
from benchmarks.upstream import TYPE, cpu_seconds, direct_response_config, free_port, run_envoy

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
TLS_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"


LOGGED = {
    "start_time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "route_name": "%ROUTE_NAME%",
}


class Credentials(NamedTuple):
    """A workload's certificate and key and the authority's certificate, as PEM."""

    certificate: str
    key: str
    authority: str


def make_credentials(*names: str) -> list[Credentials]:
    """Credentials with SPIFFE ids of one new authority, valid for a day."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("authority", authority_key, "authority", authority_key, is_authority=True)
    made = []
    for name in names:
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        made.append(Credentials(_certificate(name, key, "authority", authority_key), private.decode(), authority))
    return made


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    is_authority: bool = False,
) -> str:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if not is_authority:
        uri = x509.UniformResourceIdentifier(f"spiffe://cluster.local/ns/default/sa/{name}")
        builder = builder.add_extension(x509.SubjectAlternativeName([uri]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _tls(credentials: Credentials, is_server: bool, http2: bool) -> dict[str, object]:
    """A transport socket for mutual TLS 1.3."""
    common = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "alpn_protocols": ["h2"] if http2 else ["http/1.1"],
        "tls_certificates": [
            {
                "certificate_chain": {"inline_string": credentials.certificate},
                "private_key": {"inline_string": credentials.key},
            }
        ],
        "validation_context": {"trusted_ca": {"inline_string": credentials.authority}},
    }
    kind = "DownstreamTlsContext" if is_server else "UpstreamTlsContext"
    own = {"require_client_certificate": True} if is_server else {"sni": "upstream"}
    context = {"@type": f"{TLS_TYPE}.{kind}", "common_tls_context": common, **own}
    return {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context}}


def sidecar_config(
    port: int,
    upstream_port: int,
    server: Credentials | None = None,
    client: Credentials | None = None,
    http2: bool = False,
    log: str = "",
) -> dict[str, object]:
    """A sidecar from ``port`` to ``upstream_port`` on loopback; TLS towards clients and upstream where given, and a
    log of requests where that is."""
    connection_manager = {
        "@type": f"{TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "sidecar",
        "generate_request_id": False,
        "access_log": [_access_log(log)] if log else [],
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPE}.http.router.v3.Router"}}
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "0s"}}],
                }
            ]
        },
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": connection_manager}]
    listener = {
        "name": "sidecar",
        "address": _address(port),
        "filter_chains": [{"filters": filters, **(_tls(server, True, http2) if server else {})}],
    }
    options = {
        "@type": f"type.googleapis.com/{HTTP_OPTIONS}",
        "explicit_http_config": {"http2_protocol_options": {}} if http2 and client else {"http_protocol_options": {}},
    }
    cluster = {
        "name": "upstream",
        "type": "STATIC",
        "typed_extension_protocol_options": {HTTP_OPTIONS: options},
        "load_assignment": {
            "cluster_name": "upstream",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(upstream_port)}}]}],
        },
        **(_tls(client, False, http2) if client else {}),
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _access_log(path: str) -> dict[str, object]:
    """What Istio's proxies write of a request, as JSON."""
    form = {"json_format": LOGGED}
    logger = {"@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": path}
    return {"name": "envoy.access_loggers.file", "typed_config": {**logger, "log_format": form}}


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


class Way(NamedTuple):
    """One way to the upstream: where to send, and the sidecars on it by process id."""

    url: str
    sidecars: tuple[int, ...]


@contextlib.contextmanager
def paths(size: int = 1024, http2: bool = False, log: str = "") -> Iterator[dict[str, Way]]:
    """The yardstick, running until the block ends: ``direct``, ``one sidecar`` and ``two sidecars``; and
    ``two that log``, where ``log`` says where to."""
    upstream, single = free_port(), free_port()
    client, server = make_credentials("client", "server")
    with contextlib.ExitStack() as stack:

        def start(config: Mapping[str, object], port: int) -> int:
            return stack.enter_context(run_envoy(config, port))

        start(direct_response_config(upstream, size), upstream)
        one = start(sidecar_config(single, upstream), single)

        def pair(log: str) -> Way:
            outbound, inbound = free_port(), free_port()
            into = start(sidecar_config(inbound, upstream, server=server, http2=http2, log=log), inbound)
            out = start(sidecar_config(outbound, inbound, client=client, http2=http2, log=log), outbound)
            return Way(f"http://127.0.0.1:{outbound}/", (out, into))

        yield {
            "direct": Way(f"http://127.0.0.1:{upstream}/", ()),
            "one sidecar": Way(f"http://127.0.0.1:{single}/", (one,)),
            "two sidecars": pair(""),
            **({"two that log": pair(log)} if log else {}),
        }


class Measured(NamedTuple):
    """What a path did over all rounds, and the processor time of its sidecars, in microseconds a request."""

    result: Result
    cpu_us: float

    def summary(self) -> dict[str, object]:
        return {**self.result.summary(), "sidecars_cpu_us_per_request": round(self.cpu_us, 1)}


def measure(ways: Mapping[str, Way], load: Load, rounds: int) -> dict[str, Measured]:
    """Load each way in turn, ``rounds`` times over, so that a slow spell of the machine meets them all alike."""
    parts: dict[str, list[Result]] = {name: [] for name in ways}
    used = dict.fromkeys(ways, 0.0)
    for _ in range(rounds):
        for name, way in ways.items():
            before = sum(cpu_seconds(pid) for pid in way.sidecars)
            parts[name].append(run(load._replace(url=way.url)))
            used[name] += sum(cpu_seconds(pid) for pid in way.sidecars) - before
    merged = {name: merge(results) for name, results in parts.items()}
    return {name: Measured(one, used[name] / max(1, one.answered) * 1e6) for name, one in merged.items()}


def main() -> int:
    """The command line: the yardstick alone."""
    parser = argparse.ArgumentParser(description="Latency of hand-written sidecars.")
    parser.add_argument("--rate", type=float, default=1000.0, help="requests a second; 0: closed loop (1000)")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each round (5)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=1024, help="bytes of a response (1024)")
    parser.add_argument("--http2", action="store_true", help="HTTP/2 between the two sidecars")
    options = parser.parse_args()
    load = Load("", rate=options.rate, duration=options.seconds, connections=options.connections, warmup=0.5)
    with paths(options.size, options.http2) as ways:
        results = measure(ways, load, options.rounds)
    json.dump({name: measured.summary() for name, measured in results.items()}, sys.stdout, indent=2)
    print()
    return 1 if any(measured.result.errors for measured in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
