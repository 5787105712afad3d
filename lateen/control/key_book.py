"""Keys of tokens that are fetched: kept, refreshed, and told where they cannot be had.

Comes in: which sources the rules name. Goes out: the keys of each that has been read, for planning; findings on the
others; and a call whenever keys have changed. The last good keys go on while a source fails. They are kept in the run
directory too, so that a control plane that starts while an issuer is away does not refuse its tokens; there they hold
for a day.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

import msgspec

from lateen.control.last_good import write_whole
from lateen.findings import Finding, error, warning
from lateen.mesh.token_keys import KeySource, KeyUse, TokenKeys
from lateen.resources.key_set import KeySet, KeySetError, read_discovery, read_key_set
from lateen.sources.web import FetchError, WebFetcher

LOG = logging.getLogger("lateen.control.keys")
KEPT_S = 24 * 3600.0
CLOCK_SKEW_S = 300.0
FIRST_WAIT_S = 2.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 300.0
AT_ONCE = 16


class _Kept(msgspec.Struct, frozen=True):
    """One file of the run directory. ``fetched``: seconds since the epoch."""

    uri: str
    issuer: str
    keys: str
    fetched: float


class _Entry:
    """One source that is followed. ``keys`` empty: never read."""

    def __init__(self, kept: _Kept | None) -> None:
        self.timeout = 0.0
        self.keys = kept.keys if kept is not None else ""
        self.fetched = kept.fetched if kept is not None else 0.0
        self.problem = ""
        self.left_out = ""
        self.tried = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class KeyBook:
    """Follows sources of keys. ``changed`` is called once other keys hold than before.

    ``refresh``: after how many seconds keys are read again. What fails is tried again sooner, with growing pauses.
    """

    def __init__(self, folder: Path, fetcher: WebFetcher, refresh: float, changed: Callable[[], None]) -> None:
        self._folder = folder
        self._fetcher = fetcher
        self._refresh = refresh
        self._changed = changed
        self._entries: dict[KeySource, _Entry] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    @property
    def keys(self) -> TokenKeys:
        """The keys of every source that has been read."""
        return {source: entry.keys for source, entry in self._entries.items() if entry.keys}

    async def follow(self, uses: Sequence[KeyUse]) -> None:
        """Follow exactly these sources. Waits a moment for the first answer of those that are new."""
        wanted: dict[KeySource, float] = {}
        for use in uses:
            wanted[use.source] = max(wanted.get(use.source, 0.0), use.timeout)
        for gone in self._entries.keys() - wanted.keys():
            self._forget(gone)
        new = wanted.keys() - self._entries.keys()
        for source in new:
            entry = self._entries[source] = _Entry(self._read(source))
            entry.task = asyncio.ensure_future(self._keep(source, entry))
        for source, seconds in wanted.items():
            self._entries[source].timeout = seconds
        first = [self._entries[source].tried.wait() for source in new if not self._entries[source].keys]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_WAIT_S):
                await asyncio.gather(*first)

    async def stop(self) -> None:
        """Fetch nothing more; what is kept stays."""
        tasks = [entry.task for entry in self._entries.values() if entry.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def findings(self, uses: Iterable[KeyUse]) -> tuple[Finding, ...]:
        """What is wrong with the keys of each rule."""
        found = []
        for use in dict.fromkeys(uses):
            entry = self._entries.get(use.source)
            if entry is None:
                continue
            if entry.left_out:
                found.append(warning("unused-key", f"of what was fetched, {entry.left_out}", use.origin))
            if entry.problem and entry.keys:
                since = datetime.datetime.fromtimestamp(entry.fetched, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                message = f"the keys cannot be read again: {entry.problem}; those of {since} go on"
                found.append(warning("keys-not-refreshed", message, use.origin))
            elif entry.problem:
                message = f"there are no keys: {entry.problem}; until there are, all tokens for this rule are refused"
                found.append(error("keys-not-fetched", message, use.origin, "mend that, or give the keys in jwks"))
        return tuple(found)

    async def _keep(self, source: KeySource, entry: _Entry) -> None:
        """Read a source for ever."""
        failures = 0
        while True:
            try:
                async with self._slots:
                    found = await _fetched(self._fetcher, source, entry.timeout)
            except (FetchError, KeySetError) as problem:
                failures += 1
                self._fail(source, entry, str(problem))
            except Exception as problem:  # a failure of ours costs this source alone
                failures += 1
                LOG.exception("keys of %r", source.uri)
                self._fail(source, entry, f"Lateen failed: {type(problem).__name__}")
            else:
                failures = 0
                self._take(source, entry, found)
            entry.tried.set()
            await asyncio.sleep(self._pause(failures))

    def _pause(self, failures: int) -> float:
        """Seconds until a source is read again, never the same for all."""
        if not failures:
            return self._refresh * random.uniform(0.9, 1.0)  # noqa: S311 - it spreads load and hides nothing
        longest = min(self._refresh, LONGEST_PAUSE_S)
        return min(longest, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 20)) * random.uniform(0.5, 1.0)  # noqa: S311

    def _fail(self, source: KeySource, entry: _Entry, problem: str) -> None:
        if problem != entry.problem:
            LOG.warning("keys of %r: %s", source.uri, problem)
        entry.problem = problem

    def _take(self, source: KeySource, entry: _Entry, found: KeySet) -> None:
        if entry.problem:
            LOG.info("keys of %r are read again", source.uri)
        differs = found.text != entry.keys
        entry.keys, entry.left_out, entry.problem, entry.fetched = found.text, found.left_out, "", time.time()
        kept = _Kept(source.uri, source.issuer, found.text, entry.fetched)
        with contextlib.suppress(OSError):  # a full disk takes no keys away from running proxies
            write_whole(self._place(source), msgspec.json.encode(kept))
        if differs:
            self._changed()

    def _forget(self, source: KeySource) -> None:
        entry = self._entries.pop(source)
        if entry.task is not None:
            entry.task.cancel()
        with contextlib.suppress(OSError):
            self._place(source).unlink(missing_ok=True)

    def _place(self, source: KeySource) -> Path:
        name = blake2b(f"{source.issuer}\n{source.uri}".encode(errors="replace"), digest_size=16).hexdigest()
        return self._folder / f"{name}.json"

    def _read(self, source: KeySource) -> _Kept | None:
        """What the control plane before this one has kept of a source, unless it is too old."""
        try:
            kept = msgspec.json.decode(self._place(source).read_bytes(), type=_Kept)
            text = read_key_set(kept.keys).text
        except (OSError, msgspec.MsgspecError, KeySetError):
            return None
        age = time.time() - kept.fetched
        same = (kept.uri, kept.issuer) == (source.uri, source.issuer)
        return msgspec.structs.replace(kept, keys=text) if same and -CLOCK_SKEW_S <= age <= KEPT_S else None


async def _fetched(fetcher: WebFetcher, source: KeySource, seconds: float) -> KeySet:
    """Read the keys of a source, all within ``seconds``. Raises FetchError or KeySetError."""
    try:
        async with asyncio.timeout(seconds):
            uri = source.uri
            if source.issuer:
                uri = read_discovery(await fetcher.fetch(uri), source.issuer)
                if source.uri.lower().startswith("https:") and not uri.lower().startswith("https:"):
                    raise FetchError("the issuer's description is at https, its keys are not")
            try:
                return read_key_set(await fetcher.fetch(uri))
            except KeySetError as problem:
                raise KeySetError(f"{uri[:200]} is no usable set of public keys: {problem}") from None
    except TimeoutError:
        raise FetchError(f"{source.uri[:200]} does not answer within {seconds:g} s") from None
