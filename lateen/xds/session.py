"""One stream's state machine, without I/O: requests and resources in, responses out.

Comes in: decoded discovery requests, the proxy's resources, the time in seconds (any clock that only goes forward).
Goes out: serialised responses, one at a time, each made from the newest state at the moment it is asked for: what
changed twice meanwhile is sent once.

A proxy without resources (None: not known yet, or not any more) is told nothing, and keeps what it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from lateen.envoy.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE, EnvoyResource, EnvoyResources
from lateen.xds.framing import Frame, delta_piece, delta_response, world_response
from lateen.xds.ordering import NOTHING, ORDER, OnTheWay, must_wait, on_the_way, still_used
from lateen.xds.subscription import (
    EVERYTHING,
    Changes,
    Differ,
    Rejection,
    Subscription,
    differing_names,
    version_of_set,
)

WILDCARD_TYPES = (CLUSTER, LISTENER)
MAX_NAMES = 50_000
MAX_RESPONSE_BYTES = 2 * 1024 * 1024
PATIENCE = 10.0
RETRY_S = 2.0
"""Seconds after which a listener is sent again whose address another process has."""


class SessionRefused(Exception):
    """The client broke a limit; the stream ends with ``reason``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class SessionOptions(msgspec.Struct, frozen=True):
    """Limits of a stream.

    ``types`` are the type URLs that it serves. ``patience`` (seconds) bounds the wait for a client that says nothing
    about a cluster. ``max_names`` bounds the names of one type that a client may hold, ``max_response`` (bytes) a
    delta response, unless one resource alone is larger.
    """

    types: tuple[str, ...] = ORDER
    patience: float = PATIENCE
    max_names: int = MAX_NAMES
    max_response: int = MAX_RESPONSE_BYTES


