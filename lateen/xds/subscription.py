"""What one client wants, was sent and has accepted of one type.

Comes in: names, versions, answers. Goes out: which names differ from the target, and what the client holds. It is the
bookkeeping under a session, the same for delta and for state-of-the-world streams.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b

import msgspec

from lateen.envoy.resources import EnvoyResource
from lateen.values.names import Origin

EVERYTHING = "*"
MAX_UNANSWERED = 32
"""Responses without an answer that are told apart; beyond it the oldest are taken together."""
MAX_ERROR_LENGTH = 4096

Changes = dict[str, EnvoyResource | None]
"""What one response does: name -> resource, or None for a removal."""


Differ = Callable[[Mapping[str, EnvoyResource], Mapping[str, EnvoyResource]], Sequence[str]]
"""Gives the names that differ between two sets."""


class Rejection(msgspec.Struct, frozen=True):
    """One resource that a proxy refused: which version, why (Envoy's words), and whose it is. ``at`` in seconds."""

    type_url: str
    name: str
    version: str
    error: str
    origin: Origin | None
    at: float


def version_of_set(resources: Iterable[EnvoyResource]) -> str:
    """One version for several resources: a hash of names and versions, whatever their order."""
    digest = blake2b(digest_size=16)
    for name, version in sorted((resource.name, resource.version) for resource in resources):
        digest.update(f"{name}\0{version}\0".encode())
    return digest.hexdigest()


def differing_names(before: Mapping[str, EnvoyResource], after: Mapping[str, EnvoyResource]) -> Sequence[str]:
    """The names whose resources are not the same objects, and those that only one of both has."""
    changed = [name for name, resource in after.items() if before.get(name) is not resource]
    changed.extend(name for name in before if name not in after)
    return changed


class Subscription:
    """The state of one type on one stream.

    ``sent`` is what the client has once everything on its way is applied; ``awaiting`` is, for each name on its way,
    what the client accepted before, and ``latest`` the nonce that has to be answered for it; ``leaving`` has the nonce
    of a removal on its way. ``todo`` names what may have to be sent, ``owed`` what must be answered even if nothing
    changed. ``apart`` are groups that go out by themselves, to find which of them a client refuses.
    """

    def __init__(self, type_url: str) -> None:
        self.type_url = type_url
        self.begun = False
        self.resumed = False
        self.wildcard = False
        self.names: set[str] = set()
        self.target: Mapping[str, EnvoyResource] = {}
        self.sent: dict[str, EnvoyResource] = {}
        self.awaiting: dict[str, EnvoyResource | None] = {}
        self.latest: dict[str, str] = {}
        self.leaving: dict[str, str] = {}
        self.rejected: dict[str, Rejection] = {}
        self.todo: set[str] = set()
        self.owed: set[str] = set()
        self.apart: list[frozenset[str]] = []
        self.waiting: dict[str, float] = {}
        self.unanswered: dict[str, Changes] = {}
        self.last_nonce = ""
        self.last_ack: float | None = None
        self.was_sent = False

    # --- what the client wants ---------------------------------------------------------------------------------------

    def wants(self, name: str) -> bool:
        return self.wildcard or name in self.names

    def subscribe(self, names: Iterable[str]) -> None:
        """Every name is answered, also one that was subscribed before, also one that does not exist."""
        for name in names:
            if name == EVERYTHING:
                self.subscribe_all()
                continue
            known = self.target.get(name)
            shared = known.name if known is not None else name
            self.names.add(shared)
            self.todo.add(shared)
            self.owed.add(shared)
            self.rejected.pop(name, None)

    def subscribe_all(self) -> None:
        self.wildcard = True
        self.todo.update(self.target)

    def unsubscribe(self, names: Iterable[str]) -> None:
        for name in names:
            if name == EVERYTHING:
                self.wildcard = False
                for other in [held for held in self.sent if held not in self.names]:
                    self._forget(other)
                self.todo &= self.names
                continue
            self.names.discard(name)
            if self.wildcard:
                self.todo.add(name)
                self.owed.add(name)
            else:
                self._forget(name)

    def resume(self, versions: Mapping[str, str]) -> None:
        """Take over what the client says that it has. Of a version other than the target's, only the name is known."""
        self.resumed = True
        for name, version in versions.items():
            known = self.target.get(name)
            if known is None or known.version != version:
                known = EnvoyResource(name, version, b"")
            self.sent[known.name] = known
            self.todo.add(known.name)

    def _forget(self, name: str) -> None:
        for place in (self.sent, self.awaiting, self.latest, self.leaving, self.rejected, self.waiting):
            place.pop(name, None)
        self.todo.discard(name)
        self.owed.discard(name)

    def owes_nothing_but_an_answer(self) -> bool:
        """Whether the client asked for everything, there is nothing, and it has not been told so: it waits for that."""
        return self.wildcard and not (self.target or self.sent or self.resumed or self.last_nonce)

    # --- what it should have -----------------------------------------------------------------------------------------

    def retarget(self, target: Mapping[str, EnvoyResource], differ: Differ = differing_names) -> None:
        """Aim at new content."""
        before, self.target = self.target, target
        if target is before:
            return
        changed = differ(before, target)
        self.todo.update(changed if self.wildcard else self.names.intersection(changed))

    def due(self, names: Iterable[str]) -> Iterator[tuple[str, EnvoyResource | None]]:
        """Those of the names in ``todo`` that need sending; the others are struck off."""
        for name in names:
            wanted, have = self.target.get(name), self.sent.get(name)
            if name not in self.owed and self._is_current(name, wanted, have):
                self.todo.discard(name)
                self.waiting.pop(name, None)
                continue
            yield name, wanted

    def _is_current(self, name: str, wanted: EnvoyResource | None, have: EnvoyResource | None) -> bool:
        """Whether nothing has to be said; what was refused is forgotten once nobody wants it any more."""
        if wanted is not None and have is not None and wanted.version == have.version:
            self.sent[name] = wanted
        elif wanted is not None or have is not None:
            refused = self.rejected.get(name)
            return refused is not None and refused.version == (wanted.version if wanted is not None else "")
        self.rejected.pop(name, None)
        return True

    def is_complete(self) -> bool:
        """Whether the client has accepted the whole target."""
        return not (self.todo or self.latest or self.rejected) and len(self.sent) == len(self.target)

    # --- what was sent and answered ----------------------------------------------------------------------------------

    def record(self, nonce: str, changes: Changes) -> None:
        """Note a response that goes out now."""
        for name, resource in changes.items():
            self.awaiting.setdefault(name, self.sent.get(name))
            if resource is None:
                self.sent.pop(name, None)
                self.leaving[name] = nonce
            else:
                self.sent[name] = resource
            if not self._is_refused(name, resource):
                self.rejected.pop(name, None)
            self.waiting.pop(name, None)
        self.todo = self.todo.difference(changes)
        self.owed = self.owed.difference(changes)
        self.apart = [group for group in self.apart if group.isdisjoint(changes)]
        self.latest.update(dict.fromkeys(changes, nonce))
        if len(self.unanswered) >= MAX_UNANSWERED:
            self._take_together(*list(self.unanswered)[:2])
        self.unanswered[nonce] = changes
        self.last_nonce = nonce
        self.was_sent = True

    def ack(self, nonce: str, now: float) -> bool:
        """Take an acceptance. False for a nonce that is not on its way."""
        changes = self._answered(nonce)
        if changes is None:
            return False
        self.last_ack = now
        for name, resource in changes.items():
            self._accept(nonce, name, resource)
        if not self.latest:
            self.latest, self.awaiting = {}, {}
        return True

    def nack(self, nonce: str, error: str, now: float) -> tuple[Rejection, ...]:
        """Take a refusal: what the client had is what it has. Gives the resources that are known to be at fault.

        Envoy names the clusters and listeners that it refused, and takes the others of that response. Where it names
        none, the response is sent again in two halves, until the one at fault stands alone.
        """
        changes = self._answered(nonce)
        if changes is None:
            return ()
        guilty = list(changes) if len(changes) == 1 else [name for name in changes if _is_named(name, error)]
        rejections = []
        for name, resource in changes.items():
            if guilty and name not in guilty:
                self._accept(nonce, name, resource)
                continue
            latest = self._undo(nonce, name)
            if guilty:
                rejections.append(self._rejection(name, resource, error, now))
                if latest:
                    self.rejected[name] = rejections[-1]
            elif latest:
                self.todo.add(name)
        if not guilty:
            self._split(list(changes))
        return tuple(rejections)

    def accepted(self, name: str) -> EnvoyResource | None:
        """What the client is known to have under this name."""
        return self.awaiting[name] if name in self.awaiting else self.sent.get(name)

    def is_settled(self, name: str) -> bool:
        """Whether the client has this name, or has said that it will not take it."""
        return name in self.rejected or (name not in self.leaving and self.accepted(name) is not None)

    def unsettled(self) -> set[str]:
        """Names that the client wants and should have, and does not have yet."""
        names = self.todo.union(self.latest, self.leaving)
        return {name for name in names if name in self.target and self.wants(name) and not self.is_settled(name)}

    def possessions(self) -> Iterator[EnvoyResource]:
        """Everything that the client has or may have by now."""
        yield from self.sent.values()
        yield from (resource for resource in self.awaiting.values() if resource is not None)

    def _answered(self, nonce: str) -> Changes | None:
        changes = self.unanswered.pop(nonce, None)
        for name, resource in (changes or {}).items():
            if resource is None and self.leaving.get(name) == nonce:
                del self.leaving[name]
        return changes

    def _take_together(self, oldest: str, second: str) -> None:
        merged = self.unanswered.pop(oldest)
        for place in (self.latest, self.leaving):
            place.update([(name, second) for name in merged if place.get(name) == oldest])
        self.unanswered[second] = {**merged, **self.unanswered[second]}

    def retriable(self) -> list[Rejection]:
        """What was refused for a reason that may pass, and is not on its way again."""
        return [
            refused
            for name, refused in self.rejected.items()
            if bind_problem(refused) and name in self.target and name not in self.latest and name not in self.todo
        ]

    def retry(self, before: float) -> None:
        """Send again, unchanged, what was refused up to this time for a reason that may pass."""
        names = [refused.name for refused in self.retriable() if refused.at <= before]
        self.todo.update(names)
        self.owed.update(names)

    def _is_refused(self, name: str, resource: EnvoyResource | None) -> bool:
        """Whether this very version is refused: until there is another answer it stays so."""
        refused = self.rejected.get(name)
        return refused is not None and resource is not None and refused.version == resource.version

    def _accept(self, nonce: str, name: str, resource: EnvoyResource | None) -> None:
        if self.latest.get(name) == nonce:
            del self.latest[name], self.awaiting[name]
            self.rejected.pop(name, None)
        elif name in self.latest:
            self.awaiting[name] = resource

    def _undo(self, nonce: str, name: str) -> bool:
        """Go back to what was accepted, unless something newer is on its way (then False)."""
        if self.latest.get(name) != nonce:
            return False
        del self.latest[name]
        before = self.awaiting.pop(name)
        if before is None:
            self.sent.pop(name, None)
        else:
            self.sent[name] = before
        return True

    def _split(self, names: list[str]) -> None:
        middle = len(names) // 2
        self.apart.extend(frozenset(half) for half in (names[:middle], names[middle:]))

    def _rejection(self, name: str, resource: EnvoyResource | None, error: str, now: float) -> Rejection:
        version, origin = (resource.version, resource.origin) if resource is not None else ("", None)
        return Rejection(self.type_url, name, version, error[:MAX_ERROR_LENGTH], origin, now)


def bind_problem(rejection: Rejection) -> str:
    """Envoy's words where it could not bind this listener's address, which may pass by itself; else empty."""
    pattern = rf"(?:\(s\) |, |\n){re.escape(rejection.name)}: (cannot bind .*?)(?:, [^ ,]+: |\n|$)"
    found = re.search(pattern, rejection.error)
    return found[1] if found else ""


def _is_named(name: str, error: str) -> bool:
    """Whether Envoy's message blames this name: ``Error adding/updating listener(s) a: why, b: why``."""
    return re.search(rf"(?:\(s\) |, |\n){re.escape(name)}: ", error) is not None
