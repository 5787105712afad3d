"""Make before break across proxies: in which steps a change reaches the mesh.

Comes in: what each proxy should have, and how far proxies are. Goes out: what each is given now. Within one proxy the
sessions keep the order; what one proxy needs of another is kept here:

1. PREPARE: clusters, endpoints and secrets that are new, to all; nothing is taken away.
2. SERVE: gateways get their new listeners and routes, beside the old ones: they are what sidecars send to.
3. SWITCH: sidecars get exactly what they should have.
4. REMOVE: gateways lose what nobody sends to any more.

Each step waits until the proxies that it touched have acknowledged it, or for ``patience`` seconds since the change: a
proxy that does not answer holds nobody up for longer. A step that changes nothing is passed over, so that an edit of
routes alone goes out at once. State machine without I/O: time comes in as seconds of any clock.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping

from lateen.envoy.resources import CLUSTER, ENDPOINT, SECRET, EnvoyResource, EnvoyResources

PATIENCE_S = 3.0
ADDED_FIRST = (CLUSTER, ENDPOINT, SECRET)
Named = Mapping[str, EnvoyResource]


class Step(enum.IntEnum):
    PREPARE = 0
    SERVE = 1
    SWITCH = 2
    REMOVE = 3


class Rollout:
    """``deliver`` gives a proxy its resources (None: it is gone); ``settled`` says whether it has taken them all in."""

    def __init__(
        self,
        deliver: Callable[[str, EnvoyResources | None], None],
        settled: Callable[[str], bool],
        patience: float = PATIENCE_S,
    ) -> None:
        self._deliver = deliver
        self._settled = settled
        self._patience = patience
        self._given: dict[str, EnvoyResources] = {}
        self._target: dict[str, EnvoyResources] = {}
        self._gateways: set[str] = set()
        self._step: Step | None = None
        self._touched: set[str] = set()
        self._since = 0.0

    def aim(self, proxy_id: str, resources: EnvoyResources | None, *, is_gateway: bool = False) -> None:
        """Say what a proxy should have. A new one is given it at once; the others in steps, after ``start``."""
        self._gateways.discard(proxy_id)
        if resources is None:
            self._target.pop(proxy_id, None)
            self._given.pop(proxy_id, None)
            self._touched.discard(proxy_id)
            self._deliver(proxy_id, None)
            return
        if is_gateway:
            self._gateways.add(proxy_id)
        given = self._given.get(proxy_id)
        if given is None:
            self._give(proxy_id, resources)
        self._target[proxy_id] = given if given is not None and not _differ(given, resources) else resources

    @property
    def done(self) -> bool:
        """Whether every proxy has been given all that it should have."""
        return self._step is None

    def start(self, now: float) -> None:
        """Begin anew with what is aimed at. What still waits since an earlier change does not wait longer for it."""
        if self._step is None or self._step is Step.REMOVE:
            self._since = now
        self._step = Step.PREPARE
        self._take(Step.PREPARE)
        self.progress(now)

    def progress(self, now: float) -> float | None:
        """Go on as far as may be. Gives the time at which to ask again at the latest, None if all is done."""
        while self._step is not None:
            waiting = any(not self._settled(proxy_id) for proxy_id in self._touched)
            if waiting and now < self._since + self._patience:
                return self._since + self._patience
            if self._step is Step.REMOVE:
                self._step, self._touched = None, set()
                break
            self._step = Step(self._step + 1)
            self._take(self._step)
        return None

    def _take(self, step: Step) -> None:
        """Give every proxy what it should have in a step, and note who was touched.

        Who has not answered for a step that was cut short is waited for as well.
        """
        self._touched = {proxy_id for proxy_id in self._touched if not self._settled(proxy_id)}
        for proxy_id, target in self._target.items():
            given = self._given[proxy_id]
            if given is target:
                continue
            wanted = self._staged(step, proxy_id, given, target)
            changes = _differ(given, wanted)
            if changes or wanted is target:
                self._give(proxy_id, wanted)
            if changes:
                self._touched.add(proxy_id)

    def _give(self, proxy_id: str, resources: EnvoyResources) -> None:
        self._given[proxy_id] = resources
        self._deliver(proxy_id, resources)

    def _staged(self, step: Step, proxy_id: str, given: EnvoyResources, target: EnvoyResources) -> EnvoyResources:
        is_gateway = proxy_id in self._gateways
        if step is Step.REMOVE or (step is Step.SWITCH and not is_gateway):
            return target
        added = tuple(target.by_type) if is_gateway and step is not Step.PREPARE else ADDED_FIRST
        joined = {
            kind: {**given.by_type.get(kind, {}), **target.by_type[kind]} for kind in added if kind in target.by_type
        }
        return EnvoyResources({**given.by_type, **joined})


def _differ(one: EnvoyResources, other: EnvoyResources) -> bool:
    kinds = one.by_type.keys() | other.by_type.keys()
    return any(_named_differ(one.by_type.get(kind, {}), other.by_type.get(kind, {})) for kind in kinds)


def _named_differ(one: Named, other: Named) -> bool:
    if one is other:
        return False
    if len(one) != len(other):
        return True
    for name, resource in one.items():
        present = other.get(name)
        if present is None or (present is not resource and present.version != resource.version):
            return True
    return False
