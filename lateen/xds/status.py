"""How far every proxy is: what it was sent, what it accepted, what it refused.

Comes in: the sessions of running streams. Goes out: one row for each proxy and type, made when asked for; what a proxy
had when its stream ended is remembered until it comes back or is forgotten.
"""

from __future__ import annotations

import enum

import msgspec

from lateen.xds.ordering import ORDER
from lateen.xds.session import XdsSession
from lateen.xds.subscription import Rejection, Subscription, version_of_set


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
        self._last: dict[str, dict[str, TypeStatus]] = {}

    def attach(self, proxy_id: str, session: XdsSession) -> None:
        self._sessions.setdefault(proxy_id, []).append(session)

    def detach(self, proxy_id: str, session: XdsSession) -> None:
        """The stream has ended; its last state is kept as that of a proxy that is not connected."""
        ended = {row.type_url: row for row in self._rows_of(proxy_id)}
        sessions = self._sessions.get(proxy_id, [])
        if session in sessions:
            sessions.remove(session)
        if not sessions:
            self._sessions.pop(proxy_id, None)
            self._last[proxy_id] = {
                type_url: msgspec.structs.replace(row, connected=False) for type_url, row in ended.items()
            }

    def forget(self, proxy_id: str) -> None:
        """The proxy is gone for good."""
        self._last.pop(proxy_id, None)

    def connected(self) -> frozenset[str]:
        """The proxies that have a stream now."""
        return frozenset(self._sessions)

    def rows(self, proxy_id: str | None = None) -> tuple[TypeStatus, ...]:
        """One row for each type of one proxy, or of all proxies in the order of their ids."""
        wanted = [proxy_id] if proxy_id is not None else sorted(self._sessions.keys() | self._last.keys())
        return tuple(row for proxy in wanted for row in self._rows_of(proxy))

    def rejections(self) -> tuple[tuple[str, Rejection], ...]:
        """Everything that proxies refuse at present, as (proxy id, rejection)."""
        return tuple((row.proxy_id, rejection) for row in self.rows() for rejection in row.rejections)

    def _rows_of(self, proxy_id: str) -> list[TypeStatus]:
        """The newest stream that has spoken of a type tells; streams of single secrets are read together."""
        sessions = self._sessions.get(proxy_id)
        if sessions is None:
            return list(self._last.get(proxy_id, {}).values())
        rows = []
        for type_url in ORDER:
            begun = [found for session in sessions if (found := session.subscriptions.get(type_url)) and found.begun]
            if begun:
                rows.append(_row(proxy_id, begun[-1]))
            else:
                rows.append(TypeStatus(proxy_id, type_url, SyncState.NOT_SENT, connected=True))
        return rows


def _row(proxy_id: str, subscription: Subscription) -> TypeStatus:
    accepted = [found for name in subscription.sent.keys() | subscription.awaiting.keys()
                if (found := subscription.accepted(name)) is not None]  # fmt: skip
    return TypeStatus(
        proxy_id=proxy_id,
        type_url=subscription.type_url,
        state=_state(subscription),
        connected=True,
        resources=len(subscription.sent),
        sent_version=version_of_set(subscription.sent.values()) if subscription.sent else "",
        acked_version=version_of_set(accepted) if accepted else "",
        last_ack=subscription.last_ack,
        rejections=tuple(subscription.rejected.values()),
    )


def _state(subscription: Subscription) -> SyncState:
    if subscription.rejected:
        return SyncState.NACKED
    if subscription.unanswered or subscription.todo:
        return SyncState.STALE
    if subscription.sent or subscription.was_sent:
        return SyncState.SYNCED
    return SyncState.NOT_SENT
