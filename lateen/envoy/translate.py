"""The whole translation: one proxy's plan into the serialised Envoy resources that it gets.

Comes in: ``ProxyPlan``. Goes out: ``EnvoyResources``. What several proxies share (a cluster, its endpoints, a route
table) is made once: the makers remember their results by the frozen inputs themselves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from lateen.envoy import wire
from lateen.envoy.chain_names import with_marked_chains
from lateen.envoy.clusters import EMBEDDED, cluster_message
from lateen.envoy.endpoints import load_assignment
from lateen.envoy.filter_chains import ChainContext
from lateen.envoy.listeners import listener_message
from lateen.envoy.patches.apply import apply_patches
from lateen.envoy.patches.clusters import added_clusters, patch_clusters
from lateen.envoy.profile import DEFAULT_PROFILE, EnvoyProfile
from lateen.envoy.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, EnvoyResource, EnvoyResources
from lateen.envoy.routes import clusters_of, route_configuration
from lateen.envoy.tls import secret_references, server_secret_references
from lateen.plan.clusters import Cluster, Discovery, EndpointSet
from lateen.plan.mixer.model import MIXER_CLUSTER
from lateen.plan.mixer.rules import asks_mixer
from lateen.plan.model import OPEN, Chain, Destinations, Guards, HttpChain, Listener, ProxyPlan
from lateen.plan.patch_values import Patch
from lateen.plan.proxy import ProxyType
from lateen.plan.routes import RouteTable
from lateen.plan.telemetry import told_clusters
from lateen.values.names import Origin

GuardedTable = tuple[RouteTable, Guards]


def translate(plan: ProxyPlan, profile: EnvoyProfile = DEFAULT_PROFILE) -> EnvoyResources:
    """Everything that this proxy gets, but for the secrets, which ``with_secrets`` adds.

    Raises ValueError or TypeError for a plan that Envoy has no words for, which is a bug of the planner.
    """
    plan = with_marked_chains(plan)
    is_gateway = plan.proxy.type is ProxyType.GATEWAY
    own = Destinations(plan.clusters, plan.endpoints)
    patches = tuple(patch for patch in plan.patches if patch.apply_to == "CLUSTER")
    parts = [_patched_destinations(part, profile, patches, is_gateway) for part in (plan.shared, own)]
    delivered, embedded_tables = _tables(plan)
    context = ChainContext(profile)
    listeners = [translate_listener(found, context, embedded_tables[found.name]) for found in plan.listeners]
    made = EnvoyResources(
        {
            CLUSTER: {**parts[0][0], **parts[1][0], **added_clusters(patches)},
            ENDPOINT: {**parts[0][1], **parts[1][1]},
            LISTENER: _by_name(listeners),
            ROUTE: _by_name(translate_route_table(*guarded) for guarded in delivered),
            SECRET: {},
        }
    )
    if not plan.patches:
        return made
    known = {cluster.name for cluster in plan.all_clusters} if patches else set[str]()
    gone = frozenset(known.difference(made.by_type[CLUSTER]))
    return apply_patches(made, plan.patches, is_gateway, parts[0][2] | parts[1][2], gone)


def with_secrets(resources: EnvoyResources, secrets: Iterable[EnvoyResource]) -> EnvoyResources:
    """The same with these secrets (made by ``secrets.translate_secret``) in place of all that it had."""
    return EnvoyResources({**resources.by_type, SECRET: _by_name(secrets)}, resources.applied)


@lru_cache(maxsize=1024)
def translate_destinations(
    destinations: Destinations, profile: EnvoyProfile = DEFAULT_PROFILE
) -> tuple[Mapping[str, EnvoyResource], Mapping[str, EnvoyResource]]:
    """Clusters and endpoints by name; made once for all proxies that hold the same object."""
    endpoints = {found.cluster: found for found in destinations.endpoints}
    clusters, assignments = [], []
    for cluster in destinations.clusters:
        known = endpoints.get(cluster.name) or EndpointSet(cluster.name, ())
        embedded = known if cluster.discovery in EMBEDDED else None
        clusters.append(translate_cluster(cluster, embedded, _is_weighted(known), profile))
        if cluster.discovery is Discovery.EDS:
            assignments.append(translate_endpoints(known))
    return _by_name(clusters), _by_name(assignments)


@lru_cache(maxsize=1024)
def _patched_destinations(
    destinations: Destinations, profile: EnvoyProfile, patches: tuple[Patch, ...], is_gateway: bool
) -> tuple[Mapping[str, EnvoyResource], Mapping[str, EnvoyResource], frozenset[Patch]]:
    """The same after patches on clusters, and which of these found something."""
    clusters, assignments = translate_destinations(destinations, profile)
    if not patches:
        return clusters, assignments, frozenset()
    found, applied = patch_clusters(clusters, patches, is_gateway)
    gone = clusters.keys() - found.keys()
    return found, {name: entry for name, entry in assignments.items() if name not in gone}, applied


@lru_cache(maxsize=32768)
def translate_cluster(
    cluster: Cluster, embedded: EndpointSet | None, weighted: bool, profile: EnvoyProfile = DEFAULT_PROFILE
) -> EnvoyResource:
    """One cluster; ``embedded`` holds the endpoints of a STATIC or DNS cluster."""
    references = [(ENDPOINT, cluster.name)] if cluster.discovery is Discovery.EDS else []
    if cluster.tls is not None:
        references.extend(secret_references(cluster.tls.certificate, cluster.tls.roots))
    message = cluster_message(cluster, embedded, weighted, profile)
    return wire.resource(cluster.name, message, cluster.origin, references)


@lru_cache(maxsize=32768)
def translate_endpoints(endpoints: EndpointSet) -> EnvoyResource:
    """The endpoints of one EDS cluster, made once for all proxies with the same view of them."""
    return wire.resource(endpoints.cluster, load_assignment(endpoints))


@lru_cache(maxsize=4096)
def translate_route_table(table: RouteTable, guards: Guards = OPEN) -> EnvoyResource:
    """One route table, with what guards the chains that use it."""
    references = [(CLUSTER, name) for name in clusters_of(table)]
    return wire.resource(table.name, route_configuration(table, guards), _common_origin(table, guards), references)


@lru_cache(maxsize=4096)
def translate_listener(
    listener: Listener, context: ChainContext, embedded: tuple[tuple[str, RouteTable], ...] = ()
) -> EnvoyResource:
    """One listener; ``embedded`` are the route tables, by chain, that are written into it."""
    context = ChainContext(context.profile, embedded)
    references = _listener_references(listener, dict(embedded))
    return wire.resource(listener.name, listener_message(listener, context), listener.origin, references)


# --- route tables ----------------------------------------------------------------------------------------------------


def _tables(plan: ProxyPlan) -> tuple[list[GuardedTable], dict[str, tuple[tuple[str, RouteTable], ...]]]:
    """Which tables come by RDS, and, by listener, which are written into chains.

    All come by RDS, also those that the plan has inline, unless two chains want different things under one name.
    """
    planned = {table.name: table for table in plan.route_tables}
    wanted: dict[str, list[GuardedTable]] = defaultdict(list)
    users: list[tuple[Listener, Chain, str, GuardedTable]] = []
    for listener in plan.listeners:
        for chain in _chains(listener):
            if not isinstance(chain.action, HttpChain):
                continue
            table = chain.action.inline or planned.get(chain.action.route_table)
            if table is None:
                table = RouteTable(chain.action.route_table, ())
            guarded = (table, chain.action.guards)
            users.append((listener, chain, table.name, guarded))
            if guarded not in wanted[table.name]:
                wanted[table.name].append(guarded)
    for name, table in planned.items():
        if not wanted[name]:
            wanted[name].append((table, OPEN))
    delivered = [tables[0] for name, tables in wanted.items() if name and len(tables) == 1]
    embedded: dict[str, tuple[tuple[str, RouteTable], ...]] = {listener.name: () for listener in plan.listeners}
    for listener, chain, name, guarded in users:
        if guarded not in delivered or not name:
            embedded[listener.name] += ((chain.name, guarded[0]),)
    return delivered, embedded


def _chains(listener: Listener) -> Iterator[Chain]:
    yield from listener.chains
    if listener.default_chain is not None:
        yield listener.default_chain


def _common_origin(table: RouteTable, guards: Guards) -> Origin | None:
    """The resource behind the whole table, where it is one."""
    origins = {route.origin for host in table.virtual_hosts for route in host.routes}
    origins.update(rule.origin for rule in guards.access.rules)
    origins.update(rule.origin for rule in guards.limits)
    origins.update(denial.origin for denial in guards.denials)
    return origins.pop() if len(origins) == 1 else None


# --- resources -------------------------------------------------------------------------------------------------------


def _listener_references(listener: Listener, embedded: dict[str, RouteTable]) -> Iterator[tuple[str, str]]:
    for chain in _chains(listener):
        if chain.tls is not None:
            yield from server_secret_references(chain.tls)
        action = chain.action
        yield from ((CLUSTER, check.authorizer.cluster) for check in action.access.external)
        if action.telemetry is not None:
            yield from ((CLUSTER, name) for name in sorted(told_clusters(action.telemetry)))
        if asks_mixer(action):
            yield (CLUSTER, MIXER_CLUSTER)
        if not isinstance(action, HttpChain):
            yield from ((CLUSTER, target.cluster) for target in action.targets)
        elif chain.name in embedded:
            yield from ((CLUSTER, name) for name in clusters_of(embedded[chain.name]))
        else:
            yield (ROUTE, action.inline.name if action.inline else action.route_table)


def _by_name(resources: Iterable[EnvoyResource]) -> dict[str, EnvoyResource]:
    return {resource.name: resource for resource in resources}


def _is_weighted(endpoints: EndpointSet) -> bool:
    return any(group.weight is not None for group in endpoints.localities)
