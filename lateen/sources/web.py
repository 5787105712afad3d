"""Fetches documents over HTTP from places that users and issuers name, which may be anywhere.

Comes in: a URL. Goes out: the body of an answer with status 200. A name is resolved here, its addresses are judged, and
the connection is made to the very address that was judged: what the name means a moment later does not count. Each
redirect is judged anew. No proxy, cookie, credential or encoding of the body is used. The caller bounds the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore

from lateen.values.web_address import Network, address_problem, url_problem

MAX_BODY_BYTES = 1 << 20
MAX_REDIRECTS = 3
CONNECT_S = 2.0
"""How long one address of several may keep the others waiting."""
REDIRECTS = (301, 302, 303, 307, 308)
HEADERS = (
    ("Accept", "application/json, application/jwk-set+json, */*;q=0.1"),
    ("Accept-Encoding", "identity"),
    ("User-Agent", "lateen"),
)


class FetchError(Exception):
    """A document cannot be had; the message says why, in words that go on a sentence."""


class _Judged(httpcore.AsyncNetworkBackend):
    """Connects to no address that is not allowed."""

    def __init__(self, allowed: Sequence[Network]) -> None:
        self._allowed = allowed
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature is httpcore's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of a host that may be called and answers."""
        addresses = await _resolve(host, port)
        refused = {address: address_problem(address, self._allowed) for address in addresses}
        failure: Exception | None = None
        usable = [address for address, problem in refused.items() if not problem]
        limit = CONNECT_S if len(usable) > 1 else timeout
        for address in usable:
            try:
                return await self._inner.connect_tcp(address, port, limit, local_address, socket_options)
            except (OSError, httpcore.NetworkError, httpcore.TimeoutException) as problem:
                failure = problem
        if failure is not None:
            raise FetchError(f"{host} cannot be reached: {_cause(failure)}") from failure
        address, reason = next(iter(refused.items()))
        found = f"{host} is" if host == address else f"{host} is {address},"
        raise FetchError(f"{found} {reason}, which is not called unless mesh.jwks.allow has it")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature is httpcore's
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise FetchError("Unix sockets are not called")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


def _cause(problem: BaseException) -> str:
    """What the system said at the bottom of a failure."""
    said = str(problem) or type(problem).__name__
    below: BaseException | None = problem
    while below is not None:
        if isinstance(below, OSError) and below.errno is not None and below.errno > 0:
            said = os.strerror(below.errno)
        below = below.__cause__ or below.__context__
    return said


async def _resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, each once."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is no name"
        hint = " (services of the mesh are not called by name)" if ".svc." in host or "." not in host else ""
        raise FetchError(f"the name {host} cannot be resolved: {reason}{hint}") from problem
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not addresses:
        raise FetchError(f"the name {host} has no address")
    return addresses


class WebFetcher:
    """Fetches documents. ``allowed``: networks that may be called beside the public internet. ``roots``: a file with
    the certificates of public authorities, for where this machine's own place for them is not known."""

    def __init__(self, allowed: Sequence[Network] = (), roots: str = "") -> None:
        self._allowed = tuple(allowed)
        self._roots = roots
        self._tls: ssl.SSLContext | None = None

    async def fetch(self, url: str) -> bytes:
        """The body of a document of at most 1 MiB. Raises FetchError."""
        for _ in range(MAX_REDIRECTS + 1):
            problem = url_problem(url)
            if problem:
                raise FetchError(f"{url[:100]!r} {problem}")
            status, target, body = await self._ask(url)
            if status == 200:
                return body
            if status not in REDIRECTS or not target:
                raise FetchError(f"{url} answers with status {status}")
            url = _redirected(url, target)
        raise FetchError(f"there are more than {MAX_REDIRECTS} redirects")

    def _context(self) -> ssl.SSLContext:
        """What verifies servers, made when it is needed first."""
        if self._tls is None:
            self._tls = ssl.create_default_context()
            if not self._tls.cert_store_stats()["x509_ca"] and self._roots:
                with contextlib.suppress(OSError, ssl.SSLError):
                    self._tls.load_verify_locations(self._roots)
        return self._tls

    async def _ask(self, url: str) -> tuple[int, str, bytes]:
        """Status, ``Location`` and, for status 200, the body of one answer."""
        headers = [("Host", urlsplit(url).netloc), *HEADERS]
        backend = _Judged(self._allowed)
        try:
            async with (
                httpcore.AsyncConnectionPool(ssl_context=self._context(), network_backend=backend) as pool,
                pool.stream("GET", url, headers=headers) as response,
            ):
                target = _header(response, b"location").decode("latin-1")
                return response.status, target, await _body(url, response) if response.status == 200 else b""
        except (ssl.SSLError, httpcore.NetworkError, httpcore.ProtocolError, OSError) as problem:
            raise FetchError(f"{url} cannot be read: {problem or type(problem).__name__}") from problem


def _redirected(url: str, target: str) -> str:
    try:
        there = urljoin(url, target)
    except ValueError:
        raise FetchError(f"{url} redirects to what is no URL") from None
    if url.lower().startswith("https:") and not there.lower().startswith("https:"):
        raise FetchError(f"{url} redirects from https to {urlsplit(there).scheme[:20]}")
    return there


def _header(response: httpcore.Response, name: bytes) -> bytes:
    return next((bytes(value) for key, value in response.headers if key.lower() == name), b"")


async def _body(url: str, response: httpcore.Response) -> bytes:
    encoding = _header(response, b"content-encoding").lower()
    if encoding not in (b"", b"identity"):
        raise FetchError(f"the answer of {url} is compressed, which was not asked for")
    body = bytearray()
    chunks: AsyncIterator[bytes] = response.aiter_stream()
    async for chunk in chunks:
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise FetchError(f"the answer of {url} is larger than {MAX_BODY_BYTES >> 20} MiB")
    return bytes(body)
