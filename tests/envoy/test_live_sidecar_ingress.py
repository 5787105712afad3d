"""A Sidecar's ingress on the real Envoy: clients from outside with certificates, and the way to the application."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Iterator
from typing import NamedTuple

import grpc
import pytest

from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.grpc_support import GrpcServer, said
from tests.envoy.harness import Application, Pem, eventually
from tests.envoy.mute_servers import full_socket
from tests.envoy.test_live_inbound import PEER, Server, app_address, ask_http, connect, server
from tests.envoy.tls_support import EdgeAuthority, context_for, secret

TLS = "Sidecar ingress[].tls"
NAME = "outside.example"


class Site(NamedTuple):
    proxy: Running
    authority: EdgeAuthority
    client: Pem
    revoked: Pem

    def ask(self, port: int, client: Pem | None) -> bytes:
        """What the application answers to a client with this certificate; empty where the client is refused."""
        context = context_for(self.authority.roots, client)
        try:
            return ask_http(context.wrap_socket(connect(self.proxy, port), server_hostname=NAME))
        except (OSError, http.client.HTTPException, ssl.SSLError):
            return b""


def listener(number: int, tls: str) -> str:
    return f"""
  - port: {{number: {number}, protocol: HTTPS, name: p{number}}}
    defaultEndpoint: 127.0.0.1:18082
    tls: {{{tls}}}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, authority = tmp_path_factory.mktemp("lt-i"), EdgeAuthority()
    own, client, revoked = (authority.issue(name) for name in (NAME, "client.example", "gone.example"))
    for name, data in (
        ("c", own.certificate), ("k", own.key), ("r", own.roots), ("crl", authority.revoke(revoked.certificate)),
    ):  # fmt: skip
        (folder / name).write_bytes(data)
    files = f"serverCertificate: {folder}/c, privateKey: {folder}/k"
    text = PEER.format(mode="DISABLE") + (
        "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: own}\nspec:\n  ingress:"
    )
    text += listener(18443, f"mode: MUTUAL, {files}, caCertificates: {folder}/r, caCrl: {folder}/crl")
    text += listener(18444, f"mode: OPTIONAL_MUTUAL, {files}, caCertCredentialName: clients")
    text += listener(18445, f"mode: SIMPLE, {files}, minProtocolVersion: TLSV1_3")
    text += "\n" + secret("clients", ca_crt=own.roots)
    with sidecar(text, workload=server("HTTP"), authority=authority) as proxy, Server(app_address(proxy), 18082):
        yield Site(proxy, authority, client, revoked)


@pytest.mark.covers(f"{TLS}.mode", f"{TLS}.caCertificates", f"{TLS}.caCrl")
def test_mutual_lets_in_known_clients_alone(site: Site) -> None:
    assert site.ask(18443, site.client) == b"http:id"
    for client in (None, EdgeAuthority().issue("client.example"), site.revoked):
        assert site.ask(18443, client) == b""


@pytest.mark.covers(f"{TLS}.mode", f"{TLS}.caCertCredentialName")
def test_optional_mutual_looks_at_a_certificate_if_there_is_one(site: Site) -> None:
    assert site.ask(18444, site.client) == site.ask(18444, None) == b"http:id"
    assert site.ask(18444, EdgeAuthority().issue("client.example")) == b""


def test_whoever_shows_a_certificate_is_counted_by_it(site: Site) -> None:
    client = site.authority.mesh("outsider")
    for port in (18443, 18444):
        assert site.ask(port, client) == b"http:id"
    principal = "spiffe://cluster.local/ns/default/sa/outsider"

    def counted() -> float:
        found = site.proxy.metrics("istio_requests_total")
        return sum(value for labels, value in found if labels["source_principal"] == principal)

    assert eventually(lambda: counted() == 2)


@pytest.mark.covers(f"{TLS}.minProtocolVersion")
def test_old_versions_are_refused(site: Site) -> None:
    assert site.ask(18445, None) == b"http:id"
    context = context_for(site.authority.roots, highest=ssl.TLSVersion.TLSv1_2)
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol"):
        context.wrap_socket(connect(site.proxy, 18445), server_hostname=NAME)


