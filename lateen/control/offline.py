"""Configuration of one proxy from files alone: the whole flow, without anything that runs.

Comes in: paths and what the proxy is. Goes out: its plan and resources, as readable JSON or as one static bootstrap
with certificates made on the spot.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from lateen.control.coordinator import Coordinator
from lateen.control.stand_in import StandIn
from lateen.control.store import ResourceStore
from lateen.envoy.resources import EnvoyResources
from lateen.envoy.static import static_bootstrap, to_json
from lateen.findings import Finding, Severity
from lateen.identity.certificate import certificate_pem
from lateen.mesh.members import all_members, member_port
from lateen.mesh.model import Labels, Workload, WorkloadPort
from lateen.mesh.token_keys import KeyUse, key_uses
from lateen.plan.model import ProxyPlan
from lateen.plan.planner import Planner, proxy_of
from lateen.settings import Settings
from lateen.sources.files import matching_files, read_file
from lateen.values.names import SpiffeId

PROXY_ID = "offline"


class OfflineProxy(msgspec.Struct, frozen=True):
    """What the proxy is: ``type`` is sidecar or gateway."""

    type: str
    namespace: str
    labels: Labels
    address: str
    service_account: str


class OfflineResult(msgspec.Struct, frozen=True):
    """What the proxy would get, and what is wrong with the files; ``resources`` is empty where Lateen fails on them."""

    plan: ProxyPlan
    resources: EnvoyResources
    findings: tuple[Finding, ...]
    settings: Settings

    def readable(self) -> dict[str, list[dict[str, Any]]]:
        """``{"listeners", "routes", "clusters", "endpoints", "secrets"}`` in protobuf JSON."""
        return to_json(self.resources)

    def bootstrap(self) -> str:
        """A complete static file; its certificates are made here and hold for this file alone."""
        proxy = self.plan.proxy
        authority = StandIn(self.settings.trust_domain, datetime.timedelta(days=1))
        leaf, key = authority.issue(SpiffeId(self.settings.trust_domain, proxy.namespace, proxy.service_account))
        return static_bootstrap(
            self.plan, self.resources, certificate=certificate_pem(leaf), key=key, roots=authority.roots
        ).decode()


def configure(
    paths: Iterable[Path], proxy: OfflineProxy, settings: Settings | None = None, mesh_config: Path | None = None
) -> OfflineResult:
    """Read the files, and do for one proxy what the control plane would do. ``mesh_config`` is a file of its own."""
    chosen = settings or Settings()
    store = ResourceStore(proxy.namespace, mesh_configs=[str(mesh_config)] if mesh_config is not None else ())
    for path in matching_files([*([mesh_config] if mesh_config is not None else ()), *paths]):
        store.apply(read_file(path))
    workload = Workload(
        id=PROXY_ID,
        namespace=proxy.namespace,
        name=dict(proxy.labels).get("app", PROXY_ID),
        labels=proxy.labels,
        service_account=proxy.service_account,
        address=proxy.address,
        is_gateway=proxy.type == "gateway",
        ready=True,
    )
    published: dict[str, EnvoyResources] = {}

    def publish(proxy_id: str, resources: EnvoyResources | None) -> None:
        if resources is not None:
            published[proxy_id] = resources

    coordinator = Coordinator(chosen, publish)
    coordinator.update(store.resources(), [workload])
    ports = own_ports(coordinator, workload)
    if ports:
        workload = msgspec.structs.replace(workload, ports=ports)
        coordinator.update(store.resources(), [workload])
    snapshot = coordinator.snapshot
    if snapshot is None:
        raise AssertionError("an update always leaves a snapshot")
    planned = Planner(snapshot).plan(proxy_of(workload))
    unread = [_not_fetched(use) for use in key_uses(coordinator.effective)]
    findings = (*store.findings(), *coordinator.findings, *unread)
    return OfflineResult(planned.plan, published.get(PROXY_ID, EnvoyResources({})), findings, snapshot.settings)


def _not_fetched(use: KeyUse) -> Finding:
    message = "keys are not fetched here, so a key that nobody has stands in their place"
    return Finding("keys-not-fetched", Severity.INFO, message, use.origin)


def own_ports(coordinator: Coordinator, workload: Workload) -> tuple[WorkloadPort, ...]:
    """The ports at which the services that select the workload, or name its address, reach it."""
    snapshot = coordinator.snapshot
    if snapshot is None or workload.is_gateway:
        return ()
    ports = []
    for service, members in all_members(snapshot):
        own = [member for member in members if member.instance == PROXY_ID or member.address == workload.address]
        for member in own[:1]:
            for port in service.ports:
                target = member_port(port, member)
                if target is not None:
                    ports.append(WorkloadPort(port.name, port.number, target, port.protocol))
    return tuple(ports)
