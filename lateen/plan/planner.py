"""Plans one proxy: the snapshot and who the proxy is come in, everything that it has to do goes out.

What only depends on the client's view (namespace and labels) is made once for all proxies that share it, so that the
parts are the same objects and their bytes are made once.
"""

from __future__ import annotations

import msgspec

from lateen.findings import Finding
from lateen.mesh.gateways import passes_by_name
from lateen.mesh.locality import LOCALITY_LABELS
from lateen.mesh.members import ServicesOfWorkloads
from lateen.mesh.model import Labels, MeshSnapshot, Workload
from lateen.mesh.routing import MESH_GATEWAY, client_label_names
from lateen.mesh.seen import seen_from
from lateen.mesh.sidecar_scope import SidecarScope, sidecar_scope
from lateen.mesh.traffic_policy import destination_policy, failover_label_names, rule_label_names
from lateen.plan.access.external import asked_clusters
from lateen.plan.access.rules import access_policy
from lateen.plan.access.token_rules import token_providers, with_tokens
from lateen.plan.answer_counts import counting_tables, with_answer_counts
from lateen.plan.client_view import ClientView, client_view
from lateen.plan.clusters import EndpointSet
from lateen.plan.destinations import plan_destinations, workload_tags
from lateen.plan.egress_listeners import egress_listeners
from lateen.plan.gateway import plan_gateway
from lateen.plan.hash_policies import with_hash_policies
from lateen.plan.inbound import inbound
from lateen.plan.limits.rules import limit_rules, with_limits
from lateen.plan.localities import place_of
from lateen.plan.looked_up_hosts import with_looked_up_hosts
from lateen.plan.metric_exports import agent_destination, export_listeners
from lateen.plan.mixer.rules import mixer_parts, with_mixer
from lateen.plan.model import ProxyPlan
from lateen.plan.outbound import OutboundListeners, outbound_listeners, passthrough_clusters
from lateen.plan.patch_values import Patch
from lateen.plan.patches import patches_of
from lateen.plan.providers import provider_destinations, provider_hosts
from lateen.plan.proxy import LoopbackNetwork, NamespacesNetwork, PodNetwork, Proxy, ProxyNetwork, ProxyType
from lateen.plan.proxy_defaults import ProxyDefaults
from lateen.plan.route_building import Reading
from lateen.plan.routes import RouteTable
from lateen.plan.sni_passthrough import passing_endpoints
from lateen.plan.telemetry import DESTINATION, SOURCE, reported, told_clusters
from lateen.values.names import ResourceKey

ViewKey = tuple[str, Labels, bool, int, ResourceKey | None]
"""Namespace, the labels that matter, whether it is a sidecar, the loopback prefix, and the Sidecar that holds."""


class Planned(msgspec.Struct, frozen=True):
    """A plan and what is wrong with the resources that it was made from."""

    plan: ProxyPlan
    findings: tuple[Finding, ...] = ()


