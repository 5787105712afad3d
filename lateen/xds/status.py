"""How far every proxy is: what it was sent, what it accepted, what it refused.

Comes in: the sessions of running streams. Goes out: one row for each proxy and type, made when asked for; what a proxy
had when its stream ended is remembered until it comes back or is forgotten.
"""

from __future__ import annotations

import enum
from collections.abc import Collection

import msgspec

from lateen.envoy.resources import EnvoyResource, EnvoyResources
from lateen.xds.ordering import ORDER
from lateen.xds.session import XdsSession
from lateen.xds.subscription import Rejection, Subscription, version_of_set

Versions = dict[int, str]
"""Hashes by the identity of the set, while rows are made."""


class SyncState(enum.Enum):
    """Where one type of one proxy stands. STALE: something is on its way, or waits for its turn."""

    SYNCED = "SYNCED"
    NOT_SENT = "NOT SENT"
    STALE = "STALE"
    NACKED = "NACKED"


class TypeStatus(msgspec.Struct, frozen=True):
    """One row. Versions are hashes of whole sets; ``last_ack`` is in the server's seconds (None: never)."""

    proxy_id: str
    type_url: str
    state: SyncState
    connected: bool
    resources: int = 0
    sent_version: str = ""
    acked_version: str = ""
    last_ack: float | None = None
    rejections: tuple[Rejection, ...] = ()

    @property
    def error(self) -> str:
        """What the proxy said against it, one line for each resource."""
        return "\n".join(f"{rejection.name}: {rejection.error}" for rejection in self.rejections)


class StatusBoard:
    """Knows the sessions of every proxy."""

    def __init__(self) -> None:
        self._sessions: dict[str, list[XdsSession]] = {}
        self._last: dict[str, tuple[TypeStatus, ...]] = {}
        self._forgotten: set[str] = set()

    def attach(self, proxy_id: str, session: XdsSession) -> None:
        """A stream of this proxy has begun."""
        self._forgotten.discard(proxy_id)
        self._sessions.setdefault(proxy_id, []).append(session)

    def detach(self, proxy_id: str, session: XdsSession) -> None:
        """The stream has ended; its last state is kept as that of a proxy that is not connected."""
        ended = self._rows_of(proxy_id, {})
        sessions = self._sessions.get(proxy_id, [])
        if session in sessions:
            sessions.remove(session)
        if sessions:
            return
        self._sessions.pop(proxy_id, None)
        if proxy_id not in self._forgotten:
            self._last[proxy_id] = tuple(msgspec.structs.replace(row, connected=False) for row in ended)
        self._forgotten.discard(proxy_id)

    def forget(self, proxy_id: str) -> None:
        """The proxy is gone for good; a stream that it still has is not remembered when it ends."""
        self._last.pop(proxy_id, None)
        if proxy_id in self._sessions:
            self._forgotten.add(proxy_id)

    def connected(self) -> frozenset[str]:
        """The proxies that have a stream now."""
        return frozenset(self._sessions)

    def settled(self, proxy_id: str, resources: EnvoyResources | None) -> bool:
        """Whether every stream of a proxy has taken in these resources of the cache; so it is where it has none."""
        return all(session.settled(resources) for session in self._sessions.get(proxy_id, ()))

    def rows(self, proxy_id: str | None = None) -> tuple[TypeStatus, ...]:
        """One row for each type of one proxy, or of all proxies in the order of their ids."""
        wanted = [proxy_id] if proxy_id is not None else sorted(self._sessions.keys() | self._last.keys())
        versions: Versions = {}
        return tuple(row for proxy in wanted for row in self._rows_of(proxy, versions))

    def rejections(self) -> tuple[tuple[str, Rejection], ...]:
        """Everything that connected proxies refuse at present, as (proxy id, rejection)."""
        return tuple(
            (proxy_id, rejection)
            for proxy_id in sorted(self._sessions)
            for subscription in self._current(proxy_id).values()
            for rejection in subscription.rejected.values()
        )

    def _current(self, proxy_id: str) -> dict[str, Subscription]:
        """By type, what the newest stream that has spoken of it says."""
        current: dict[str, Subscription] = {}
        for session in self._sessions.get(proxy_id, ()):
            current.update((url, found) for url, found in session.subscriptions.items() if found.begun)
        return current

    def _rows_of(self, proxy_id: str, versions: Versions) -> list[TypeStatus]:
        if proxy_id not in self._sessions:
            return list(self._last.get(proxy_id, ()))
        current = self._current(proxy_id)
        return [
            _row(proxy_id, current[type_url], versions)
            if type_url in current
            else TypeStatus(proxy_id, type_url, SyncState.NOT_SENT, connected=True)
            for type_url in ORDER
        ]


def _row(proxy_id: str, subscription: Subscription, versions: Versions) -> TypeStatus:
    sent, acked = _versions(subscription, versions)
    return TypeStatus(
        proxy_id=proxy_id,
        type_url=subscription.type_url,
        state=_state(subscription),
        connected=True,
        resources=len(subscription.sent),
        sent_version=sent,
        acked_version=acked,
        last_ack=subscription.last_ack,
        rejections=tuple(subscription.rejected.values()),
    )


def _versions(subscription: Subscription, versions: Versions) -> tuple[str, str]:
    """What was sent and what was accepted; proxies that are in step with the same set need one hash together."""
    if subscription.is_complete():
        known = versions.get(id(subscription.target))
        if known is None:
            known = versions[id(subscription.target)] = _version(subscription.target.values())
        return known, known
    names = subscription.sent.keys() | subscription.awaiting.keys()
    accepted = [found for name in names if (found := subscription.accepted(name)) is not None]
    return _version(subscription.sent.values()), _version(accepted)


def _version(resources: Collection[EnvoyResource]) -> str:
    return version_of_set(resources) if resources else ""


def _state(subscription: Subscription) -> SyncState:
    if subscription.rejected:
        return SyncState.NACKED
    if subscription.unanswered or subscription.todo:
        return SyncState.STALE
    if subscription.sent or subscription.was_sent:
        return SyncState.SYNCED
    return SyncState.NOT_SENT