class XdsSession:
    """What delta and state-of-the-world streams have in common; see ``DeltaSession`` and ``WorldSession``."""

    def __init__(
        self,
        *,
        options: SessionOptions | None = None,
        frame: Frame = delta_piece,
        differ: Differ = differing_names,
        on_rejection: Callable[[Rejection], None] | None = None,
    ) -> None:
        self._options = options or SessionOptions()
        self._frame = frame
        self._differ = differ
        self._on_rejection = on_rejection or (lambda _: None)
        self._resources: EnvoyResources | None = None
        self._nonce = 0
        self.subscriptions: dict[str, Subscription] = {}

    def on_resources(self, resources: EnvoyResources | None) -> None:
        """Aim at these resources from now on."""
        if resources is self._resources:
            return
        self._resources = resources
        if resources is None:
            return
        for type_url, subscription in self.subscriptions.items():
            subscription.retarget(resources.by_type.get(type_url, {}), self._differ)

    def on_request(self, message: Any, now: float = 0.0) -> None:
        """Take a request. Raises SessionRefused where it breaks a limit."""
        raise NotImplementedError

    def next_response(self, now: float = 0.0) -> bytes | None:
        """The next response to send, or None if there is nothing that may be sent now."""
        if self._resources is None:
            return None
        for type_url in ORDER:
            subscription = self.subscriptions.get(type_url)
            if subscription is None:
                continue
            if subscription.rejected:
                subscription.retry(now - RETRY_S)
            if subscription.owes_nothing_but_an_answer():
                return self._respond(subscription, {})
            if not subscription.todo:
                continue
            changes = self._due(subscription, now)
            if changes:
                return self._respond(subscription, changes)
        return None

    def outgoing(self, now: float = 0.0) -> list[bytes]:
        """Everything that may be sent now, in order."""
        responses = []
        while (response := self.next_response(now)) is not None:
            responses.append(response)
        return responses

    def backlog(self) -> int:
        """How many names may have to be sent, of all types."""
        return sum(len(subscription.todo) for subscription in self.subscriptions.values())

    def settled(self, resources: EnvoyResources | None) -> bool:
        """Whether the stream aims at these very resources, and the client has answered for all that it was sent."""
        return self._resources is resources and not any(
            subscription.todo or subscription.unanswered for subscription in self.subscriptions.values()
        )

    def deadline(self) -> float | None:
        """When to ask again even if nothing has happened, because a wait is then over; None if nothing waits."""
        moments = [
            since + self._options.patience
            for subscription in self.subscriptions.values()
            for since in subscription.waiting.values()
        ]
        moments += [
            refused.at + RETRY_S
            for subscription in self.subscriptions.values()
            if subscription.rejected
            for refused in subscription.retriable()
        ]
        return min(moments, default=None)

    # --- what goes out -----------------------------------------------------------------------------------------------

    def _due(self, subscription: Subscription, now: float) -> Changes:
        """The changes of the next response of this type; groups that go apart come after the rest."""
        apart = frozenset().union(*subscription.apart)
        changes = self._select(subscription, subscription.todo - apart if apart else subscription.todo, now)
        while not changes and subscription.apart:
            group = subscription.apart[0]
            changes = self._select(subscription, subscription.todo & group, now)
            if not changes:
                subscription.apart.remove(group)
        return changes

    def _select(self, subscription: Subscription, names: Iterable[str], now: float) -> Changes:
        """What of these names may go out now. Where an answer is owed for what must stay, it is what the client has."""
        changes: Changes = {}
        removals: list[str] = []
        size = 0
        gated = subscription.type_url in (LISTENER, ROUTE)
        missing = on_the_way(self.subscriptions) if gated else NOTHING
        for name, resource in subscription.due(sorted(names)):
            if resource is None:
                removals.append(name)
            elif not self._waits(subscription, resource, missing, now):
                size += len(resource.body)
                if changes and size > self._options.max_response and self._may_split(subscription):
                    break
                changes[name] = resource
        if removals:
            removable = self._removable(subscription, removals, now)
            changes.update(dict.fromkeys(removable))
            for name in subscription.owed.intersection(removals).difference(removable):
                changes[name] = subscription.sent[name]
        return changes

    def _waits(self, subscription: Subscription, resource: EnvoyResource, missing: OnTheWay, now: float) -> bool:
        if not must_wait(resource, missing, self.subscriptions):
            return False
        return now < subscription.waiting.setdefault(resource.name, now) + self._options.patience

    def _removable(self, subscription: Subscription, names: list[str], now: float) -> list[str]:
        """Those that nothing points at any more; what is not to be had must be said where it was asked for."""
        used, certain = still_used(subscription.type_url, self.subscriptions)
        removable = []
        for name in names:
            known = subscription.sent.get(name)
            if known is None or (name in subscription.owed and not known.body):
                removable.append(name)
            elif name in used:
                subscription.waiting.pop(name, None)
            elif certain or now >= subscription.waiting.setdefault(name, now) + self._options.patience:
                removable.append(name)
        return removable

    def _may_split(self, subscription: Subscription) -> bool:
        return True

    def _respond(self, subscription: Subscription, changes: Changes) -> bytes:
        raise NotImplementedError

    def _record(self, subscription: Subscription, changes: Changes) -> str:
        if subscription.type_url == CLUSTER:
            self._send_endpoints_again(changes)
        self._nonce += 1
        nonce = str(self._nonce)
        subscription.record(nonce, changes)
        return nonce

    def _send_endpoints_again(self, changes: Changes) -> None:
        """A cluster that changes warms anew, and waits for its endpoints although the client had them.

        Envoy does not ask for them again on a delta stream, and acknowledges no cluster meanwhile.
        """
        endpoints = self.subscriptions.get(ENDPOINT)
        if endpoints is None:
            return
        for resource in changes.values():
            for kind, name in resource.references if resource is not None else ():
                if kind == ENDPOINT and name in endpoints.sent:
                    endpoints.todo.add(name)
                    endpoints.owed.add(name)

    # --- what comes in -----------------------------------------------------------------------------------------------

    def _subscription(self, type_url: str) -> Subscription | None:
        """The state of a type; None for one that this stream does not serve, whose requests are passed over."""
        if type_url not in self._options.types:
            return None
        found = self.subscriptions.get(type_url)
        if found is None:
            found = self.subscriptions[type_url] = Subscription(type_url)
            if self._resources is not None:
                found.retarget(self._resources.by_type.get(type_url, {}))
        return found

    def _check_names(self, count: int) -> None:
        if count > self._options.max_names:
            raise SessionRefused(f"{count} names of one type; the limit is {self._options.max_names}")

    def _answered(self, subscription: Subscription, message: Any, now: float) -> bool:
        """Take the answer to a response. Whether there was one on its way."""
        nonce = message.response_nonce
        if nonce not in subscription.unanswered:
            return False
        if not message.HasField("error_detail"):
            return subscription.ack(nonce, now)
        before = dict(subscription.rejected)
        for rejection in subscription.nack(nonce, message.error_detail.message, now):
            known = before.get(rejection.name)
            if known is None or (known.version, known.error) != (rejection.version, rejection.error):
                self._on_rejection(rejection)
        return True

    def _type_of(self, message: Any) -> str:
        """A service of one type may leave the type out."""
        only = self._options.types[0] if len(self._options.types) == 1 else ""
        return str(message.type_url) or only


