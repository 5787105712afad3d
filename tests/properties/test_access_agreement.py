"""Who is let in: the rules as they were planned, a walk over Envoy's configuration, and the real Envoy agree."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from lateen.explain.call import Call, Mode, Protocol, Tls
from lateen.explain.simulate import Configuration, simulate
from lateen.explain.verdict import Error
from lateen.explain.why import action_of, judged
from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.gateways import entry, gateway, gateway_workload, serves, serves_mesh
from tests.envoy.harness import Application, free_port, unverified
from tests.envoy.tls_support import EdgeAuthority
from tests.envoy.token_support import Issuer
from tests.properties.access_cases import Asked, Cases
from tests.properties.length import is_long

pytestmark = pytest.mark.timeout(3600)
SEEDS = range(150 if is_long() else 10)
REQUESTS = 90 if is_long() else 60
MESH = """
kind: MeshConfig
trustDomainAliases: [old.example]
defaultConfig: {{gatewayTopology: {{numTrustedProxies: 1}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: all, namespace: edge}}
spec:
  hosts: ["*"]
  gateways: [edge]
  http: [{{directResponse: {{status: 200}}}}]
  tcp: [{{route: [{{destination: {{host: echo.example}}}}]}}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens, namespace: edge}}
spec: {{jwtRules: [{{issuer: https://a.example, audiences: [shop], jwks: '{jwks}', spaceDelimitedClaims: [group]}}]}}
"""


Key = tuple[int, str, str, str]


class Client:
    """Sends requests as they are written, over connections that are kept for each client."""

    def __init__(self, authority: EdgeAuthority, issuer: Issuer) -> None:
        self._authority, self._issuer = authority, issuer
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._open: dict[Key, socket.socket] = {}

    def status(self, asked: Asked) -> int:
        """The status of the answer."""
        lines = [f"{asked.method} {asked.path} HTTP/1.1", f"host: {asked.host}", "content-length: 0"]
        lines += [f"{name}: {value}" for name, value in asked.headers]
        if asked.claims is not None:
            lines.append(f"authorization: Bearer {self._issuer.token(**asked.claims)}")
        data = "\r\n".join([*lines, "", ""]).encode("latin-1")
        key = (asked.port, asked.identity, asked.source, asked.server_name)
        if asked.is_bytes:
            return self._passes(key)
        for _ in range(2):
            connection = self._open.pop(key, None) or self._connect(*key)
            with contextlib.suppress(OSError, http.client.RemoteDisconnected):
                connection.sendall(data)
                response = http.client.HTTPResponse(connection, method=asked.method)
                response.begin()
                response.read()
                if response.will_close:
                    connection.close()
                else:
                    self._open[key] = connection
                return response.status
            connection.close()
        raise AssertionError(f"no answer to {asked}")

    def _passes(self, key: Key) -> int:
        """As a status, whether bytes come to the server behind."""
        with contextlib.closing(self._connect(*key)) as connection, contextlib.suppress(OSError):
            connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            if connection.recv(4):
                return 200
        return 403

    def _connect(self, port: int, identity: str, source: str, server_name: str) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0))
        if not identity:
            return connection
        if identity not in self._contexts:
            self._contexts[identity] = unverified(self._authority.issue(identity))
        return self._contexts[identity].wrap_socket(connection, server_hostname=server_name or None)

    def close(self) -> None:
        for connection in self._open.values():
            connection.close()


@contextlib.contextmanager
def guarded(seed: int, app: int) -> Iterator[tuple[Running, Client, Cases]]:
    authority, issuer = EdgeAuthority(), Issuer("https://a.example")
    port, mutual, tcp, tls = (free_port() for _ in range(4))
    cases = Cases(seed, (port, mutual), (tcp, tls))
    servers = (serves(port), serves_mesh(mutual), serves(tcp, "TCP"), serves(tls, "TLS", tls="ISTIO_MUTUAL"))
    text = MESH.format(jwks=issuer.jwks) + entry("echo", app, "TCP", namespace="edge")
    text += gateway(*servers, namespace="edge")
    text += "".join(f"---\n{json.dumps(policy)}\n" for policy in cases.policies())
    with sidecar(text, workload=gateway_workload("edge"), authority=authority) as proxy:
        client = Client(authority, issuer)
        try:
            yield proxy, client, cases
        finally:
            client.close()


def call_of(asked: Asked) -> Call:
    return Call(
        port=asked.port,
        mode=Mode.GATEWAY,
        address="127.0.0.1",
        protocol=Protocol.TCP if asked.is_bytes else Protocol.HTTP,
        tls=Tls.MTLS if asked.identity else Tls.PLAINTEXT,
        host=asked.host,
        path=asked.path,
        method=asked.method,
        headers=asked.headers,
        alpn="",
        sni=asked.server_name,
        identity=asked.identity,
        source=asked.source,
        claims=asked.claims,
    )


@pytest.fixture(scope="module")
def app() -> Iterator[Application]:
    with Application("echo") as running:
        yield running


@pytest.mark.parametrize("seed", SEEDS)
def test_plan_walk_and_envoy_agree_on_who_is_let_in(seed: int, app: Application) -> None:
    wrong: list[Any] = []
    statuses = set()
    with guarded(seed, app.port) as (proxy, client, cases):
        configuration = Configuration(proxy.resources)
        for _ in range(REQUESTS):
            asked = cases.request()
            verdict = simulate(configuration, call_of(asked))
            walked = 403 if verdict.error is Error.ACCESS_DENIED else verdict.status or 200
            action = action_of(proxy.plan, verdict)
            judgement = judged(action, verdict) if action is not None else None
            met = client.status(asked)
            statuses.add(met)
            planned = walked if judgement is None else 200 if judgement.allowed else 403
            if not met == walked == planned:
                wrong.append((asked, {"envoy": met, "walk": walked, "plan": planned}, verdict.trail))
    assert not wrong, f"seed {seed}: {len(wrong)} of {REQUESTS}: {wrong[:3]}"
    assert statuses