@pytest.mark.covers("Sidecar inboundConnectionPool.http.h2UpgradePolicy")
def test_an_application_is_spoken_to_in_http_2_where_its_pool_says_so() -> None:
    text = f"""{PEER.format(mode="DISABLE")}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: own}}
spec:
  inboundConnectionPool: {{http: {{h2UpgradePolicy: UPGRADE}}}}
  ingress: [{{port: {{number: 18081, protocol: HTTP, name: http}}, defaultEndpoint: "127.0.0.1:18082"}}]
"""
    with (
        sidecar(text, workload=server("HTTP")) as proxy,
        GrpcServer("app", address=f"{app_address(proxy)}:18082"),
    ):
        headers = {"content-type": "application/grpc", "te": "trailers"}
        answer = proxy.get("app", 18081, "/unknown", headers, "POST", address=proxy.inbound)
        assert (answer.status, answer.headers["grpc-status"]) == (200, "12")  # of the server, which knows HTTP/2 alone


# --- pools on the way to the application -----------------------------------------------------------------------------

POOL = "Sidecar inboundConnectionPool"
POOLS = {
    18081: "http: {idleTimeout: 0.3s}",
    18083: "tcp: {maxConnectionDuration: 0.3s}",
    18084: "tcp: {idleTimeout: 0.3s}",
    18085: "http: {useClientProtocol: true}",
    18086: "tcp: {connectTimeout: 0.2s}",
}


class Inside(NamedTuple):
    proxy: Running

    def status(self, port: int) -> int:
        return self.proxy.get("app", port, address=self.proxy.inbound).status

    def stat(self, port: int, name: str) -> int:
        return self.proxy.stat(f"cluster.inbound\\|{port}\\|\\|;?.{name}")


@pytest.fixture(scope="module")
def inside() -> Iterator[Inside]:
    listeners = "".join(
        f"""
  - port: {{number: {port}, protocol: HTTP, name: p{port}}}
    defaultEndpoint: "127.0.0.1:{18087 if "connectTimeout" in pool else 18082}"
    connectionPool: {{{pool}}}"""
        for port, pool in POOLS.items()
    )
    text = f"""{PEER.format(mode="DISABLE")}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: own}}
spec:
  ingress:{listeners}
"""
    with (
        sidecar(text, workload=server("HTTP")) as proxy,
        Application("app", app_address(proxy), 18082),
        full_socket(app_address(proxy), 18087),
    ):
        yield Inside(proxy)


@pytest.mark.covers(f"{POOL}.http.idleTimeout", f"{POOL}.tcp.maxConnectionDuration", f"{POOL}.tcp.idleTimeout")
@pytest.mark.parametrize("port", [18081, 18083, 18084])
def test_a_connection_to_the_application_ends_after_its_time(inside: Inside, port: int) -> None:
    assert inside.status(port) == 200
    assert inside.stat(port, "upstream_cx_active") == 1
    eventually(lambda: inside.stat(port, "upstream_cx_active") == 0)


@pytest.mark.covers(f"{POOL}.http.useClientProtocol")
def test_the_clients_protocol_is_the_applications(inside: Inside) -> None:
    assert inside.status(18085) == 200
    assert inside.stat(18085, "upstream_cx_http1_total") == 1
    address = inside.proxy.inbound
    with pytest.raises(grpc.RpcError):
        said(address, 18085, "app", 1)
    assert inside.stat(18085, "upstream_cx_http2_total") >= 1


@pytest.mark.covers(f"{POOL}.tcp.connectTimeout")
def test_an_application_that_takes_no_connection_is_given_up_in_time(inside: Inside) -> None:
    start = time.monotonic()
    assert inside.status(18086) == 503
    assert time.monotonic() - start < 5
    assert inside.stat(18086, "upstream_cx_connect_timeout") >= 1
