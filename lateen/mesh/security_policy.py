"""Which security policy holds for a workload.

PeerAuthentication: the workload's own policy, then its namespace's, then the mesh's (root namespace, no selector); in
each level the oldest stands and UNSET asks the next one; what nobody says is the mesh's default. Ports are set by the
winning workload policy alone. A policy with a selector in the root namespace is ignored.
AuthorizationPolicy and RequestAuthentication: those of the root namespace and of the workload's own that select it,
together.
The kinds of the first generation (``legacy``) hold for a workload where none of the present kind does: roles where no
AuthorizationPolicy selects it, peers where no PeerAuthentication says anything, tokens where no RequestAuthentication
does. A policy that decides nothing (AUDIT, on trial, without rules for tokens) stands beside them. Roles have no effect
at gateways.
"""

from __future__ import annotations

import enum

import msgspec

from lateen.mesh.model import Labels, MeshSnapshot, TokenDemand
from lateen.mesh.visibility import selects
from lateen.resources.checks.metadata import is_dry_run
from lateen.resources.request_authentication import RequestAuthenticationSpec
from lateen.resources.resource import Resource
from lateen.resources.security import AuthorizationPolicySpec, MutualTls, PeerAuthenticationSpec
from lateen.values.names import BUILT_IN, Origin


class MtlsMode(enum.Enum):
    """What a workload's port accepts: mesh TLS only, both, or plain text only."""

    STRICT = "STRICT"
    PERMISSIVE = "PERMISSIVE"
    DISABLE = "DISABLE"


class PeerPolicy(msgspec.Struct, frozen=True):
    """The mode of a workload and of those of its ports (the workload's port numbers) that differ.

    ``port_origins`` say where what is said of single ports stands.
    """

    mode: MtlsMode
    origin: Origin
    ports: tuple[tuple[int, MtlsMode], ...] = ()
    port_origins: tuple[tuple[int, Origin], ...] = ()

    def on(self, port: int) -> MtlsMode:
        return dict(self.ports).get(port, self.mode)

    def origin_on(self, port: int) -> Origin:
        return dict(self.port_origins).get(port, self.origin)


def peer_policy(snapshot: MeshSnapshot, namespace: str, labels: Labels) -> PeerPolicy:
    """The PeerAuthentication that holds for a workload."""
    root = snapshot.settings.root_namespace
    levels = _levels(snapshot.peer_authentications, root, namespace, labels)
    if levels == (None, None, None):
        levels = _levels(snapshot.legacy.peers, root, namespace, labels)
    mode, origin = MtlsMode(snapshot.settings.default_mtls), BUILT_IN
    for resource_at_level in levels:
        said = _mode(resource_at_level)
        if resource_at_level is not None and said is not None:
            mode, origin = said, resource_at_level.origin_at("spec.mtls.mode")
    return PeerPolicy(mode, origin, _port_modes(levels[2], mode), _port_origins(levels[2]))


def _levels(
    resources: tuple[Resource, ...], root: str, namespace: str, labels: Labels
) -> tuple[Resource | None, Resource | None, Resource | None]:
    """What holds for the mesh, for a namespace and for a workload."""
    own: Resource | None = None
    in_namespace: Resource | None = None
    in_mesh: Resource | None = None
    for resource in resources:
        spec: PeerAuthenticationSpec = resource.spec
        has_selector = bool(spec.selector and spec.selector.match_labels)
        where = resource.key.namespace
        if where == namespace and has_selector and where != root:
            if own is None and selects(spec.selector.match_labels if spec.selector else {}, labels):
                own = resource
        elif where == root and not has_selector:
            in_mesh = in_mesh or resource
        elif where == namespace and not has_selector:
            in_namespace = in_namespace or resource
    return in_mesh, in_namespace, own


def _mode(resource: Resource | None) -> MtlsMode | None:
    spec: PeerAuthenticationSpec | None = resource.spec if resource is not None else None
    text = spec.mtls.mode if spec is not None and spec.mtls is not None else "UNSET"
    return None if text in (None, "", "UNSET") else MtlsMode(text)


def _port_modes(resource: Resource | None, mode: MtlsMode) -> tuple[tuple[int, MtlsMode], ...]:
    if resource is None:
        return ()
    spec: PeerAuthenticationSpec = resource.spec
    return tuple(
        (int(port), mode if setting.mode in (None, "", "UNSET") else MtlsMode(setting.mode))
        for port, setting in sorted(spec.port_level_mtls.items(), key=lambda item: int(item[0]))
    )


def _port_origins(resource: Resource | None) -> tuple[tuple[int, Origin], ...]:
    """Where those modes of ports stand that are not the workload's."""
    said: dict[str, MutualTls] = resource.spec.port_level_mtls if resource is not None else {}
    return tuple(
        (int(port), resource.origin_at(f"spec.portLevelMtls.{port}.mode"))
        for port, setting in said.items()
        if resource is not None and setting.mode not in (None, "", "UNSET")
    )


def is_on_trial(policy: Resource) -> bool:
    """Whether an AuthorizationPolicy is only tried."""
    return is_dry_run(policy.annotations)


def decides(policy: Resource) -> bool:
    """Whether a resource of the present kinds decides anything, so that old ones make room for it."""
    spec = policy.spec
    if isinstance(spec, AuthorizationPolicySpec):
        return spec.action != "AUDIT" and not is_on_trial(policy)
    return not isinstance(spec, RequestAuthenticationSpec) or bool(spec.jwt_rules)


def authorization_policies(
    snapshot: MeshSnapshot, namespace: str, labels: Labels, *, at_gateway: bool = False
) -> tuple[Resource, ...]:
    """Every AuthorizationPolicy that holds for a workload, oldest first."""
    found = _together(snapshot, snapshot.authorization_policies, namespace, labels)
    if snapshot.legacy.access and not at_gateway and not any(map(decides, found)):
        found = (*found, *_own(snapshot.legacy.access, namespace, labels))
    return found


def request_authentications(snapshot: MeshSnapshot, namespace: str, labels: Labels) -> tuple[Resource, ...]:
    """Every RequestAuthentication that holds for a workload, oldest first."""
    return _together(snapshot, snapshot.request_authentications, namespace, labels)


def token_demands(snapshot: MeshSnapshot, namespace: str, labels: Labels) -> tuple[TokenDemand, ...]:
    """What Policies of the first generation ask of tokens, where no RequestAuthentication says anything of them."""
    if not snapshot.legacy.origins or any(map(decides, request_authentications(snapshot, namespace, labels))):
        return ()
    return tuple(one for one in snapshot.legacy.origins if one.namespace == namespace and selects(one.selector, labels))


def _own(resources: tuple[Resource, ...], namespace: str, labels: Labels) -> tuple[Resource, ...]:
    """Those of a namespace that select a workload."""
    return tuple(
        resource
        for resource in resources
        if resource.key.namespace == namespace and selects(resource.spec.selector.match_labels, labels)
    )


def _together(
    snapshot: MeshSnapshot, resources: tuple[Resource, ...], namespace: str, labels: Labels
) -> tuple[Resource, ...]:
    places = (snapshot.settings.root_namespace, namespace)
    found = []
    for resource in resources:
        spec: AuthorizationPolicySpec | RequestAuthenticationSpec = resource.spec
        selector = spec.selector.match_labels if spec.selector else {}
        if resource.key.namespace in places and selects(selector, labels):
            found.append(resource)
    return tuple(found)
