"""Tokens by which adapters outside Mixer are called: from a file, or of an OAuth server by client credentials.

Comes in: what a handler's connection says. Goes out: a token. One of a server is kept until shortly before it ends; it
goes on being fetched if whoever asked first gives up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from urllib.parse import urlencode

import msgspec

from lateen.resources.mixer.outside import OAuth

Send = Callable[[str, str, bytes, Mapping[str, str]], Awaitable[bytes]]
FETCH_WITHIN_S = 5.0
EARLY_S = 30.0
"""So long before its end a token is not used any more; or for the first half of its time, where that is shorter."""
DEFAULT_LIFE_S = 60.0
_FORM = {"content-type": "application/x-www-form-urlencoded"}


class Tokens:
    """``get`` gives a token. Raises OSError or ValueError."""

    def __init__(self, path: str, oauth: OAuth | None, send: Send, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._oauth, self._send, self._clock = path, oauth, send, clock
        self._kept = ("", 0.0)
        self._fetching: asyncio.Task[str] | None = None

    async def get(self) -> str:
        """The token that is good now."""
        if self._oauth is None:
            return Path(self._path).read_text().strip()
        token, until = self._kept
        if token and self._clock() < until:
            return token
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.ensure_future(self._fetch(self._oauth))
        return await asyncio.shield(self._fetching)

    async def _fetch(self, oauth: OAuth) -> str:
        secret = Path(oauth.client_secret).read_text().strip() if oauth.client_secret else ""
        asked = {
            "grant_type": "client_credentials",
            "client_id": oauth.client_id,
            "client_secret": secret,
            "scope": " ".join(oauth.scopes),
            **oauth.endpoint_params,
        }
        body = urlencode({name: value for name, value in asked.items() if value}).encode()
        async with asyncio.timeout(FETCH_WITHIN_S):
            answer = msgspec.json.decode(await self._send("POST", oauth.token_url, body, _FORM), type=_Answer)
        life = answer.expires_in if answer.expires_in is not None else DEFAULT_LIFE_S
        self._kept = (answer.access_token, self._clock() + max(life - EARLY_S, life / 2))
        return answer.access_token

    async def close(self) -> None:
        """Let go of a token that is being fetched."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)


class _Answer(msgspec.Struct):
    access_token: str
    expires_in: float | None = None
