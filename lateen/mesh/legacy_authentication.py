"""Policy and MeshPolicy of the first generation, read as the present kinds.

Comes in: the policies, and services. Goes out: PeerAuthentications, what is asked of tokens, and findings. Of tokens
the old kinds say more than the present ones can: a mesh does all of it (``origins``), ``lateen convert`` writes what
comes nearest (``tokens`` and ``demands``).

A Policy for a port of a service goes before one for the service, that before the namespace's, that before the
MeshPolicy. Rules for tokens are given to each service by itself, as those of the present kinds would add up. Of two for
one target the oldest holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from lateen.findings import Finding, error, warning
from lateen.mesh.model import Service, TokenDemand
from lateen.resources.base import WorkloadSelector
from lateen.resources.legacy_authentication import (
    AuthenticationPolicySpec,
    PathMatch,
    PolicyTarget,
    PortReference,
    TriggerRule,
)
from lateen.resources.legacy_tokens import jwt_rule
from lateen.resources.request_authentication import RequestAuthenticationSpec
from lateen.resources.resource import Resource
from lateen.resources.security import (
    AuthorizationPolicySpec,
    MutualTls,
    Operation,
    PeerAuthenticationSpec,
    Rule,
    RuleFrom,
    RuleTo,
    Source,
)
from lateen.values.names import Origin, ResourceKey
from lateen.values.protocol import Protocol

DEFAULT = "default"


class LegacyAuthentication(msgspec.Struct, frozen=True):
    """What policies of the first generation come to. ``demands`` deny requests without a token.

    ``peer_bound``: the services (namespace and name) for whose roles the principal of a request is the peer.
    """

    peers: tuple[Resource, ...] = ()
    tokens: tuple[Resource, ...] = ()
    demands: tuple[Resource, ...] = ()
    origins: tuple[TokenDemand, ...] = ()
    peer_bound: frozenset[tuple[str, str]] = frozenset()
    findings: tuple[Finding, ...] = ()


def legacy_authentication(
    by_kind: Mapping[str, Sequence[Resource]], services: Iterable[Service], root_namespace: str
) -> LegacyAuthentication:
    """Read them all. Resources come oldest first."""
    reading = _Reading(root_namespace, {(one.namespace, one.name): one for one in services if one.selector})
    for resource in by_kind.get("MeshPolicy", ()):
        reading.take_mesh(resource)
    for resource in by_kind.get("Policy", ()):
        reading.take(resource)
    return reading.result()


class _Own:
    """What is said of one service: by the Policy for all of it, and by those for ports of its workloads."""

    def __init__(self) -> None:
        self.policy: Resource | None = None
        self.ports: dict[int, Resource] = {}


class _Reading:
    """Policies by what they are for."""

    def __init__(self, root: str, services: Mapping[tuple[str, str], Service]) -> None:
        self._root, self._services = root, services
        self._mesh: Resource | None = None
        self._namespaces: dict[str, Resource] = {}
        self._own: dict[tuple[str, str], _Own] = {}
        self._findings: list[Finding] = []

    def take_mesh(self, resource: Resource) -> None:
        if self._mesh is None:
            self._mesh = resource
        else:
            self._second(resource.origin, self._mesh)

    def take(self, resource: Resource) -> None:
        spec: AuthenticationPolicySpec = resource.spec
        namespace = resource.key.namespace
        if namespace == self._root:
            message = f"a Policy in the mesh's own namespace {namespace} has no effect"
            self._findings.append(error("root-namespace", message, resource.origin, "write a MeshPolicy"))
        elif not spec.targets:
            self._namespaces.setdefault(namespace, resource)
        else:
            for index, target in enumerate(spec.targets):
                self._take_target(resource, target, f"spec.targets[{index}]")

    def _take_target(self, resource: Resource, target: PolicyTarget, field: str) -> None:
        key = (resource.key.namespace, target.name)
        service = self._services.get(key)
        if service is None:
            message = f"namespace {key[0]} has no service {target.name} with a selector, so this has no effect"
            origin = resource.origin_at(f"{field}.name")
            self._findings.append(error("unknown-service", message, origin, "correct the name"))
            return
        own = self._own.setdefault(key, _Own())
        if not target.ports:
            if own.policy is None:
                own.policy = resource
            else:
                self._second(resource.origin_at(field), own.policy)
        for index, reference in enumerate(target.ports):
            origin = resource.origin_at(f"{field}.ports[{index}]")
            number = self._port(service, reference, origin)
            if number is None:
                continue
            if number in own.ports:
                self._second(origin, own.ports[number])
            own.ports.setdefault(number, resource)

    def _port(self, service: Service, reference: PortReference, origin: Origin) -> int | None:
        """The port of the workloads that a port of a service stands for."""
        for port in service.ports:
            if port.number != reference.number and port.name != reference.name:
                continue
            if isinstance(port.target, int):
                return port.target
            message = f"the target of this port of {service.hostname} is a name, so this has no effect"
            self._findings.append(error("named-port", message, origin, "give the service a number as targetPort"))
            return None
        message = f"{service.hostname} has no such port, so this has no effect"
        self._findings.append(error("unknown-port", message, origin, "name a port of the service"))
        return None

    def _second(self, origin: Origin, first: Resource) -> None:
        message = f"{first.key} is older and for the same, so this has no effect"
        self._findings.append(warning("without-effect", message, origin, "keep one of them"))

    def result(self) -> LegacyAuthentication:
        levels = [(one, one.key.namespace) for one in self._namespaces.values()]
        if self._mesh is not None:
            levels.append((self._mesh, self._root))
        peers = [_peers(one, namespace, DEFAULT, one) for one, namespace in levels]
        origins: list[TokenDemand] = []
        peer_bound: set[tuple[str, str]] = set()
        for key, service in sorted(self._services.items()):
            own = self._own.get(key, _Own())
            first = own.policy or next(iter(own.ports.values()), None)
            if first is not None:
                name = f"{first.key.name}-{service.name}"
                peers.append(_peers(first, service.namespace, name, own.policy, service, own.ports))
            holding = own.policy or self._namespaces.get(service.namespace) or self._mesh
            origins.extend(_origins(service, holding, own.ports))
            if holding is not None and holding.spec.principal_binding != "USE_ORIGIN":
                peer_bound.add(key)
        tokens = [_tokens(demand) for demand in origins]
        demands = [_demand(demand) for demand in origins if not demand.policy.spec.origin_is_optional]
        return LegacyAuthentication(
            tuple(peers), tuple(tokens), tuple(demands), tuple(origins), frozenset(peer_bound), tuple(self._findings)
        )


def mode_of(spec: AuthenticationPolicySpec) -> Literal["STRICT", "PERMISSIVE"]:
    """What a workload's ports accept. Who asks nothing of peers takes those with and without a certificate."""
    if not spec.peers or spec.peer_is_optional:
        return "PERMISSIVE"
    mtls = spec.peers[0].mtls
    return (mtls.mode if mtls is not None else None) or "STRICT"


