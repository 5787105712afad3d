"""Listen to the control plane from the supervisor's side: its findings as they come and go, and whether all is in sync.

The control plane may be gone at any moment; what it said last then stays.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from lateen.local.events import EventLog
from lateen.local.service_child import ServiceChild
from lateen.local.status import FindingStatus
from lateen.local.uds_http import request

POLL_S = 0.3
SYNC_POLL_S = 0.01
SYNCED = "SYNCED"


class ControlFinding(msgspec.Struct, frozen=True):
    """A finding as ``/v1/findings`` of the control plane tells it."""

    severity: str
    code: str
    message: str
    text: str
    remedy: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    file: str = ""
    line: int = 0
    path: str = ""

    def status(self) -> FindingStatus:
        owner = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return FindingStatus(
            code=self.code,
            severity=self.severity,
            message=self.message,
            remedy=self.remedy,
            path=self.file,
            line=self.line,
            field=self.path,
            resource=f"{self.kind} {owner}",
            text=self.text,
        )


class _Findings(msgspec.Struct, frozen=True):
    findings: tuple[ControlFinding, ...]


class ControlWatch:
    """Keeps ``findings`` true and tells news on them."""

    def __init__(self, socket: Path, control: ServiceChild, events: EventLog) -> None:
        self.findings: tuple[FindingStatus, ...] = ()
        self._socket = socket
        self._control = control
        self._events = events

    async def run(self) -> None:
        """Ask again and again, for ever."""
        while True:
            await self._control.ready.wait()
            await self.look()
            await asyncio.sleep(POLL_S)

    async def look(self) -> None:
        """Ask once."""
        try:
            status, body = await request(self._socket, "/v1/findings")
            if status != 200:
                return
            found = tuple(one.status() for one in msgspec.json.decode(body, type=_Findings).findings)
        except (OSError, TimeoutError, msgspec.MsgspecError):
            return
        before, self.findings = self.findings, found
        for finding in found:
            if finding not in before:
                self._events.emit("finding", finding.text)
        if before and not found:
            self._events.emit("findings-mended", "nothing is wrong with the resources any more")

    async def wait_synced(self, instances: frozenset[str], bound_s: float) -> bool:
        """Wait until each of these counts as ready and has accepted what it was sent; False if that took too long."""
        try:
            async with asyncio.timeout(bound_s):
                while not await self._synced(instances):  # noqa: ASYNC110 - another process is waited for
                    await asyncio.sleep(SYNC_POLL_S)
        except TimeoutError:
            return False
        return True

    async def _synced(self, instances: frozenset[str]) -> bool:
        try:
            _, body = await request(self._socket, "/v1/proxies")
            answer: Any = msgspec.json.decode(body)
            proxies = {proxy["id"]: proxy for proxy in answer["proxies"] if proxy["ready"]}
            states = {kind["state"] for name in instances for kind in proxies[name]["types"].values()}
            return bool(answer["settled"]) and states <= {SYNCED, "NOT SENT", "NACKED"}
        except (OSError, TimeoutError, msgspec.MsgspecError, KeyError, TypeError):
            return False
