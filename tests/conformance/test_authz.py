"""AuthorizationPolicies against filters from outside the project: the same verdicts in the real Envoy.

For each case our rules and the expected ones stand beside each other in one Envoy, whole and term by term (the whole of
a case may be impossible to meet), each in a route of its own that a header chooses. Rules that only leave a note (dry
runs, and what finds out whether an authorizer is asked) are enforced here, so that their verdict shows. Requests are
made up from the texts of the case. Addresses other than the peers' come by PROXY protocol.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import socket
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from envoy.config.rbac.v3 import rbac_pb2
from google.protobuf import json_format

from tests.conformance.authz_filters import Filter, alone, expected, our_filters, ours, policies
from tests.conformance.authz_requests import Requests
from tests.envoy.harness import free_port, run_file, unverified
from tests.envoy.tls_support import EdgeAuthority
from tests.envoy.token_support import Issuer

CASES = Path(__file__).parents[3] / "shared" / "conformance" / "authz"
REQUESTS = 40

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the conformance cases are not beside this repository")


def cases() -> list[Any]:
    if not CASES.is_dir():
        return []
    found = yaml.safe_load((CASES / "cases.yaml").read_text())["cases"]
    return [pytest.param({**case, "folder": CASES / case["dir"]}, id=case["name"]) for case in found]


# --- the Envoy -------------------------------------------------------------------------------------------------------


def rules_of(rules: bytes) -> dict[str, Any]:
    return json_format.MessageToDict(rbac_pb2.RBAC.FromString(rules))


def route(name: str, rules: bytes) -> dict[str, Any]:
    config = {"rules": rules_of(rules)}
    own = {"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute", "rbac": config}
    return {
        "match": {"prefix": "/", "headers": [{"name": "x-term", "string_match": {"exact": name}}]},
        "direct_response": {"status": 200},
        "typed_per_filter_config": {"rbac": own},
    }


def _typed(kind: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/envoy.{kind}", **fields}


def _filter(name: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": _typed(kind, **fields)}


def http_chain(routes: list[dict[str, Any]], issuer: Issuer) -> dict[str, Any]:
    provider = {
        "local_jwks": {"inline_string": issuer.jwks},
        "payload_in_metadata": "payload",
        "normalize_payload_in_metadata": {"space_delimited_claims": ["scope"]},
    }
    either = {"requirements": [{"provider_name": "any"}, {"allow_missing": {}}]}
    tokens = {
        "providers": {"any": provider},
        "rules": [{"match": {"prefix": "/"}, "requires": {"requires_any": either}}],
    }
    return _filter(
        "envoy.filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="cases",
        use_remote_address=True,
        normalize_path=True,
        merge_slashes=True,
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        http_filters=[
            _filter("envoy.filters.http.jwt_authn", "extensions.filters.http.jwt_authn.v3.JwtAuthentication", **tokens),
            _filter("rbac", "extensions.filters.http.rbac.v3.RBAC"),
            _filter("router", "extensions.filters.http.router.v3.Router"),
        ],
    )


def byte_chain(rules: bytes) -> list[dict[str, Any]]:
    guard = {"rules": rules_of(rules), "stat_prefix": "cases"}
    return [
        _filter("rbac", "extensions.filters.network.rbac.v3.RBAC", **guard),
        _filter("echo", "extensions.filters.network.echo.v3.Echo"),
    ]


def listener(port: int, filters: list[dict[str, Any]], authority: EdgeAuthority) -> dict[str, Any]:
    pem = authority.issue("server.example")
    tls = {
        "common_tls_context": {
            "tls_certificates": [
                {
                    "certificate_chain": {"inline_string": pem.certificate.decode()},
                    "private_key": {"inline_string": pem.key.decode()},
                }
            ],
            "validation_context": {"trusted_ca": {"inline_string": pem.roots.decode()}},
        }
    }
    socket_ = {"name": "tls", "typed_config": _typed("extensions.transport_sockets.tls.v3.DownstreamTlsContext", **tls)}
    inspectors = (
        ("proxy", "extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"),
        ("tls", "extensions.filters.listener.tls_inspector.v3.TlsInspector"),
    )
    return {
        "name": str(port),
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "listener_filters": [_filter(name, kind) for name, kind in inspectors],
        "filter_chains": [
            {"filter_chain_match": {"transport_protocol": "tls"}, "transport_socket": socket_, "filters": filters},
            {"filter_chain_match": {"transport_protocol": "raw_buffer"}, "filters": filters},
        ],
    }


class Client:
    """Makes a request with each of the terms, on one connection."""

    def __init__(self, authority: EdgeAuthority, issuer: Issuer) -> None:
        self._authority, self._issuer = authority, issuer
        self._contexts: dict[str, ssl.SSLContext] = {}

    def _connected(self, port: int, request: dict[str, Any]) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(request["source"], 0))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = f"PROXY TCP4 {request['remote']} {request['address']} 1 {request['port']}\r\n"
        connection.sendall(head.encode())
        if not request["identity"]:
            return connection
        identity = request["identity"]
        if identity not in self._contexts:
            self._contexts[identity] = unverified(self._authority.issue(identity))
        return self._contexts[identity].wrap_socket(connection, server_hostname=request["server_name"])

    def verdicts(self, port: int, request: dict[str, Any], terms: list[str]) -> list[int]:
        """The status for each term."""
        headers = dict(request["headers"])
        if request["claims"] is not None:
            headers["authorization"] = f"Bearer {self._issuer.token(**request['claims'])}"
        found = []
        with contextlib.closing(self._connected(port, request)) as connection:
            for term in terms:
                lines = [f"{request['method']} {request['path']} HTTP/1.1", f"x-term: {term}", "content-length: 0"]
                lines += [f"{name}: {value}" for name, value in headers.items()]
                connection.sendall("\r\n".join([*lines, "", ""]).encode())
                response = http.client.HTTPResponse(connection, method=request["method"])
                response.begin()
                response.read()
                found.append(response.status)
                if response.will_close:
                    return [response.status] * len(terms)
        return found

    def passes(self, port: int, request: dict[str, Any]) -> int:
        """As a status, whether bytes come through."""
        with contextlib.closing(self._connected(port, request)) as connection, contextlib.suppress(OSError):
            connection.sendall(b"neither HTTP nor TLS")
            if connection.recv(1):
                return 200
        return 403


@contextlib.contextmanager
def running(listeners: list[dict[str, Any]]) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="lt-") as name:
        folder = Path(name)
        admin = {"address": {"pipe": {"path": str(folder / "admin.sock")}}}
        (folder / "envoy.json").write_text(json.dumps({"admin": admin, "static_resources": {"listeners": listeners}}))
        with run_file(folder):
            yield


# --- the comparison --------------------------------------------------------------------------------------------------

Term = tuple[str, bytes]
"""The name of a policy, or where a filter stands, and rules: those that are the same on both sides are tried once."""


def terms(filters: list[Filter]) -> list[Term]:
    """All rules of the filters, whole and term by term."""
    return [
        (name, rules.SerializeToString(deterministic=True))
        for place, found in enumerate(filters)
        for whole in found.rules
        for name, rules in ((f"whole {place}", whole), *alone(whole))
    ]


@pytest.mark.parametrize("case", cases())
def test_our_rules_and_the_expected_ones_give_the_same_verdicts(case: dict[str, Any]) -> None:
    texts = policies(case)
    own, wanted = our_filters(case, ours(case, texts)), expected(case)
    assert [found.shape for found in own] == [found.shape for found in wanted]
    sides = [terms(own), terms(wanted)]
    distinct = sorted({rules for side in sides for _, rules in side})
    requests = Requests(texts)
    made = [requests.next() for _ in range(REQUESTS)]
    series = dict(zip(distinct, (over_http if case["protocol"] == "http" else over_bytes)(made, distinct), strict=True))
    first, second = ({(name, series[rules]) for name, rules in side} for side in sides)
    assert first == second


def over_http(made: list[dict[str, Any]], distinct: list[bytes]) -> list[tuple[int, ...]]:
    """The verdicts of each set of rules on all requests."""
    issuer, authority, port = Issuer("any"), EdgeAuthority(), free_port()
    routes = [route(str(index), rules) for index, rules in enumerate(distinct)]
    client = Client(authority, issuer)
    names = list(map(str, range(len(distinct))))
    chain = [http_chain(routes, issuer)]
    with running([listener(port, chain, authority)]), concurrent.futures.ThreadPoolExecutor(2) as pool:
        rows = list(pool.map(lambda request: client.verdicts(port, request, names), made))
    return list(zip(*rows, strict=True)) if distinct else []


def over_bytes(made: list[dict[str, Any]], distinct: list[bytes]) -> list[tuple[int, ...]]:
    """The same for connections of plain bytes, each set of rules at a port of its own."""
    authority = EdgeAuthority()
    ports: set[int] = set()
    while len(ports) < len(distinct):
        ports.add(free_port())
    placed = dict(zip(ports, distinct, strict=True))
    client = Client(authority, Issuer("any"))
    with running([listener(port, byte_chain(rules), authority) for port, rules in placed.items()]):
        found = {rules: tuple(client.passes(port, request) for request in made) for port, rules in placed.items()}
    return [found[rules] for rules in distinct]
