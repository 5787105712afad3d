"""``opa``: asks an Open Policy Agent over HTTP whether a request may go on.

The old adapter ran policies inside itself; here they stand in a real OPA, which is told ``input`` as the old adapter
told them: subject and action of the ``authorization`` template. ``check_method`` names the rule (``data.mesh.allow``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from lateen.mixer.adapter import PERMISSION_DENIED, CheckAdapter, CheckResult
from lateen.mixer.adapters.texts import plain
from lateen.mixer.templates import Authorization, Instance, Value

Post = Callable[[str, bytes], Awaitable[bytes]]


class Opa(CheckAdapter):
    """``url`` is where OPA answers. ``valid`` (seconds) and ``uses``: how long and often a verdict holds.

    ``post`` sends a JSON body to a URL and gives the body of the answer, or raises OSError.
    """

    templates = frozenset({"authorization"})

    def __init__(self, url: str, check_method: str, post: Post, *, valid: float = 5.0, uses: int = 1000) -> None:
        self._url = f"{url.rstrip('/')}/v1/{check_method.replace('.', '/')}"
        self._post = post
        self._valid, self._uses = valid, uses

    async def check(self, instance: Instance) -> CheckResult:
        if not isinstance(instance, Authorization):
            raise TypeError(f"{type(instance).__name__} is not an authorization")
        body = msgspec.json.encode({"input": _input(instance)})
        answer = msgspec.json.decode(await self._post(self._url, body))
        if not isinstance(answer, dict) or not isinstance(answer.get("result"), bool):
            raise ValueError(f"OPA says neither true nor false: {str(answer)[:100]}")
        if answer["result"]:
            return CheckResult(valid=self._valid, uses=self._uses)
        return CheckResult(PERMISSION_DENIED, "opa: request was rejected", self._valid, self._uses)


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
