"""Plays calls through a real Envoy with a proxy's own configuration.

Comes in: the resources of one proxy, and calls. Goes out: for each call what Envoy did with it, or why it could not be
played. Many calls are under way at a time; which line of Envoy's log is whose says the port that a call came from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from lateen.control.playing.client import Exchange, TlsClient, Unplayable, exchange
from lateen.control.playing.credentials import PlayedCredentials
from lateen.control.playing.observed import Line, Observed, observe
from lateen.control.playing.process import Refused, running, short_folder
from lateen.control.playing.recorder import record
from lateen.envoy.played import CONNECTION, REQUEST, Door, Played, played
from lateen.envoy.resources import EnvoyResources
from lateen.explain.call import Call, Mode
from lateen.explain.simulate import INBOUND, OUTBOUND
from lateen.explain.verdict import Error

AT_A_TIME = 32
FIRST_PORT = 1024
AT_ONCE = 60_000
LOG_LIMIT_S = 5.0
LOG_POLL_S = 0.01


class NotPlayed(msgspec.Struct, frozen=True):
    """A call that no Envoy has seen, and why. ``refused``: because Envoy does not take the configuration."""

    reason: str
    refused: bool = False


Outcome = Observed | NotPlayed


async def play(
    resources: EnvoyResources, calls: Sequence[Call], *, trust_domain: str = "cluster.local", namespace: str = "default"
) -> tuple[Outcome, ...]:
    """What becomes of the calls, in their order. Raises OSError where Envoy cannot be started."""
    credentials = PlayedCredentials(trust_domain, namespace)
    outcomes: list[Outcome] = []
    with short_folder() as folder:
        made = played(resources, str(folder), credentials.server, credentials.roots)
        server = await record(folder / "upstream")
        try:
            async with running(folder, made.bootstrap):
                for start in range(0, len(calls), AT_ONCE):
                    (folder / "log").write_bytes(b"")
                    group = _Group(made, folder / "log", credentials)
                    outcomes.extend(await group.play(calls[start : start + AT_ONCE]))
        except Refused as problem:
            return tuple(NotPlayed(f"Envoy does not take this configuration: {problem}", refused=True) for _ in calls)
        finally:
            server.close()
    return tuple(outcomes)


class _Group:
    """Calls with ports of their own."""

    def __init__(self, made: Played, log: Path, credentials: PlayedCredentials) -> None:
        self._made = made
        self._log = log
        self._credentials = credentials
        self._client = TlsClient(credentials)
        self._free = asyncio.Semaphore(AT_A_TIME)

    async def play(self, calls: Sequence[Call]) -> list[Outcome]:
        got = await asyncio.gather(*(self._make(index, call) for index, call in enumerate(calls)))
        awaited = {FIRST_PORT + index for index, found in enumerate(got) if isinstance(found, Exchange)}
        connections, requests = await self._lines(awaited)
        outcomes: list[Outcome] = []
        for index, (call, found) in enumerate(zip(calls, got, strict=True)):
            if not isinstance(found, Exchange):
                outcomes.append(found)
                continue
            line = connections.get(FIRST_PORT + index)
            if line is None:
                outcomes.append(NotPlayed(f"Envoy says nothing of it ({found.broken or 'it has no end'})"))
                continue
            request = requests.get(line.get("connection"))
            outcomes.append(observe(call, found, line, request, self._made, self._credentials))
        return outcomes

    async def _make(self, index: int, call: Call) -> Exchange | Outcome:
        door = door_of(self._made.doors, call)
        if door is None:
            return Observed(Error.NO_LISTENER, detail=f"nothing listens on port {call.port}")
        async with self._free:
            try:
                return await exchange(door.path, call, FIRST_PORT + index, self._client)
            except Unplayable as problem:
                return NotPlayed(str(problem))

    async def _lines(self, ports: set[int]) -> tuple[Mapping[int, Line], Mapping[object, Line]]:
        """The lines of connections by port and of requests by connection, once all are there or it takes too long."""
        end = asyncio.get_running_loop().time() + LOG_LIMIT_S
        while True:
            connections: dict[int, Line] = {}
            requests: dict[object, Line] = {}
            for text in self._log.read_bytes().split(b"\n")[:-1]:
                line = msgspec.json.decode(text)
                if line["kind"] == CONNECTION:
                    connections[int(str(line["client"]).rpartition(":")[2])] = line
                elif line["kind"] == REQUEST:
                    requests[line["connection"]] = line
            if ports <= connections.keys() or asyncio.get_running_loop().time() > end:
                return connections, requests
            await asyncio.sleep(LOG_POLL_S)


def door_of(doors: Sequence[Door], call: Call) -> Door | None:
    """The socket that a call comes to: the one that captures, or the gateway's at its port, best at its address."""
    if call.mode is not Mode.GATEWAY:
        name = OUTBOUND if call.mode is Mode.OUTBOUND else INBOUND
        return next((door for door in doors if door.listener == name), None)
    near = [door for door in doors for _, port in door.places if port == call.port]
    exact = [door for door in near if (call.address, call.port) in door.places]
    return next(iter((*exact, *near)), None)
