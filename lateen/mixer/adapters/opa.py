"""``opa``: asks an Open Policy Agent over HTTP whether a request may go on.

The old adapter ran policies inside itself; here a real OPA does, which is told ``input`` as the old adapter told it:
subject and action of the ``authorization`` template. ``check_method`` names the rule (``data.mesh.allow``); what it
leaves undefined is refused. Policies of the handler are loaded into that OPA, and again where it has forgotten them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from lateen.mixer.adapter import PERMISSION_DENIED, CheckAdapter, CheckResult
from lateen.mixer.adapters.texts import plain
from lateen.mixer.templates import Authorization, Instance, Value

Send = Callable[[str, str, bytes, Mapping[str, str]], Awaitable[bytes]]
LOAD_WITHIN_S = 10.0
_JSON = {"content-type": "application/json"}
_REGO = {"content-type": "text/plain"}


class Opa(CheckAdapter):
    """``url`` is where OPA answers. ``valid`` (seconds) and ``uses``: how long and often a verdict holds.

    ``send`` is given a method, a URL, a body and headers, and gives the body of the answer, or raises OSError.
    ``policies`` are loaded under names that begin with ``folder``, where nothing else stays.
    """

    templates = frozenset({"authorization"})

    def __init__(
        self,
        url: str,
        check_method: str,
        send: Send,
        *,
        policies: Sequence[str] = (),
        folder: str = "lateen",
        valid: float = 5.0,
        uses: int = 1000,
    ) -> None:
        base = f"{url.rstrip('/')}/v1"
        self._url, self._policies_at = f"{base}/{check_method.replace('.', '/')}", f"{base}/policies"
        self._send = send
        self._folder = f"{folder}/"
        self._wanted = {f"{self._folder}{number}": text for number, text in enumerate(policies)}
        self._valid, self._uses = valid, uses
        self._loading = asyncio.ensure_future(self._load()) if policies else None

    async def check(self, instance: Instance) -> CheckResult:
        if not isinstance(instance, Authorization):
            raise TypeError(f"{type(instance).__name__} is not an authorization")
        body = msgspec.json.encode({"input": _input(instance)})
        await self._loaded()
        answer = await self._asked(body)
        if "result" not in answer and self._wanted and not self._wanted.keys() <= await self._there():
            await self._loaded(anew=True)
            answer = await self._asked(body)
        if answer.get("result") is True:
            return CheckResult(valid=self._valid, uses=self._uses)
        return CheckResult(PERMISSION_DENIED, "opa: request was rejected", self._valid, self._uses)

    async def _asked(self, body: bytes) -> dict[str, Any]:
        answer = msgspec.json.decode(await self._send("POST", self._url, body, _JSON))
        if not isinstance(answer, dict) or not isinstance(answer.get("result", False), bool):
            raise ValueError(f"OPA says neither true nor false: {str(answer)[:100]}")
        return answer

    async def _loaded(self, *, anew: bool = False) -> None:
        """Wait until the policies are there. Loading goes on even if whoever asks gives up, and is tried again."""
        if self._loading is None:
            return
        if self._loading.done() and (anew or self._loading.cancelled() or self._loading.exception() is not None):
            self._loading = asyncio.ensure_future(self._load())
        await asyncio.shield(self._loading)

    async def _load(self) -> None:
        async with asyncio.timeout(LOAD_WITHIN_S):
            for name in await self._there() - self._wanted.keys():
                await self._send("DELETE", self._at(name), b"", {})
            for name, text in self._wanted.items():
                await self._send("PUT", self._at(name), text.encode(), _REGO)

    async def close(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)

    async def _there(self) -> set[str]:
        """The policies in the handler's folder."""
        listed = msgspec.json.decode(await self._send("GET", self._policies_at, b"", {}), type=_Listed)
        return {one.id for one in listed.result if one.id.startswith(self._folder)}

    def _at(self, name: str) -> str:
        return f"{self._policies_at}/{quote(name)}"


class _Policy(msgspec.Struct):
    id: str


class _Listed(msgspec.Struct):
    result: list[_Policy] = []


def _input(instance: Authorization) -> dict[str, Any]:
    subject, action = instance.subject, instance.action
    return {
        "subject": {"user": subject.user, "groups": subject.groups, "properties": _plain(subject.properties)},
        "action": {
            "namespace": action.namespace,
            "service": action.service,
            "method": action.method,
            "path": action.path,
            "properties": _plain(action.properties),
        },
    }


def _plain(values: Mapping[str, Value]) -> dict[str, Any]:
    return {name: plain(value) for name, value in values.items() if value is not None}
