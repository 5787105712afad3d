"""Builds the snapshot: typed resources and running workloads in, one indexed frozen value out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from lateen.mesh.cluster_members import ClusterMembers
from lateen.mesh.delegates import with_delegates
from lateen.mesh.ingress import ingress_routes
from lateen.mesh.legacy import legacy_security
from lateen.mesh.members import MembersOfServices
from lateen.mesh.mesh_config import with_mesh_config
from lateen.mesh.mixer.charges import bound_to_nobody
from lateen.mesh.mixer.counted import never_counted, uncountable
from lateen.mesh.mixer.resolve import resolve
from lateen.mesh.model import Contender, Member, MeshSnapshot, Workload
from lateen.mesh.ownership import held_to_owners
from lateen.mesh.rate_limits import limits_without_tokens
from lateen.mesh.services import define_services
from lateen.mesh.telemetry_policy import overruled
from lateen.mesh.telemetry_providers import overrides_for_some, unknown_providers
from lateen.mesh.token_demand import tokens_not_asked_for
from lateen.mesh.token_keys import NO_KEYS, TokenKeys
from lateen.mesh.unused_routes import unused_routes
from lateen.resources.mesh_config import MeshConfigSpec
from lateen.resources.resource import Resource
from lateen.settings import Settings


def build_snapshot(
    settings: Settings, resources: Iterable[Resource], workloads: Iterable[Workload], token_keys: TokenKeys = NO_KEYS
) -> MeshSnapshot:
    """Index everything. The order in which the inputs arrive does not matter."""
    by_kind: dict[str, list[Resource]] = {}
    for resource in sorted(resources, key=_precedence):
        by_kind.setdefault(resource.key.kind, []).append(resource)
    mesh_config = next(iter(by_kind.get("MeshConfig", ())), None)
    settings, refused = with_mesh_config(settings, mesh_config)
    running = {workload.id: workload for workload in sorted(workloads, key=lambda workload: workload.id)}
    defined = define_services(by_kind.get("Service", []), by_kind.get("ServiceEntry", []), settings)
    finding = MembersOfServices(by_kind, running.values(), ClusterMembers(by_kind))
    contenders = {
        host: tuple(Contender(definition.service, finding.of(definition)) for definition in found)
        for host, found in defined.by_host.items()
    }
    services = {host: found[0].service for host, found in contenders.items()}
    ingress = ingress_routes(
        by_kind.get("Ingress", []), by_kind.get("IngressClass", ()), by_kind.get("Service", ()), settings
    )
    routing = [*by_kind.get("VirtualService", ()), *ingress.virtual_services]
    merged, unusable = with_delegates(sorted(routing, key=_precedence), settings)
    owners = {host: frozenset(one.service.namespace for one in found) for host, found in defined.by_host.items()}
    virtual_services, of_others = held_to_owners(merged, owners, settings)
    defined_services = [definition.service for found in defined.by_host.values() for definition in found]
    mixer, of_mixer = resolve(by_kind, settings.root_namespace)
    legacy, of_legacy = legacy_security(by_kind, defined_services, settings.root_namespace)
    return MeshSnapshot(
        settings=settings,
        services=services,
        members={host: found[0].members for host, found in contenders.items()},
        workloads=running,
        virtual_services=virtual_services,
        destination_rules=_by_namespace(by_kind.get("DestinationRule", ())),
        gateways=tuple(sorted((*by_kind.get("Gateway", ()), *ingress.gateways), key=_precedence)),
        peer_authentications=tuple(by_kind.get("PeerAuthentication", ())),
        authorization_policies=tuple(by_kind.get("AuthorizationPolicy", ())),
        secrets={secret.key: secret for secret in by_kind.get("Secret", ())},
        findings=(
            *refused,
            *defined.findings,
            *finding.findings,
            *ingress.findings,
            *unusable,
            *of_others,
            *unused_routes(virtual_services, services, settings.domain),
            *tokens_not_asked_for(
                by_kind.get("RequestAuthentication", ()),
                by_kind.get("AuthorizationPolicy", ()),
                virtual_services,
                settings.root_namespace,
            ),
            *of_legacy,
            *limits_without_tokens(
                by_kind.get("RateLimit", ()),
                (*by_kind.get("RequestAuthentication", ()), *legacy.tokens),
                settings.root_namespace,
            ),
            *overruled(by_kind.get("Telemetry", ())),
            *overrides_for_some(by_kind.get("Telemetry", ())),
            *unknown_providers(by_kind.get("Telemetry", ()), mesh_config, services),
            *of_mixer,
            *bound_to_nobody(by_kind, services),
            *uncountable(mixer.rules),
            *never_counted(by_kind, mixer.rules),
        ),
        mesh_config=mesh_config.spec if mesh_config is not None else MeshConfigSpec(),
        sidecars=tuple(by_kind.get("Sidecar", ())),
        request_authentications=tuple(by_kind.get("RequestAuthentication", ())),
        envoy_filters=_by_namespace(by_kind.get("EnvoyFilter", ())),
        proxy_configs=tuple(by_kind.get("ProxyConfig", ())),
        rate_limits=tuple(by_kind.get("RateLimit", ())),
        telemetries=tuple(by_kind.get("Telemetry", ())),
        aliases=defined.aliases,
        contested={host: found for host, found in contenders.items() if len(found) > 1},
        token_keys=token_keys,
        legacy=legacy,
        mixer=mixer,
    )


def _by_namespace(resources: Iterable[Resource]) -> dict[str, tuple[Resource, ...]]:
    found: dict[str, list[Resource]] = {}
    for resource in resources:
        found.setdefault(resource.key.namespace, []).append(resource)
    return {namespace: tuple(group) for namespace, group in found.items()}


def _precedence(resource: Resource) -> tuple[bool, str, str, str]:
    """Oldest first; resources without a time of creation come after those with one, by name, then by namespace."""
    return (not resource.creation, resource.creation, resource.key.name, resource.key.namespace)


def with_workloads(snapshot: MeshSnapshot, workloads: Mapping[str, Workload]) -> MeshSnapshot:
    """The same mesh with other members: for workloads that differ in readiness alone."""
    running = dict(sorted(workloads.items()))
    changed = {name for name, workload in running.items() if workload != snapshot.workloads.get(name)}

    def ready(found: tuple[Member, ...]) -> tuple[Member, ...]:
        if not any(member.instance in changed for member in found):
            return found
        return tuple(
            msgspec.structs.replace(member, healthy=running[member.instance].ready)
            if member.instance in changed
            else member
            for member in found
        )

    members = {host: ready(found) for host, found in snapshot.members.items()}
    contested = {
        host: tuple(msgspec.structs.replace(one, members=ready(one.members)) for one in found)
        for host, found in snapshot.contested.items()
    }
    return msgspec.structs.replace(snapshot, workloads=running, members=members, contested=contested)