def _peers(
    first: Resource,
    namespace: str,
    name: str,
    policy: Resource | None,
    service: Service | None = None,
    ports: Mapping[int, Resource] | None = None,
) -> Resource:
    """A PeerAuthentication: of ``policy`` (None: what the namespace says), with other modes at single ports."""
    by_port = {str(port): MutualTls(mode_of(one.spec)) for port, one in sorted((ports or {}).items())}
    spec = PeerAuthenticationSpec(
        selector=WorkloadSelector(dict(service.selector)) if service is not None else None,
        mtls=MutualTls(mode_of(policy.spec)) if policy is not None else None,
        port_level_mtls=by_port,
    )
    made = _made("PeerAuthentication", namespace, name, first, spec, first.origin_at("spec.peers"))
    places = {f"spec.portLevelMtls.{port}": one.origin_at("spec.peers") for port, one in (ports or {}).items()}
    return msgspec.structs.replace(made, places={**made.places, **places})


def _origins(service: Service, holding: Resource | None, own: Mapping[int, Resource]) -> Iterator[TokenDemand]:
    """What is asked of the tokens of a service: at ports with a Policy of their own, and at all others."""
    ports = _http_ports(service)
    if ports is None:
        return
    rest = tuple(port for port in ports if port not in own)
    by_policy: dict[ResourceKey, tuple[Resource, list[int]]] = {}
    for port, policy in sorted(own.items()):
        by_policy.setdefault(policy.key, (policy, []))[1].append(port)
    if holding is not None and (rest or not ports):
        by_policy.setdefault(holding.key, (holding, []))[1].extend(rest)
    for policy, found in by_policy.values():
        if policy.spec.origins:
            labels = tuple(sorted(service.selector))
            yield TokenDemand(policy, service.namespace, service.name, labels, tuple(sorted(found)), bool(own))


