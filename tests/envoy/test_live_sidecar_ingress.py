"""A Sidecar's ingress on the real Envoy: clients from outside with certificates, and the way to the application."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.grpc_support import GrpcServer
from tests.envoy.harness import Pem
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
