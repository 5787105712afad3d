"""What the kinds of the first generation can say and Lateen does not do.

Comes in: the content of a resource. Goes out: (field path, what it is, what to write instead) for each such thing.
"""

from __future__ import annotations

from collections.abc import Iterator

from lateen.resources.legacy_access import RoleRule, ServiceRoleBindingSpec, ServiceRoleSpec
from lateen.resources.legacy_authentication import AuthenticationPolicySpec

USER = "destination.user"
LABEL = "destination.labels["
AUTHENTICATION_FIELDS = frozenset(
    {
        "targets[].labels",
        "peers[].jwt",
        "peers[].mtls.allowTls",
        "origins[].jwt.triggerRules[].includedPaths[].regex",
        "origins[].jwt.triggerRules[].excludedPaths[].regex",
    }
)
"""Fields of Policy and MeshPolicy that are refused wherever they stand."""
Unusable = Iterator[tuple[str, str, str]]


def unusable_rules(spec: ServiceRoleSpec | ServiceRoleBindingSpec) -> Unusable:
    """Constraints that ask for what is not known where rules are made."""
    rules: tuple[RoleRule, ...] = spec.rules if isinstance(spec, ServiceRoleSpec) else spec.actions
    name = "rules" if isinstance(spec, ServiceRoleSpec) else "actions"
    for index, rule in enumerate(rules):
        for number, constraint in enumerate(rule.constraints):
            place = f"spec.{name}[{index}].constraints[{number}]"
            if constraint.key == USER:
                yield f"{place}.key", USER, "name services, or destination.labels"
            if constraint.key.startswith(LABEL) and any("*" in value for value in constraint.values):
                yield f"{place}.values", "wildcards in values of labels", "name each value"


def unusable_authentication(spec: AuthenticationPolicySpec) -> Unusable:
    """Tokens at single ports, and tokens of which each is for other paths."""
    jwts = [origin.jwt for origin in spec.origins if origin.jwt is not None]
    if len({jwt.trigger_rules for jwt in jwts}) > 1:
        yield "spec.origins", "origins with different triggerRules", "give each the same"
    if jwts and any(target.ports for target in spec.targets):
        yield "spec.origins", "origins of single ports", "leave the ports out, or the origins"
