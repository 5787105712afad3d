"""Every mode of TLS at a gateway, with clients that may come in and clients that may not."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.gateways import gateway_workload
from tests.envoy.harness import Application, Pem, free_port, get
from tests.envoy.tls_support import (
    TLS12,
    TLS13,
    Echo,
    EdgeAuthority,
    call,
    connected,
    context_for,
    digest,
    greeting,
    refuses,
    secret,
    spki,
)

TLS = "Gateway servers[].tls."
ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{name}.backend]
  ports: [{{name: {protocol}, number: 8080, protocol: {protocol}}}]
  location: MESH_EXTERNAL
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{{protocol}: {port}}}}}]
---
"""
ROUTES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: all}
spec: {hosts: ["*"], gateways: [edge], http: [{route: [{destination: {host: app.backend}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: passing}
spec:
  hosts: ["*.pass.example"]
  gateways: [edge]
  tls:
  - match: [{sniHosts: [one.pass.example]}]
    route: [{destination: {host: one.backend}}]
  - match: [{sniHosts: ["*.pass.example"]}]
    route: [{destination: {host: two.backend}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bytes}
spec: {hosts: [tcp.example], gateways: [edge], tcp: [{route: [{destination: {host: plain.backend}}]}]}
---
"""


class Edge(NamedTuple):
    proxy: Running
    port: int
    plain_port: int
    authority: EdgeAuthority
    strangers: EdgeAuthority
    good: Pem
    revoked: Pem

    def context(self, client: Pem | None = None, **options: Any) -> ssl.SSLContext:
        return context_for(self.authority.roots, client, **options)


def server(port: int, name: str, tls: dict[str, object], protocol: str = "HTTPS") -> dict[str, object]:
    hosts = [name if name.startswith("*") else f"{name}.example"]
    label = name.strip("*.").replace(".", "-")
    return {"port": {"number": port, "name": label, "protocol": protocol}, "hosts": hosts, "tls": tls}


def written(folder: Path, name: str, data: bytes) -> str:
    (folder / name).write_bytes(data)
    return str(folder / name)


def configuration(port: int, plain_port: int, authority: EdgeAuthority, good: Pem, revoked: Pem, folder: Path) -> str:
    """One Gateway with a server for each way to end TLS, all on one port."""
    pem = {name: authority.issue(f"{name}.example") for name in NAMES}
    in_rsa = authority.issue_rsa("pair.example", "two.example")
    files = {
        f"{name}.{part}": written(folder, f"{name}.{part}", getattr(pem[name], part))
        for name in ("files", "pair")
        for part in ("certificate", "key")
    }
    roots = written(folder, "roots.pem", authority.roots)
    revocations = authority.revoke(revoked.certificate)
    mutual = {"mode": "MUTUAL", "credentialName": "mutual"}
    modes: dict[str, dict[str, object]] = {
        "simple": {"mode": "SIMPLE", "credentialName": "simple"},
        "mutual": mutual,
        "optional": {"mode": "OPTIONAL_MUTUAL", "credentialName": "optional"},
        "mesh": {"mode": "ISTIO_MUTUAL"},
        "generic": {"mode": "MUTUAL", "credentialName": "generic"},
        "beside": {"mode": "MUTUAL", "credentialName": "beside"},
        "roots": {"mode": "MUTUAL", "credentialName": "roots", "caCertCredentialName": "trusted"},
        "listed": {"mode": "MUTUAL", "credentialName": "listed"},
        "names": {"mode": "MUTUAL", "credentialName": "names", "subjectAltNames": ["good.client"]},
        "spki": {"mode": "MUTUAL", "credentialName": "spki", "verifyCertificateSpki": [spki(good)]},
        "hash": {"mode": "MUTUAL", "credentialName": "hash", "verifyCertificateHash": [digest(good)]},
        "anyone": {"mode": "MUTUAL", "credentialName": "anyone", "insecureSkipVerify": True},
        "files": {
            "mode": "MUTUAL",
            "serverCertificate": files["files.certificate"],
            "privateKey": files["files.key"],
            "caCertificates": roots,
            "caCrl": written(folder, "crl.pem", revocations),
        },
        "pair": {
            "mode": "SIMPLE",
            "tlsCertificates": [
                {"serverCertificate": files["pair.certificate"], "privateKey": files["pair.key"]},
                {
                    "serverCertificate": written(folder, "rsa.certificate", in_rsa.certificate),
                    "privateKey": written(folder, "rsa.key", in_rsa.key),
                },
            ],
        },
        "two": {"mode": "SIMPLE", "credentialNames": ["two", "two-rsa"]},
        "new": {"mode": "SIMPLE", "credentialName": "new", "minProtocolVersion": "TLSV1_3"},
        "old": {
            "mode": "SIMPLE",
            "credentialName": "old",
            "maxProtocolVersion": "TLSV1_2",
            "cipherSuites": ["ECDHE-ECDSA-AES256-GCM-SHA384", "nonsense"],
        },
        "missing": {"mode": "SIMPLE", "credentialName": "not-there"},
        "elsewhere": {"mode": "SIMPLE", "credentialName": "in-another-namespace"},
        "mismatched": {"mode": "SIMPLE", "credentialName": "mismatched"},
        "garbled": {"mode": "MUTUAL", "credentialName": "garbled"},
    }
    servers = [server(port, name, tls) for name, tls in modes.items()]
    servers.append(server(port, "*.pass.example", {"mode": "PASSTHROUGH"}, "TLS"))
    servers.append(server(port, "tcp", {"mode": "SIMPLE", "credentialName": "tcp"}, "TLS"))
    # a wildcard that must not answer in the place of those that cannot
    servers.append(server(port, "*.example", {"mode": "SIMPLE", "credentialName": "simple"}))
    servers.append(
        {
            "port": {"number": plain_port, "name": "http", "protocol": "HTTP"},
            "hosts": ["simple.example"],
            "tls": {"httpsRedirect": True},
        }
    )
    gateway = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "edge"},
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": servers},
    }
    with_roots = ("mutual", "optional", "names", "spki", "hash", "anyone")
    secrets = [
        *(secret(name, tls_crt=pem[name].certificate, tls_key=pem[name].key, ca_crt=pem[name].roots)
          for name in with_roots),
        *(secret(name, tls_crt=pem[name].certificate, tls_key=pem[name].key)
          for name in ("simple", "beside", "roots", "new", "old", "tcp", "two")),
        secret("generic", cert=pem["generic"].certificate, key=pem["generic"].key, cacert=authority.roots),
        secret("beside-cacert", cacert=authority.roots),
        secret("trusted", ca_crt=authority.roots),
        secret("listed", tls_crt=pem["listed"].certificate, tls_key=pem["listed"].key, ca_crt=authority.roots,
               ca_crl=revocations),
        secret("two-rsa", tls_crt=in_rsa.certificate, tls_key=in_rsa.key),
        secret("in-another-namespace", "other", tls_crt=pem["simple"].certificate, tls_key=pem["simple"].key),
        secret("mismatched", tls_crt=pem["mismatched"].certificate, tls_key=pem["simple"].key),
        secret("garbled", tls_crt=pem["garbled"].certificate, tls_key=pem["garbled"].key, ca_crt=b"garbled"),
    ]  # fmt: skip
    return json.dumps(gateway) + "\n" + "".join(secrets) + "---" + ROUTES


NAMES = (
    "simple", "mutual", "optional", "generic", "beside", "roots", "listed", "names", "spki", "hash", "anyone", "files",
    "pair", "two", "new", "old", "tcp", "mismatched", "garbled",
)  # fmt: skip


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    authority, strangers = EdgeAuthority(), EdgeAuthority()
    port, plain_port = free_port(), free_port()
    good, revoked = authority.issue("good.client"), authority.issue("revoked.client")
    text = configuration(port, plain_port, authority, good, revoked, tmp_path_factory.mktemp("lt-edge"))
    passing = authority.issue("one.pass.example", "two.pass.example")
    with (
        Application("app") as app,
        Echo("one", passing) as one,
        Echo("two", passing) as two,
        Echo("plain") as plain,
    ):
        text += "".join(
            ENTRY.format(name=name, port=backend.port, protocol=protocol)
            for name, backend, protocol in (
                ("app", app, "HTTP"), ("one", one, "TLS"), ("two", two, "TLS"), ("plain", plain, "TCP"),
            )
        )  # fmt: skip
        with sidecar(text, workload=gateway_workload(), authority=authority, allow_findings=True) as proxy:
            yield Edge(proxy, port, plain_port, authority, strangers, good, revoked)


# --- who may come in -------------------------------------------------------------------------------------------------


@pytest.mark.covers(f"{TLS}mode", f"{TLS}credentialName")
def test_simple_asks_clients_for_nothing(edge: Edge) -> None:
    answer = call(edge.port, "simple.example", edge.context())
    assert answer.status == 200
    assert answer.seen["headers"]["x-forwarded-proto"] == "https"


MUTUAL = ("mutual", "generic", "beside", "roots", "listed", "spki", "hash", "names", "files")


@pytest.mark.covers(
    f"{TLS}mode", f"{TLS}caCertCredentialName", f"{TLS}serverCertificate", f"{TLS}privateKey", f"{TLS}caCertificates"
)
@pytest.mark.parametrize("name", MUTUAL)
def test_mutual_lets_in_known_clients_alone(edge: Edge, name: str) -> None:
    assert call(edge.port, f"{name}.example", edge.context(edge.good)).status == 200
    assert refuses(edge.port, f"{name}.example", edge.context())
    assert refuses(edge.port, f"{name}.example", edge.context(edge.strangers.issue("good.client")))


@pytest.mark.covers(f"{TLS}subjectAltNames", f"{TLS}verifyCertificateSpki", f"{TLS}verifyCertificateHash")
@pytest.mark.parametrize("name", ["names", "spki", "hash"])
def test_what_more_is_asked_of_clients(edge: Edge, name: str) -> None:
    assert refuses(edge.port, f"{name}.example", edge.context(edge.authority.issue("other.client")))


@pytest.mark.covers(f"{TLS}caCrl")
@pytest.mark.parametrize("name", ["files", "listed"])
def test_a_certificate_that_was_taken_back(edge: Edge, name: str) -> None:
    assert refuses(edge.port, f"{name}.example", edge.context(edge.revoked))
    assert call(edge.port, "mutual.example", edge.context(edge.revoked)).status == 200


@pytest.mark.covers(f"{TLS}mode")
def test_optional_mutual_looks_at_a_certificate_if_there_is_one(edge: Edge) -> None:
    assert call(edge.port, "optional.example", edge.context()).status == 200
    answer = call(edge.port, "optional.example", edge.context(edge.good))
    assert "DNS=good.client" in answer.seen["headers"]["x-forwarded-client-cert"]
    assert refuses(edge.port, "optional.example", edge.context(edge.strangers.issue("good.client")))


@pytest.mark.covers(f"{TLS}insecureSkipVerify")
def test_skipping_verification_still_asks_for_a_certificate(edge: Edge) -> None:
    assert call(edge.port, "anyone.example", edge.context(edge.strangers.issue("any.client"))).status == 200
    assert refuses(edge.port, "anyone.example", edge.context())


@pytest.mark.covers(f"{TLS}mode")
def test_istio_mutual_is_for_workloads_of_the_mesh(edge: Edge) -> None:
    def mesh_context(client: Pem | None) -> ssl.SSLContext:
        context = edge.context(client)
        context.check_hostname = False
        return context

    workload = edge.authority.mesh("shop")
    answer = call(edge.port, "mesh.example", mesh_context(workload))
    assert "URI=spiffe://cluster.local/ns/default/sa/shop" in answer.seen["headers"]["x-forwarded-client-cert"]
    assert refuses(edge.port, "mesh.example", mesh_context(None))
    assert refuses(edge.port, "mesh.example", mesh_context(edge.good))
    assert refuses(edge.port, "mesh.example", mesh_context(edge.authority.mesh("shop", "other.domain")))
    assert refuses(edge.port, "mesh.example", mesh_context(edge.strangers.mesh("shop")))


# --- which certificate, which version --------------------------------------------------------------------------------


@pytest.mark.covers(f"{TLS}credentialNames", f"{TLS}tlsCertificates[].serverCertificate")
@pytest.mark.parametrize("name", ["pair", "two"])
def test_two_certificates_serve_clients_of_both_kinds(edge: Edge, name: str) -> None:
    kinds = {
        "ECDHE-ECDSA-AES128-GCM-SHA256": ec.EllipticCurvePublicKey,
        "ECDHE-RSA-AES128-GCM-SHA256": rsa.RSAPublicKey,
    }
    for cipher, kind in kinds.items():
        answer = call(edge.port, f"{name}.example", edge.context(highest=TLS12, ciphers=cipher))
        assert isinstance(x509.load_der_x509_certificate(answer.certificate).public_key(), kind)


@pytest.mark.covers(f"{TLS}minProtocolVersion", f"{TLS}maxProtocolVersion", f"{TLS}cipherSuites")
def test_versions_and_ciphers(edge: Edge) -> None:
    assert call(edge.port, "new.example", edge.context()).version == "TLSv1.3"
    assert refuses(edge.port, "new.example", edge.context(highest=TLS12))
    old = call(edge.port, "old.example", edge.context())
    assert (old.version, old.cipher) == ("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384")
    assert refuses(edge.port, "old.example", edge.context(lowest=TLS13))
    assert refuses(edge.port, "old.example", edge.context(highest=TLS12, ciphers="ECDHE-ECDSA-AES128-GCM-SHA256"))


def test_http_2_is_offered(edge: Edge) -> None:
    with connected(edge.port, "simple.example", edge.context(alpn=("h2", "http/1.1"))) as connection:
        assert connection.selected_alpn_protocol() == "h2"


# --- what cannot be served -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["missing", "elsewhere", "mismatched", "garbled"])
def test_a_server_without_a_good_secret_refuses_and_the_others_go_on(edge: Edge, name: str) -> None:
    assert refuses(edge.port, f"{name}.example", edge.context(edge.good))
    assert call(edge.port, "simple.example", edge.context()).status == 200


def test_each_of_them_is_told(edge: Edge) -> None:
    told = {finding.code: finding.message for finding in edge.proxy.findings if finding.is_error}
    assert {"missing-secret", "unusable-secret"} <= told.keys()
    fields = {finding.origin.field for finding in edge.proxy.findings if "secret" in finding.code}
    assert len(fields) == 4 and all(field.endswith(".tls.credentialName") for field in fields)


def test_no_finding_shows_a_key(edge: Edge) -> None:
    assert not [finding for finding in edge.proxy.findings if "PRIVATE KEY" in finding.message]


def test_plain_text_and_unknown_names_get_nothing(edge: Edge) -> None:
    with socket.create_connection(("127.0.0.1", edge.port), timeout=5) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: simple.example\r\n\r\n")
        assert greeting(plain) == ""
    assert refuses(edge.port, "unknown.elsewhere", edge.context())


def test_a_host_of_another_server_is_not_reached_through_this_one(edge: Edge) -> None:
    assert call(edge.port, "simple.example", edge.context(), host="mutual.example").status == 404


# --- without HTTP ----------------------------------------------------------------------------------------------------


@pytest.mark.covers(
    f"{TLS}mode", "VirtualService tls[].match[].sniHosts", "VirtualService tls[].route[].destination.host"
)
def test_tls_passes_by_server_name(edge: Edge) -> None:
    for name in ("one", "two"):
        with connected(edge.port, f"{name}.pass.example", edge.context()) as connection:
            assert greeting(connection) == name


@pytest.mark.covers("VirtualService tcp[].route[].destination.host")
def test_tls_ends_and_bytes_go_on(edge: Edge) -> None:
    with connected(edge.port, "tcp.example", edge.context()) as connection:
        assert greeting(connection) == "plain"
        connection.sendall(b"abc")
        assert connection.recv(10) == b"ABC"


@pytest.mark.covers(f"{TLS}httpsRedirect")
def test_plain_http_is_sent_to_https(edge: Edge) -> None:
    answer = get(edge.plain_port, "/path?query", {"host": "simple.example"})
    assert (answer.status, answer.headers["location"]) == (301, "https://simple.example/path?query")
