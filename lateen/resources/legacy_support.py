"""What the kinds of the first generation can say and Lateen does not do.

Comes in: the content of a resource. Goes out: (field path, what it is, what to write instead) for each such thing.
"""

from __future__ import annotations

from collections.abc import Iterator

from lateen.resources.legacy_access import RoleRule, ServiceRoleBindingSpec, ServiceRoleSpec

USER = "destination.user"
LABEL = "destination.labels["
AUTHENTICATION_FIELDS = frozenset(
    {
        "targets[].labels",
        "peers[].jwt",
        "peers[].mtls.allowTls",
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
