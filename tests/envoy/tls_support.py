"""What the live tests of TLS stand on: credentials of several kinds, a client that says how it fared, small servers."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import http.client
import json
import socket
import socketserver
import ssl
import tempfile
import threading
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.envoy.harness import Authority, Pem, show

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


class EdgeAuthority(Authority):
    """An authority that also issues RSA certificates, and lists of those that it has taken back."""

    def issue_rsa(self, *sans: str, bits: int = 2048) -> Pem:
        key = rsa.generate_private_key(65537, bits)
        names = x509.SubjectAlternativeName([x509.DNSName(san) for san in sans])
        certificate = self._build(
            x509.Name([]),
            key.public_key(),  # type: ignore[arg-type]
            x509.BasicConstraints(False, None),
            names,
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Pem(certificate.public_bytes(serialization.Encoding.PEM), private, self.roots)

    def revoke(self, *certificates: bytes) -> bytes:
        """A revocation list with these certificates."""
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name)
        builder = builder.last_update(now - datetime.timedelta(minutes=1)).next_update(
            now + datetime.timedelta(hours=1)
        )
        for pem in certificates:
            number = x509.load_pem_x509_certificate(pem).serial_number
            gone = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now).build()
            builder = builder.add_revoked_certificate(gone)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def context_of(self, account: str, trust_domain: str = "cluster.local") -> ssl.SSLContext:
        """Of a client that is a workload with this account; certificates of the mesh name no hosts."""
        context = context_for(self.roots, self.mesh(account, trust_domain))
        context.check_hostname = False
        return context


def spki(pem: Pem) -> str:
    public = x509.load_pem_x509_certificate(pem.certificate).public_key()
    encoded = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return b64encode(hashlib.sha256(encoded).digest()).decode()


def digest(pem: Pem) -> str:
    encoded = x509.load_pem_x509_certificate(pem.certificate).public_bytes(serialization.Encoding.DER)
    return hashlib.sha256(encoded).hexdigest()


def secret(name: str, namespace: str = "default", **entries: bytes) -> str:
    """A Secret as YAML; in the names of entries, ``_`` stands for a dot."""
    data = {key.replace("_", "."): value.decode() for key, value in entries.items()}
    metadata = {"name": name, "namespace": namespace}
    return "---\n" + json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}) + "\n"


# --- the client ------------------------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """How a call over TLS went. ``refused``: the server ended it before an answer."""

    refused: bool = False
    status: int = 0
    seen: Mapping[str, Any] = {}
    certificate: bytes = b""
    version: str | None = ""
    cipher: str = ""
    alpn: str | None = None


def context_for(
    roots: bytes,
    client: Pem | None = None,
    *,
    lowest: ssl.TLSVersion = TLS12,
    highest: ssl.TLSVersion = TLS13,
    ciphers: str = "",
    alpn: tuple[str, ...] = ("http/1.1",),
) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=roots.decode())
    context.minimum_version, context.maximum_version = lowest, highest
    context.set_alpn_protocols(list(alpn))
    if ciphers:
        context.set_ciphers(ciphers)
    if client is not None:
        show(context, client)
    return context


@contextlib.contextmanager
def connected(port: int, name: str, context: ssl.SSLContext, address: str = "127.0.0.1") -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection((address, port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=name) as connection,
    ):
        yield connection


def call(
    port: int,
    name: str,
    context: ssl.SSLContext,
    host: str = "",
    path: str = "/",
    headers: Mapping[str, str] | None = None,
) -> Outcome:
    """One HTTP request over TLS to ``name``; the server's certificate has to be good for that name."""
    try:
        with connected(port, name, context) as connection:
            more = "".join(f"{key}: {value}\r\n" for key, value in (headers or {}).items())
            text = f"GET {path} HTTP/1.1\r\nHost: {host or name}\r\n{more}Connection: close\r\n\r\n"
            connection.sendall(text.encode())
            response = http.client.HTTPResponse(connection)
            response.begin()
            body = response.read()
            return Outcome(
                status=response.status,
                seen=json.loads(body) if body[:1] == b"{" else {},
                certificate=connection.getpeercert(binary_form=True) or b"",
                version=connection.version(),
                cipher=(connection.cipher() or ("",))[0],
                alpn=connection.selected_alpn_protocol(),
            )
    except ssl.SSLCertVerificationError:
        raise
    except (OSError, http.client.HTTPException):
        return Outcome(refused=True)


def refuses(port: int, name: str, context: ssl.SSLContext) -> bool:
    return call(port, name, context).refused


# --- servers below HTTP ----------------------------------------------------------------------------------------------


class Echo:
    """Says its name, then gives back in capitals what comes. With ``pem`` it speaks TLS."""

    def __init__(self, name: str, pem: Pem | None = None, host: str = "127.0.0.1") -> None:
        self.name = name
        context = self._context(pem) if pem else None

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                stream = context.wrap_socket(self.request, server_side=True) if context else self.request
                with contextlib.suppress(OSError):
                    stream.sendall(name.encode() + b"\n")
                    while data := stream.recv(1000):
                        stream.sendall(data.upper())

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass

        self._server = Server((host, 0), Handler)
        self.port: int = self._server.server_address[1]

    def _context(self, pem: Pem) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory(prefix="lt-") as folder:
            path = Path(folder) / "pem"
            path.write_bytes(pem.certificate + pem.key)
            context.load_cert_chain(path)
        return context

    def __enter__(self) -> Echo:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def greeting(stream: socket.socket) -> str:
    """The first line that a server says; empty where it closes instead."""
    found = b""
    with contextlib.suppress(OSError):
        while not found.endswith(b"\n") and (part := stream.recv(100)):
            found += part
    return found.decode().strip()


def greeted(port: int, address: str = "127.0.0.1") -> str:
    """Who answers plain TCP on a port."""
    with socket.create_connection((address, port), timeout=5) as stream:
        return greeting(stream)
