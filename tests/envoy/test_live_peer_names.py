"""Whom a sidecar takes for whom by the names in certificates of its own authority, and for how long, on a real Envoy.

Certificates with names of odd kinds and spellings are shown to both of its sides: what only looks like an identity of
the mesh is none. A session that was resumed counts for no longer than certificate, roots and policies do.
"""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator, Mapping

import msgspec
import pytest
from cryptography import x509

from lateen.control.coordinator import Coordinator
from lateen.control.store import ResourceStore
from lateen.envoy.resources import EnvoyResources
from lateen.mesh.addresses import in_loopback_view
from lateen.mesh.members import LOOPBACK_INBOUND
from lateen.settings import Settings
from lateen.sources.files import FileEvent
from tests.envoy.from_yaml import own_prefix
from tests.envoy.harness import Authority, Pem, eventually, unverified
from tests.envoy.plane import ID, Plane, controlled
from tests.envoy.test_live_inbound import PORT, Server, server
from tests.envoy.tls_support import TLS12, TLS13

CLIENT, SERVER = (f"spiffe://cluster.local/ns/default/sa/{name}" for name in ("client", "server"))
UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
OUTSIDE = 18090
TEXT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: mesh, namespace: istio-system}}
spec: {{mtls: {{mode: STRICT}}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: client-alone}}
spec: {{rules: [{{from: [{{source: {{principals: [cluster.local/ns/default/sa/{allowed}]}}}}]}}]}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: other}}
spec:
  hosts: [other.example]
  ports: [{{name: http, number: {outside}, protocol: HTTP}}]
  location: MESH_INTERNAL
  resolution: STATIC
  subjectAltNames: ["{server}"]
  endpoints: [{{address: 127.0.0.1, ports: {{http: {port}}}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: other}}
spec: {{host: other.example, trafficPolicy: {{tls: {{mode: ISTIO_MUTUAL}}}}}}
"""


def uri(text: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(text)


def odd(identity: str) -> Mapping[str, list[x509.GeneralName]]:
    """Names that are not this identity, however much they look like it."""
    utf8 = b"\x0c" + bytes([len(identity)]) + identity.encode()
    domain, _, path = identity.removeprefix("spiffe://").partition("/")
    return {
        "dns": [x509.DNSName(identity)],
        "email": [x509.RFC822Name(f"{identity}@cluster.local")],
        "othername": [x509.OtherName(UPN, utf8)],
        "othername and dns": [x509.OtherName(UPN, utf8), x509.DNSName(identity)],
        "registered id": [x509.RegisteredID(UPN)],
        "nul at the end": [uri(f"{identity}\0")],
        "nul and more": [uri(f"{identity}\0.evil.example")],
        "nul in the domain": [uri(f"spiffe://{domain}\0.evil/{path}")],
        "nul before": [uri(f"\0{identity}")],
        "dns with nul": [x509.DNSName(f"{identity}\0.evil.example")],
        "any domain": [uri(f"spiffe://*/{path}")],
        "any account": [uri(f"{identity.rpartition('/')[0]}/*")],
        "any depth": [uri(f"spiffe://{domain}/*")],
        "domain below": [uri(f"spiffe://evil.{domain}/{path}")],
        "domain and more": [uri(f"spiffe://{domain}.evil/{path}")],
        "domain with port": [uri(f"spiffe://{domain}:443/{path}")],
        "domain after a user": [uri(f"spiffe://{domain}@evil/{path}")],
        "path below": [uri(f"{identity}/more")],
        "slash at the end": [uri(f"{identity}/")],
        "dot segments": [uri(f"spiffe://{domain}/ns/other/sa/x/../../../{path}")],
        "escaped": [uri(identity.replace("/sa/", "/sa%2F"))],
        "query": [uri(f"{identity}?x")],
        "fragment": [uri(f"{identity}#x")],
        "upper case": [uri(identity.upper())],
        "upper case path": [uri(f"spiffe://{domain}/{path.upper()}")],
        "space": [uri(f"{identity} ")],
        "another scheme": [uri(identity.replace("spiffe:", "https:"))],
        "inside another": [uri(f"spiffe://evil/{identity}")],
        "a list": [uri(f"spiffe://evil/x,{identity}")],
    }


OWN_DOMAIN = "spiffe://cluster.local/"


def show(context: ssl.SSLContext, pem: Pem) -> None:
    with tempfile.NamedTemporaryFile(prefix="lt-") as file:
        file.write(pem.certificate + pem.key)
        file.flush()
        context.load_cert_chain(file.name)


def client(pem: Pem, version: ssl.TLSVersion = TLS13) -> ssl.SSLContext:
    context = unverified(pem, ("istio-http/1.1", "istio", "http/1.1"))
    context.minimum_version = context.maximum_version = version
    return context


class Live:
    """A sidecar that follows its configuration, the authority that it trusts, and both of its sides."""

    def __init__(self, prefix: int, peer: Peer) -> None:
        self.authority = Authority()
        self.prefix, self.peer = prefix, peer
        self.plane: Plane | None = None
        self._own = msgspec.structs.replace(server("http"), id=ID, network="loopback", prefix=prefix)
        self._store = ResourceStore("default")
        self._given: dict[str, EnvoyResources] = {}
        self._coordinator = Coordinator(Settings(), self._publish)

    def _publish(self, name: str, resources: EnvoyResources | None) -> None:
        assert resources is not None
        self._given[name] = resources

    def configured(self, allowed: str = "client") -> EnvoyResources:
        text = TEXT.format(allowed=allowed, outside=OUTSIDE, port=self.peer.port, server=SERVER)
        self._store.apply(FileEvent("mesh.yaml", text.encode()))
        self._coordinator.update(self._store.resources(), [self._own])
        return self._given[ID]

    def allow(self, account: str) -> None:
        assert self.plane is not None
        self.plane.serve(self.configured(account))
        self.plane.settled()

    def certify(self, authority: Authority) -> None:
        assert self.plane is not None
        self.plane.certify(authority.mesh("server"))
        self.plane.settled()

    def called(
        self, context: ssl.SSLContext, session: ssl.SSLSession | None = None
    ) -> tuple[int, ssl.SSLSession | None]:
        """How a client that shows a certificate is answered (0: not at all), and its session to go on with."""
        place = in_loopback_view(f"0.0.{LOOPBACK_INBOUND}", self.prefix), PORT
        try:
            with (
                socket.create_connection(place, timeout=20) as plain,
                context.wrap_socket(plain, session=session) as tls,
            ):
                tls.sendall(b"GET / HTTP/1.1\r\nhost: server\r\nconnection: close\r\n\r\n")
                answer = b"".join(iter(lambda: tls.recv(4096), b""))
                return int(answer.split()[1]) if answer else 0, tls.session
        except OSError:
            return 0, None

    def calling(self, pem: Pem) -> int:
        """What the sidecar's own application is answered by a server that shows a certificate."""
        assert self._coordinator.snapshot is not None
        address = in_loopback_view(self._coordinator.snapshot.services["other.example"].address, self.prefix)
        self.peer.pem = pem
        with socket.create_connection((address, OUTSIDE), timeout=20) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nhost: other.example\r\nconnection: close\r\n\r\n")
            return int(b"".join(iter(lambda: plain.recv(4096), b"")).split()[1])


class Peer:
    """A server elsewhere that answers every request over TLS with 200; ``pem`` is what it shows."""

    def __init__(self) -> None:
        self.pem: Pem | None = None
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._socket.accept()
                with contextlib.suppress(OSError), plain, self._context().wrap_socket(plain, server_side=True) as tls:
                    tls.recv(65536)
                    tls.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    def _context(self) -> ssl.SSLContext:
        assert self.pem is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        show(context, self.pem)
        return context

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # else the thread in accept() keeps the port
        self._socket.close()


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with own_prefix() as prefix, contextlib.closing(Peer()) as peer:
        made = Live(prefix, peer)
        with controlled(made.configured(), made.authority.mesh("server")) as (plane, _), Server(f"127.{prefix}.255.1"):
            made.plane = plane
            yield made


@pytest.mark.parametrize("kind", odd(CLIENT))
def test_only_the_exact_identity_is_the_callers(live: Live, kind: str) -> None:
    """Others of the mesh's trust domain get through the handshake and no further."""
    names = odd(CLIENT)[kind]
    of_the_mesh = any(
        name.value.startswith(OWN_DOMAIN) for name in names if isinstance(name, x509.UniformResourceIdentifier)
    )
    assert live.called(client(live.authority.issue_for(names)))[0] == (403 if of_the_mesh else 0)
    assert live.called(client(live.authority.mesh("client")))[0] == 200


@pytest.mark.parametrize("kind", odd(SERVER))
def test_only_the_exact_identity_is_the_servers(live: Live, kind: str) -> None:
    assert live.calling(live.authority.issue_for(odd(SERVER)[kind])) == 503
    assert live.calling(live.authority.mesh("server")) == 200


@pytest.mark.parametrize("version", [TLS12, TLS13], ids=["1.2", "1.3"])
def test_a_session_does_not_outlive_its_certificate(live: Live, version: ssl.TLSVersion) -> None:
    """However it is resumed: by tickets or by the number of the session."""
    context = client(live.authority.issue_for([uri(CLIENT)], datetime.timedelta(seconds=2)), version)
    status, session = live.called(context)
    assert status == 200
    eventually(lambda: live.called(context)[0] == 0)
    assert live.called(context, session)[0] == 0


@pytest.mark.parametrize("version", [TLS12, TLS13], ids=["1.2", "1.3"])
def test_a_session_is_judged_by_what_holds_now(live: Live, version: ssl.TLSVersion) -> None:
    context = client(live.authority.mesh("client"), version)
    status, session = live.called(context)
    assert status == 200
    live.allow("other")
    assert live.called(context, session)[0] == 403
    live.allow("client")
    live.certify(Authority())
    eventually(lambda: live.called(context)[0] == 0)
    assert live.called(context, session)[0] == 0
    live.certify(live.authority)
    eventually(lambda: live.called(context)[0] == 200)