class Planner:
    """Plans the proxies of one snapshot. Keeps what proxies share for as long as it lives."""

    def __init__(self, snapshot: MeshSnapshot) -> None:
        self.snapshot = snapshot
        self._seen: dict[tuple[str, ResourceKey | None, bool], MeshSnapshot] = {}
        self._services = ServicesOfWorkloads(snapshot)
        self._passes_by_name = passes_by_name(snapshot.gateways)
        self._label_names = _view_label_names(snapshot)
        config = snapshot.mesh_config.default_config
        self._defaults = ProxyDefaults(config) if config is not None else None
        self._views: dict[ViewKey, ClientView] = {}
        self._outbound: dict[tuple[ViewKey, type], OutboundListeners] = {}
        self._changed: dict[ViewKey, tuple[EndpointSet, ...]] = {}
        self._patches: dict[tuple[Patch, ...], tuple[Patch, ...]] = {}

    def plan(
        self, proxy: Proxy, *, gateway_address: str = "127.0.0.1", access_log: str = "", folder: str = ""
    ) -> Planned:
        """The plan of one proxy. ``gateway_address`` is where a gateway's servers listen unless they say.

        ``folder`` is the proxy's own, where it opens sockets by which its metrics leave; empty: it does not.
        """
        if proxy.type is ProxyType.GATEWAY:
            planned = self._gateway(proxy, gateway_address, access_log, folder)
        else:
            planned = self._sidecar(proxy, access_log, folder)
        return self._exporting(planned, proxy, folder)

    def _exporting(self, planned: Planned, proxy: Proxy, folder: str) -> Planned:
        plan = planned.plan
        snapshot = self._seen_by(proxy)
        sockets, wanted = export_listeners(snapshot, proxy, folder)
        agent = agent_destination(snapshot, proxy, folder)
        if not sockets and not agent[0]:
            return planned
        asked = provider_destinations(snapshot, wanted, plan.all_clusters, proxy.namespace, proxy.labels)
        plan = msgspec.structs.replace(
            plan,
            listeners=(*plan.listeners, *sockets),
            clusters=(*plan.clusters, *asked[0], *agent[0]),
            endpoints=(*plan.endpoints, *asked[1], *agent[1]),
        )
        return msgspec.structs.replace(planned, plan=plan)

    def move_to(self, snapshot: MeshSnapshot) -> None:
        """Go on with a snapshot that differs in the members of services alone: everything but endpoints stays."""
        self.snapshot = snapshot
        self._seen = {}
        self._changed = {}

    def endpoints_of(self, proxy: Proxy, hosts: frozenset[str]) -> tuple[EndpointSet, ...]:
        """The endpoints of some services as a proxy sees them, from the snapshot that ``move_to`` brought.

        Proxies with the same view are given the same object, which may hold more than one of them has.
        """
        key = self._key(proxy)
        if key not in self._changed:
            snapshot = self._seen_by(proxy)
            reachable = {service.hostname: service for service in self._view(proxy).reachable}
            asked = {host: snapshot.services[host] for host in provider_hosts(snapshot)}
            services = [service for host, service in {**asked, **reachable}.items() if host in hosts]
            found: list[EndpointSet] = []
            for service in services:
                policy = destination_policy(snapshot, proxy.namespace, proxy.labels, service)
                place = place_of(key[1])
                found.extend(plan_destinations(snapshot, service, policy, proxy.namespace, place=place)[1])
            if proxy.type is ProxyType.GATEWAY and self._passes_by_name:
                found.extend([passing_endpoints(known) for known in found])
            self._changed[key] = tuple(found)
        return self._changed[key]

    def _seen_by(self, proxy: Proxy) -> MeshSnapshot:
        """The mesh with the services that this proxy takes where several namespaces define one host."""
        scope = self._scope(proxy)
        key = (proxy.namespace, scope.key, proxy.type is ProxyType.SIDECAR)
        if key not in self._seen:
            self._seen[key] = seen_from(self.snapshot, proxy.namespace, scope.sees)
        return self._seen[key]

    def _scope(self, proxy: Proxy) -> SidecarScope:
        """What a sidecar sees; a Sidecar resource has no effect on gateways."""
        if proxy.type is ProxyType.GATEWAY:
            return SidecarScope(proxy.namespace)
        return sidecar_scope(self.snapshot, proxy.namespace, proxy.labels)

    def _key(self, proxy: Proxy) -> ViewKey:
        prefix = proxy.network.prefix if isinstance(proxy.network, LoopbackNetwork) else 0
        labels = tuple(pair for pair in proxy.labels if pair[0] in self._label_names)
        return (proxy.namespace, labels, proxy.type is ProxyType.SIDECAR, prefix, self._scope(proxy).key)

    def _view(self, proxy: Proxy) -> ClientView:
        key = self._key(proxy)
        if key not in self._views:
            namespace, labels, is_sidecar, prefix, _ = key
            reading = Reading(MESH_GATEWAY, 0, namespace, labels, loopback_prefix=prefix)
            view = client_view(self._seen_by(proxy), reading, self._scope(proxy), with_routes=is_sidecar)
            if self._defaults is not None:
                destinations = self._defaults.destinations(view.destinations)
                tables = self._defaults.tables(view.route_tables)
                view = msgspec.structs.replace(view, destinations=destinations, route_tables=tables)
            self._views[key] = view
        return self._views[key]

    def _outbound_of(self, proxy: Proxy, view: ClientView) -> OutboundListeners:
        key = (self._key(proxy), type(proxy.network))
        if key not in self._outbound:
            self._outbound[key] = outbound_listeners(self._seen_by(proxy), proxy, view)
        return self._outbound[key]

    def _sidecar(self, proxy: Proxy, access_log: str, folder: str) -> Planned:
        snapshot, view = self._seen_by(proxy), self._view(proxy)
        tags = _own_tags(proxy)
        outgoing = reported(snapshot, proxy, SOURCE, tags, access_log, folder)
        incoming = reported(snapshot, proxy, DESTINATION, tags, access_log, folder)
        access = access_policy(snapshot, proxy.namespace, proxy.labels)
        services = self._services.of(proxy.id, proxy.address)
        arriving = inbound(snapshot, proxy, view.scope, services, access.policy, incoming)
        needed = asked_clusters(access.policy) | told_clusters(incoming) | told_clusters(outgoing)
        asked = provider_destinations(snapshot, needed, view.destinations.clusters, proxy.namespace, proxy.labels)
        tokens = token_providers(snapshot, proxy.namespace, proxy.labels)
        limits = limit_rules(snapshot, proxy.namespace, proxy.labels)
        limited = with_limits(with_tokens(arriving.listeners, tokens), limits)
        guarded = with_mixer(limited, snapshot, proxy, services)
        asked_too = mixer_parts(guarded, snapshot.settings.mixer_socket)
        outbound = self._outbound_of(proxy, view)
        sockets, empty = egress_listeners(snapshot, proxy, view.scope, view.reachable, outgoing)
        going = with_looked_up_hosts((*outbound.of(proxy, outgoing), *sockets), view.destinations.clusters)
        plan = ProxyPlan(
            proxy=proxy,
            listeners=(*going, *guarded),
            route_tables=view.route_tables,
            clusters=(*passthrough_clusters(view.outside), *arriving.clusters, *asked[0], *asked_too[0]),
            endpoints=(*arriving.endpoints, *asked[1], *asked_too[1]),
            secrets=tuple(dict.fromkeys((*arriving.secrets, *view.secrets))),
            shared=view.destinations,
            patches=self._patches_of(proxy),
        )
        plan = self._with_defaults(plan, view.counting)
        return Planned(plan, (*outbound.findings, *empty, *arriving.findings, *access.findings))

    def _patches_of(self, proxy: Proxy) -> tuple[Patch, ...]:
        """The patches of EnvoyFilters; proxies with equal ones are given the same object, which is quickly compared."""
        found = patches_of(self.snapshot, proxy)
        return self._patches.setdefault(found, found) if found else ()

    def _gateway(self, proxy: Proxy, address: str, access_log: str, folder: str) -> Planned:
        view = self._view(proxy)
        telemetry = reported(self.snapshot, proxy, SOURCE, _own_tags(proxy), access_log, folder)
        snapshot = self._seen_by(proxy)
        access = access_policy(snapshot, proxy.namespace, proxy.labels, at_gateway=True)
        parts = plan_gateway(snapshot, proxy, view, address, access.policy, telemetry)
        known = (*view.destinations.clusters, *parts.clusters.values())
        needed = asked_clusters(access.policy) | told_clusters(telemetry)
        asked = provider_destinations(snapshot, needed, known, proxy.namespace, proxy.labels)
        tokens = token_providers(self.snapshot, proxy.namespace, proxy.labels)
        limits = limit_rules(snapshot, proxy.namespace, proxy.labels)
        listeners = with_limits(with_tokens(tuple(parts.listeners), tokens), limits)
        asked_too = mixer_parts(listeners, snapshot.settings.mixer_socket)
        plan = ProxyPlan(
            proxy=proxy,
            listeners=with_looked_up_hosts(listeners, view.destinations.clusters),
            route_tables=self._tables(with_hash_policies(parts.tables, view.destinations.clusters)),
            clusters=(*passthrough_clusters(view.outside)[:1], *parts.clusters.values(), *asked[0], *asked_too[0]),
            endpoints=(*parts.endpoints.values(), *asked[1], *asked_too[1]),
            secrets=tuple(dict.fromkeys((*parts.secrets, *view.secrets))),
            shared=view.destinations,
            patches=self._patches_of(proxy),
        )
        return Planned(self._with_defaults(plan, counting_tables(parts.tables)), (*parts.findings, *access.findings))

    def _tables(self, tables: tuple[RouteTable, ...]) -> tuple[RouteTable, ...]:
        return tables if self._defaults is None else self._defaults.tables(tables)

    def _with_defaults(self, plan: ProxyPlan, counting: frozenset[str]) -> ProxyPlan:
        """A plan's own parts, with what the mesh says for all proxies; what is shared has it already."""
        listeners, clusters = plan.listeners, plan.clusters
        if self._defaults is not None:
            listeners, clusters = self._defaults.listeners(listeners), self._defaults.clusters(clusters)
        return msgspec.structs.replace(plan, listeners=with_answer_counts(listeners, counting), clusters=clusters)


def _view_label_names(snapshot: MeshSnapshot) -> frozenset[str]:
    """The names of labels by which clients of one namespace may see the mesh differently."""
    rules = [rule for found in snapshot.destination_rules.values() for rule in found]
    names = client_label_names(snapshot.virtual_services) | rule_label_names(rules) | LOCALITY_LABELS
    return names | failover_label_names(rules, snapshot.mesh_config.locality_lb_setting)


def proxy_of(workload: Workload) -> Proxy:
    """The proxy beside a running workload."""
    networks: dict[str, ProxyNetwork] = {
        "namespaces": NamespacesNetwork(workload.workload_netns, workload.mesh_netns),
        "loopback": LoopbackNetwork(workload.prefix),
    }
    return Proxy(
        id=workload.id,
        type=ProxyType.GATEWAY if workload.is_gateway else ProxyType.SIDECAR,
        namespace=workload.namespace,
        workload=workload.name,
        labels=workload.labels,
        service_account=workload.service_account,
        address=workload.address,
        network=networks.get(workload.network, PodNetwork()),
    )


def _own_tags(proxy: Proxy) -> tuple[tuple[str, str], ...]:
    return workload_tags(proxy.namespace, proxy.workload, proxy.labels, proxy.service_account)