class DeltaSession(XdsSession):
    """The incremental protocol: takes ``DeltaDiscoveryRequest``, gives serialised ``DeltaDiscoveryResponse``."""

    def on_request(self, message: Any, now: float = 0.0) -> None:
        subscription = self._subscription(self._type_of(message))
        if subscription is None:
            return
        if message.response_nonce:
            self._answered(subscription, message, now)
        first = not subscription.begun
        subscription.begun = True
        versions: Mapping[str, str] = message.initial_resource_versions if first else {}
        self._check_names(len(subscription.names.union(message.resource_names_subscribe, versions)))
        if versions:
            subscription.resume(versions)
        if first and not message.resource_names_subscribe and subscription.type_url in WILDCARD_TYPES:
            subscription.subscribe_all()
        subscription.subscribe(message.resource_names_subscribe)
        if versions:
            self._settle_first(subscription)
        subscription.unsubscribe(message.resource_names_unsubscribe)

    def _settle_first(self, subscription: Subscription) -> None:
        """A client that comes back with the very version that it should have needs no answer.

        Endpoints are the exception: a cluster that was warming when the last stream ended still waits for them, and
        nothing in the request tells.
        """
        if subscription.type_url == ENDPOINT:
            return
        for name, have in subscription.sent.items():
            wanted = subscription.target.get(name)
            if self._resources is None or (wanted is not None and wanted.version == have.version):
                subscription.owed.discard(name)

    def _respond(self, subscription: Subscription, changes: Changes) -> bytes:
        type_url = subscription.type_url
        nonce = self._record(subscription, changes)
        pieces = [self._frame(type_url, resource) for resource in changes.values() if resource is not None]
        return delta_response(type_url, nonce, pieces, [name for name, found in changes.items() if found is None])


class WorldSession(XdsSession):
    """State of the world: takes ``DiscoveryRequest``, gives serialised ``DiscoveryResponse``.

    Clusters and listeners come as whole sets, where one that is refused or has to wait stands as it was before. Of the
    other types only what changed is sent, as the protocol allows. ``version_info`` is a hash of the whole set, so
    that a client which comes back with it needs nothing. One that comes back with another version loses at once what
    is not in the new set, as its old set is not known here: where that matters, use delta.
    """

    def __init__(
        self,
        *,
        options: SessionOptions | None = None,
        frame: Frame = delta_piece,
        differ: Differ = differing_names,
        on_rejection: Callable[[Rejection], None] | None = None,
    ) -> None:
        super().__init__(options=options, frame=frame, differ=differ, on_rejection=on_rejection)
        self._claimed: dict[str, str] = {}

    def on_resources(self, resources: EnvoyResources | None) -> None:
        super().on_resources(resources)
        for subscription in self.subscriptions.values():
            self._compare_claim(subscription)

    def on_request(self, message: Any, now: float = 0.0) -> None:
        subscription = self._subscription(self._type_of(message))
        if subscription is None:
            return
        names = set(message.resource_names)
        self._check_names(len(names))
        first = not subscription.begun
        subscription.begun = True
        if first and message.version_info:
            self._claimed[subscription.type_url] = message.version_info
        answer = bool(message.response_nonce) and not first and self._answered(subscription, message, now)
        if not first and message.response_nonce and message.response_nonce != subscription.last_nonce:
            return
        again = not first and not answer and names == subscription.names
        self._set_names(subscription, names, first, again)
        self._compare_claim(subscription)

    def _set_names(self, subscription: Subscription, names: set[str], first: bool, again: bool) -> None:
        """Each request says all names; with ``again`` the client asks once more for what it was sent."""
        everything = EVERYTHING in names or (
            subscription.type_url in WILDCARD_TYPES and not names and (first or not subscription.names)
        )
        if everything and not subscription.wildcard:
            subscription.subscribe_all()
        if subscription.wildcard and not everything:
            subscription.unsubscribe([EVERYTHING])
        explicit = names - {EVERYTHING}
        subscription.unsubscribe(subscription.names - explicit)
        if subscription.type_url in WILDCARD_TYPES:
            again = False
        subscription.subscribe(sorted(explicit if again else explicit - subscription.names))

    def _compare_claim(self, subscription: Subscription) -> None:
        """Where a client that comes back has the version of the present set, it has all of it but endpoints."""
        if self._resources is None or not subscription.begun or subscription.type_url == ENDPOINT:
            return
        claim = self._claimed.pop(subscription.type_url, "")
        wanted = [found for name, found in subscription.target.items() if subscription.wants(name)]
        if claim and claim == version_of_set(wanted):
            subscription.sent.update((found.name, found) for found in wanted)
            subscription.owed.difference_update(subscription.sent)

    def _may_split(self, subscription: Subscription) -> bool:
        return subscription.type_url not in WILDCARD_TYPES

    def _respond(self, subscription: Subscription, changes: Changes) -> bytes:
        nonce = self._record(subscription, changes)
        whole = subscription.type_url in WILDCARD_TYPES
        resources = subscription.sent.values() if whole else [found for found in changes.values() if found is not None]
        version = version_of_set(subscription.sent.values())
        return world_response(subscription.type_url, nonce, version, resources)
