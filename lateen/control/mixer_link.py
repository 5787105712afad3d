"""The mixer, as the control plane sees it: it is told what to do before proxies are told to ask it.

Comes in: a snapshot and the resources that hold. Goes out: the order in the run directory. A change goes on to the
proxies once the mixer is at work on it, or when that has taken too long: what proxies do then, the rules say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from lateen.control.last_good import write_whole
from lateen.findings import Finding, error
from lateen.mesh.members import ServicesOfWorkloads
from lateen.mesh.mixer.model import Handler, MixerRules
from lateen.mesh.model import MeshSnapshot
from lateen.mesh.rate_limits import counts_together
from lateen.mixer.adapters.outside import Unfit, config_of
from lateen.mixer.order import MixerOrder, Place, encoded, generation_of, ordered
from lateen.plan.mixer.place import port_attributes, proxy_attributes, workload_attributes
from lateen.plan.mixer.pods import pods_of
from lateen.plan.mixer.rules import asks, policy_here
from lateen.plan.planner import proxy_of
from lateen.resources.mixer.adapters import ListcheckerParams
from lateen.resources.mixer.outside import OutsideParams
from lateen.resources.mixer.own import Description
from lateen.resources.resource import Resource
from lateen.values.names import Origin
from lateen.values.network import is_ip
from lateen.values.web_address import address_problem, parse_networks

PATIENCE_S = 10.0
POLL_S = 0.01
LOOPBACK = "127.0.0.1"


class MixerLink:
    """``origin`` is where findings on the mixer itself point to; ``redis`` where it counts (empty: in memory),
    ``adapters`` what is installed beside Lateen."""

    def __init__(self, run: Path, origin: Origin, redis: str = "", adapters: tuple[Description, ...] = ()) -> None:
        self.findings: tuple[Finding, ...] = ()
        self._order = run / "mixer" / "order.json"
        self._generation = run / "mixer" / "generation"
        self._origin = origin
        self._redis = redis
        self._adapters = adapters
        self._given = ""

    async def hand_over(
        self, snapshot: MeshSnapshot, effective: Iterable[Resource], fetch_allowed: tuple[str, ...]
    ) -> None:
        """Give the mixer its order, if that is another one now, and wait until it is at work on it."""
        if not (asks(snapshot.mixer) or counts_together(snapshot)) and not self._given:
            return
        order = order_of(snapshot, effective, fetch_allowed, self._redis, self._adapters)
        if order.generation == self._given:
            return
        self._given = order.generation
        write_whole(self._order, encoded(order))
        late = () if await self._taken(order.generation) else (self._late(),)
        self.findings = (*late, *unfit_handlers(snapshot.mixer), *unfetched_lists(snapshot.mixer, fetch_allowed))

    async def _taken(self, generation: str) -> bool:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while self._at_work() != generation:  # noqa: ASYNC110 - it is another process that is waited for
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            return False
        return True

    def _at_work(self) -> str:
        try:
            return self._generation.read_text()
        except OSError:
            return ""

    def _late(self) -> Finding:
        message = f"the mixer has not taken up a change of its rules within {PATIENCE_S:g} s"
        return error("mixer-late", message, self._origin, "see lateen logs --mixer")


def unfit_handlers(rules: MixerRules) -> Iterator[Finding]:
    """Errors on handlers whose parameters their adapters outside Mixer cannot be told: they decide nothing."""
    for handler in _handlers(rules):
        try:
            if isinstance(handler.params, OutsideParams):
                config_of(handler.params)
        except Unfit as problem:
            message = f"{handler.adapter} cannot be called: {problem}"
            yield error(
                "unfit-params", message, handler.origin.at("spec.params"), "correct params, or the adapter's config"
            )


def unfetched_lists(rules: MixerRules, fetch_allowed: Sequence[str]) -> Iterator[Finding]:
    """Errors on lists at addresses that are not called: what is checked against them is not decided."""
    allowed = parse_networks(fetch_allowed)
    for handler in _handlers(rules):
        if not isinstance(handler.params, ListcheckerParams) or not handler.params.provider_url:
            continue
        host = urlsplit(handler.params.provider_url).hostname or ""
        address = LOOPBACK if host == "localhost" else host
        problem = address_problem(address, allowed) if is_ip(address) else ""
        if problem:
            message = f"the list of {handler.name} is not fetched: {host} is {problem}"
            remedy = f"add {address} to mesh.jwks.allow in lateen.yaml, and start the mesh anew"
            yield error("unfetched-list", message, handler.origin, remedy)


def _handlers(rules: MixerRules) -> Iterable[Handler]:
    return {action.handler.name: action.handler for rule in rules.rules for action in rule.actions}.values()


def order_of(
    snapshot: MeshSnapshot,
    effective: Iterable[Resource],
    fetch_allowed: tuple[str, ...],
    redis: str = "",
    adapters: tuple[Description, ...] = (),
) -> MixerOrder:
    """What the mixer of a mesh has to know."""
    resources = tuple(effective)
    services = ServicesOfWorkloads(snapshot)
    places, callers = {}, {}
    for workload in snapshot.workloads.values():
        proxy = proxy_of(workload)
        caller = workload_attributes("source", "", workload.namespace, workload.name, workload.labels)
        caller["source.serviceAccount"] = workload.service_account
        for domain in snapshot.settings.trust_domains:
            callers[f"{domain}/{workload.namespace}/{workload.name}"] = caller
        if workload.is_gateway:
            continue
        reached = services.of(proxy.id, proxy.address)
        numbers = {port.target for port in workload.ports}
        ports = {str(number): port_attributes(snapshot, proxy, reached, number) for number in sorted(numbers)}
        known = {name: value for name, value in proxy_attributes(snapshot, proxy).items() if value is not None}
        places[workload.id] = Place(
            known, {port: _present(found) for port, found in ports.items()}, policy_here(snapshot, proxy).fail_open
        )
    order = MixerOrder(
        root_namespace=snapshot.settings.root_namespace,
        fail_open=bool(snapshot.mesh_config.policy_check_fail_open),
        fetch_allowed=fetch_allowed,
        redis=redis,
        adapters=adapters,
        resources=ordered(resources),
        places=places,
        workloads=callers,
        pods=pods_of(snapshot, resources),
    )
    return msgspec.structs.replace(order, generation=generation_of(order))


def _present(found: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in found.items() if value is not None}