def _tokens(demand: TokenDemand) -> Resource:
    policy = demand.policy
    spec: AuthenticationPolicySpec = policy.spec
    rules = tuple(jwt_rule(origin.jwt) for origin in spec.origins if origin.jwt is not None)
    content = RequestAuthenticationSpec(selector=WorkloadSelector(dict(demand.selector)), jwt_rules=rules)
    name = f"{policy.key.name}-{demand.service}"
    made = _made("RequestAuthentication", demand.namespace, name, policy, content, policy.origin_at("spec.origins"))
    places = {f"spec.jwtRules[{index}]": policy.origin_at(f"spec.origins[{index}].jwt") for index in range(len(rules))}
    return msgspec.structs.replace(made, places={**made.places, **places})


def _demand(demand: TokenDemand) -> Resource:
    """Deny what has no token, at the paths where the origins ask for one: as much of it as such a policy can say.

    Where origins ask at different paths each path needs a token of one that asks there; a pattern stands for all paths.
    """
    policy = demand.policy
    jwts = [origin.jwt for origin in policy.spec.origins if origin.jwt is not None]
    kinds = tuple(dict.fromkeys(jwt.trigger_rules for jwt in jwts))
    alone = len(kinds) == 1 and not demand.at_ports
    rules = []
    for triggers in kinds:
        issuers = tuple(dict.fromkeys(f"{jwt.issuer}/*" for jwt in jwts if jwt.trigger_rules == triggers))
        operations = tuple(_asked(trigger, demand.ports) for trigger in triggers or (TriggerRule(),))
        source = Source(not_request_principals=("*",) if alone else issuers)
        asked = operations if RuleTo(Operation()) not in operations else None
        rules.append(Rule(from_=(RuleFrom(source),), to=asked))
    spec = AuthorizationPolicySpec(selector=WorkloadSelector(dict(demand.selector)), action="DENY", rules=tuple(rules))
    name = f"{policy.key.name}-{demand.service}-token"
    return _made("AuthorizationPolicy", demand.namespace, name, policy, spec, policy.origin_at("spec.origins"))


def _asked(trigger: TriggerRule, ports: tuple[int, ...]) -> RuleTo:
    included = () if any(match.regex is not None for match in trigger.included_paths) else trigger.included_paths
    return RuleTo(
        Operation(
            ports=tuple(map(str, ports)),
            paths=tuple(map(_path, included)),
            not_paths=tuple(_path(match) for match in trigger.excluded_paths if match.regex is None),
        )
    )


def _path(match: PathMatch) -> str:
    if match.exact is not None:
        return match.exact
    return f"{match.prefix}*" if match.prefix is not None else f"*{match.suffix}"


def _http_ports(service: Service) -> tuple[int, ...] | None:
    """The ports of a service's workloads that may speak HTTP; empty: all, as some are unknown; None: there is none."""
    speaking = [port.target for port in service.ports if port.protocol.is_http or port.protocol is Protocol.UNSPECIFIED]
    if not speaking:
        return None
    if any(isinstance(target, str) for target in speaking):
        return ()
    return tuple(dict.fromkeys(target for target in speaking if isinstance(target, int)))


def _made(kind: str, namespace: str, name: str, source: Resource, spec: object, origin: Origin) -> Resource:
    return Resource(
        key=ResourceKey(kind, namespace, name),
        origin=source.origin,
        spec=spec,
        creation=source.creation,
        places={"spec": origin},
    )
