"""The client of a played call: one connection to a proxy's socket, as the call describes it.

Comes in: a ``Call`` and a Unix socket. Goes out: what came back. The bytes are driven by hand, because a client must be
able to say anything: TLS to a server that speaks none, a server name that no host has, HTTP where nobody expects it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from lateen.control.playing import http2
from lateen.control.playing.credentials import PlayedCredentials
from lateen.control.playing.recorder import cluster_of
from lateen.explain.call import DEFAULT_SOURCE, Call, Protocol, Tls

PATIENCE_S = 10.0
SOURCE = {4: "127.0.0.1", 6: "::1"}
OPAQUE = b"\x01\x02 neither TLS nor HTTP\r\n\r\n"
FORBIDDEN = ("\r", "\n", "\0")


class Unplayable(Exception):
    """A call that this client cannot make; the text says why."""


class Exchange(msgspec.Struct, frozen=True):
    """What came back, outside TLS where the proxy ended it.

    ``shown`` is the server's certificate (DER) where there was a handshake; ``broken`` why the connection broke.
    """

    received: bytes = b""
    shown: bytes | None = None
    broken: str = ""


class TlsClient:
    """TLS of clients that take any server; ``mtls`` shows a stand-in certificate for the call's identity."""

    def __init__(self, credentials: PlayedCredentials) -> None:
        self._credentials = credentials
        self._plain = _context()
        self._mutual: dict[str, ssl.SSLContext] = {}

    def connection(self, call: Call, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """A connection that has not begun. Raises Unplayable where the server name cannot be sent."""
        context = self._plain if call.tls is Tls.TLS else self._of(call.identity)
        context.set_alpn_protocols([call.spoken_alpn] if call.spoken_alpn else [])
        try:
            return context.wrap_bio(incoming, outgoing, server_hostname=call.server_name or None)
        except (ValueError, UnicodeError) as problem:
            raise Unplayable(f"the server name {call.server_name!r} cannot be sent: {problem}") from problem

    def _of(self, identity: str) -> ssl.SSLContext:
        if identity not in self._mutual:
            try:
                shown = self._credentials.client(identity)
            except ValueError as problem:
                raise Unplayable(f"no certificate can be made for {identity}: {problem}") from problem
            context = _context()
            with tempfile.TemporaryDirectory(prefix="lt-") as folder:
                path = Path(folder, "client")
                path.touch(mode=0o600)
                path.write_bytes(b"".join(shown))
                context.load_cert_chain(path)
            self._mutual[identity] = context
        return self._mutual[identity]


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


async def exchange(path: str, call: Call, port: int, client: TlsClient) -> Exchange:
    """Make the call from ``port`` of the loopback address. Raises Unplayable."""
    said = said_by(call)
    begin = header(call, port)
    tls = _Tls(client, call) if call.tls is not Tls.PLAINTEXT else None
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        async with asyncio.timeout(PATIENCE_S):
            writer.write(begin)
            return await (_plain(reader, writer, call, said) if tls is None else tls.run(reader, writer, said))
    except TimeoutError:
        return Exchange(broken=f"no end within {PATIENCE_S:g} s")
    except OSError as problem:
        return Exchange(broken=str(problem))
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def header(call: Call, port: int) -> bytes:
    """The PROXY protocol header: who calls, and where the call is meant to go. Raises Unplayable."""
    if call.source != DEFAULT_SOURCE or call.claims is not None:
        raise Unplayable("a call from another address, or with a token, is only walked")
    try:
        version = ipaddress.ip_address(call.address).version
    except ValueError as problem:
        raise Unplayable(f"{call.address} is no IP address") from problem
    return f"PROXY TCP{version} {SOURCE[version]} {call.address} {port} {call.port}\r\n".encode()


def said_by(call: Call) -> bytes:
    """The request, or bytes that are neither HTTP nor TLS. Raises Unplayable."""
    if call.protocol is Protocol.TCP:
        return OPAQUE
    words = (call.method, call.path, call.authority, *(word for pair in call.headers for word in pair))
    if any(sign in word for sign in FORBIDDEN for word in words) or " " in call.method + call.path:
        raise Unplayable("a request with such signs cannot be sent")
    if call.protocol is Protocol.HTTP2:
        scheme = "http" if call.tls is Tls.PLAINTEXT else "https"
        own = ((":method", call.method), (":scheme", scheme), (":authority", call.authority), (":path", call.path))
        return http2.request((*own, *call.headers))
    lines = [f"{call.method} {call.path} HTTP/1.1", f"host: {call.authority}"]
    lines += [f"{name}: {value}" for name, value in call.headers]
    if call.method in ("POST", "PUT", "PATCH"):
        lines.append("content-length: 0")
    return "\r\n".join([*lines, "connection: close", "", ""]).encode()


def _is_complete(call: Call) -> Callable[[bytes], object]:
    """Whether there is nothing more to wait for; over HTTP/1.1 the server closes."""
    if call.protocol is Protocol.HTTP2:
        return lambda received: http2.is_complete(received) or cluster_of(received)
    return cluster_of if call.protocol is Protocol.TCP else lambda _: False


async def _plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, call: Call, said: bytes) -> Exchange:
    writer.write(said)
    received, broken, is_complete = b"", "", _is_complete(call)
    try:
        while not is_complete(received) and (part := await reader.read(65536)):
            received += part
    except OSError as problem:
        broken = str(problem)
    return Exchange(received, None, broken)


class _Tls:
    """A call inside TLS. What is received before a handshake is kept: it may come from a server without TLS."""

    def __init__(self, client: TlsClient, call: Call) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._connection = client.connection(call, self._incoming, self._outgoing)
        self._is_complete = _is_complete(call)
        self._raw = b""

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: bytes) -> Exchange:
        received, shown = b"", None
        try:
            await self._step(self._connection.do_handshake, reader, writer)
            shown = self._connection.getpeercert(binary_form=True)
            self._connection.write(said)
            while not self._is_complete(received):
                part = await self._step(lambda: self._connection.read(65536), reader, writer)
                if not part:
                    break
                received += part
        except (ssl.SSLError, EOFError, OSError) as problem:
            if shown is None:
                received = self._raw + await _rest(reader)
            return Exchange(received, shown, str(problem) or "the connection is closed")
        return Exchange(received, shown)

    async def _step(
        self, action: Callable[[], bytes | None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes | None:
        """Repeat what wants more bytes until it has them. Raises EOFError where there are none to come."""
        while True:
            try:
                return action()
            except ssl.SSLWantReadError:
                writer.write(self._outgoing.read())
                part = await reader.read(65536)
                if not part:
                    raise EOFError from None
                if len(self._raw) < 65536:
                    self._raw += part
                self._incoming.write(part)
            finally:
                writer.write(self._outgoing.read())


async def _rest(reader: asyncio.StreamReader) -> bytes:
    with contextlib.suppress(OSError):
        return await reader.read()
    return b""
