"""What resources of the present kinds cannot say, or say in another way: notes for who converts, with file and line.

Comes in: the old resources, services, and what was made of them. Goes out: findings, none of which is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from lateen.findings import Finding, Severity, warning
from lateen.mesh.legacy_access import CONFIG_KINDS, PERMISSIVE, is_enforced
from lateen.mesh.model import Service
from lateen.resources.checks.metadata import DRY_RUN
from lateen.resources.legacy_access import RbacConfigSpec, ServiceRoleBindingSpec
from lateen.resources.legacy_authentication import AuthenticationPolicySpec
from lateen.resources.resource import Resource

CODE = "not-carried-over"


def conversion_notes(
    by_kind: Mapping[str, Sequence[Resource]],
    services: Sequence[Service],
    made: Iterable[Resource],
    root_namespace: str,
) -> Iterator[Finding]:
    """Every note, in no order."""
    for kind in CONFIG_KINDS:
        for config in by_kind.get(kind, ()):
            yield from _of_config(config, services)
    for role in by_kind.get("ServiceRole", ()):
        if role.spec.mode == PERMISSIVE:
            yield _on_trial(role, "spec.mode")
    for binding in by_kind.get("ServiceRoleBinding", ()):
        yield from _of_binding(binding)
    for kind in ("MeshPolicy", "Policy"):
        for policy in by_kind.get(kind, ()):
            yield from _of_authentication(policy)
    for resource in made:
        yield from _of_made(resource, by_kind, root_namespace)


def _of_config(config: Resource, services: Sequence[Service]) -> Iterator[Finding]:
    spec: RbacConfigSpec = config.spec
    if spec.mode in (None, "OFF"):
        return
    origin = config.origin_at("spec.mode")
    enforced = [service for service in services if service.selector and is_enforced(spec, service)]
    if not enforced:
        message = "no service is known that this is for, so nothing is made of it"
        yield warning(CODE, message, origin, "convert with the Service resources, or lateen.yaml, beside this file")
    if spec.mode != "ON_WITH_INCLUSION" or (spec.inclusion and spec.inclusion.namespaces):
        message = f"{spec.mode} holds for services that come later, too; the policies are for those that are there now"
        yield warning(CODE, message, origin, "give each new service a policy, or convert again")
    unknown = set(spec.inclusion.services if spec.inclusion else ()) - {service.hostname for service in services}
    if unknown:
        message = f"there is no service {', '.join(sorted(unknown))}, so no policy is made for it"
        yield warning(CODE, message, config.origin_at("spec.inclusion.services"), "give its Service resource too")
    if any(not service.selector for service in services if is_enforced(spec, service) and not service.external):
        message = "services without a selector have no workloads that a policy could name"
        yield warning(CODE, message, origin, "write policies for their workloads by hand")
    if spec.enforcement_mode == PERMISSIVE:
        yield _on_trial(config, "spec.enforcementMode")


def _of_binding(binding: Resource) -> Iterator[Finding]:
    spec: ServiceRoleBindingSpec = binding.spec
    if spec.mode == PERMISSIVE:
        yield _on_trial(binding, "spec.mode")
    for index, subject in enumerate(spec.subjects):
        if subject.not_names or subject.not_namespaces or subject.not_groups:
            message = "where some are left out by name or group, the others have to be known: '*' stands beside them"
            yield _note(binding, f"spec.subjects[{index}]", message)


def _of_authentication(policy: Resource) -> Iterator[Finding]:
    spec: AuthenticationPolicySpec = policy.spec
    if spec.peers and spec.peer_is_optional:
        yield _note(policy, "spec.peerIsOptional", "peers that are optional become mode PERMISSIVE")
    if not spec.peers:
        yield _note(policy, "spec", "where nothing is asked of peers, the mode is PERMISSIVE")
    if not spec.origins:
        return
    if not spec.origin_is_optional:
        message = "a request without a token is denied by an AuthorizationPolicy: the answer is 403, no longer 401"
        yield _note(policy, "spec.origins", message)
    if not spec.targets:
        message = "tokens of services that come later are not looked at; the policies are for those that are there now"
        yield warning(CODE, message, policy.origin_at("spec.origins"), "give each new service its policies")
    jwts = [origin.jwt for origin in spec.origins if origin.jwt is not None]
    triggers = [trigger for jwt in jwts for trigger in jwt.trigger_rules]
    found = (
        (triggers, "a token that is not good is refused at other paths, too"),
        (spec.origin_is_optional, "a token that is not good is refused, and counted as none before"),
        (
            any(match.regex for one in triggers for match in (*one.included_paths, *one.excluded_paths)),
            "policies have no patterns of paths: a token is asked for at every path that one might mean",
        ),
        (
            len({jwt.trigger_rules for jwt in jwts}) > 1,
            "where origins ask at different paths, each path needs a token of an origin that asks just there",
        ),
        (any(target.ports for target in spec.targets), "tokens are looked at at every port of the service"),
    )
    for holds, message in found:
        if holds:
            yield warning(CODE, message, policy.origin_at("spec.origins"), "look at what is written")


def _of_made(resource: Resource, by_kind: Mapping[str, Sequence[Resource]], root: str) -> Iterator[Finding]:
    selector = resource.spec.selector
    labels = dict(selector.match_labels) if selector is not None else {}
    origin = resource.origin
    if labels and resource.key.namespace == root:
        message = f"a selector in {root} is for workloads of every namespace"
        yield warning(CODE, message, origin, "move the service to a namespace of its own")
    for present in by_kind.get(resource.key.kind, ()):
        other = present.spec.selector.match_labels if present.spec.selector else {}
        overlaps = all(labels.get(name, value) == value for name, value in other.items())
        if labels and present.key.namespace == resource.key.namespace and overlaps:
            message = f"{present.key} may be for some of these workloads, too: from now on both hold there"
            yield warning(CODE, message, origin, "look at both")


def _on_trial(resource: Resource, field: str) -> Finding:
    return _note(
        resource, field, f"PERMISSIVE becomes the annotation {DRY_RUN}: the rules are logged and decide nothing"
    )


def _note(resource: Resource, field: str, message: str) -> Finding:
    return Finding(CODE, Severity.INFO, message, resource.origin_at(field))
