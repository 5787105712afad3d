"""How adapters reach others over HTTP: documents from the web, with its limits, and servers that an operator names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import httpcore

from lateen.mixer.handlers import Web
from lateen.sources.web import FetchError, WebFetcher
from lateen.values.web_address import parse_networks

LONGEST_ANSWER = 1 << 20
LONGEST_WORDS = 300
MOST_CONNECTIONS = 100


class Reach:
    """One for all handlers of a mixer."""

    def __init__(self) -> None:
        self._fetcher = WebFetcher()
        self._pool = httpcore.AsyncConnectionPool(max_connections=MOST_CONNECTIONS)
        self.web = Web(self._fetch, self._post, self._send)

    def allow(self, networks: Sequence[str]) -> None:
        """Networks that documents may be fetched from beside the public internet."""
        self._fetcher = WebFetcher(parse_networks(networks))

    async def close(self) -> None:
        """Let go of connections."""
        await self._pool.aclose()

    async def _fetch(self, url: str) -> bytes:
        try:
            return await self._fetcher.fetch(url)
        except FetchError as problem:
            raise OSError(str(problem)) from problem

    async def _post(self, url: str, body: bytes) -> bytes:
        return await self._send("POST", url, body, {"content-type": "application/json"})

    async def _send(self, method: str, url: str, body: bytes, given: Mapping[str, str]) -> bytes:
        host = urlsplit(url).netloc
        headers = [("host", host), ("content-length", str(len(body))), *given.items()]
        try:
            answer = await self._pool.request(method, url, headers=headers, content=body)
        except (httpcore.NetworkError, httpcore.ProtocolError) as problem:
            raise OSError(f"{host} cannot be asked: {problem or type(problem).__name__}") from problem
        if not 200 <= answer.status < 300:
            words = " ".join(answer.content[:LONGEST_WORDS].decode(errors="replace").split())
            raise OSError(f"{host} answers with status {answer.status}: {words}".rstrip(": "))
        return answer.content[:LONGEST_ANSWER]
