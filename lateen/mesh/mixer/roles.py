"""What the adapter ``rbac`` decides by: ServiceRoles with their bindings, and who may do what by them.

Comes in: the resources of a mesh whose rules ask ``rbac``. Goes out: grants, and findings. Pure: whether a grant lets
something be done is told here, for the adapter; the plan asks the same of proxies.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from lateen.findings import Finding, warning
from lateen.mesh.legacy_access import PERMISSIVE, fits, granted
from lateen.mesh.mixer.model import Grant
from lateen.resources.legacy_access import Constraint, RoleRule, Subject
from lateen.resources.resource import Resource

EVERYONE = "*"
HOST, PORT = "request.host", "destination.port"
NAMESPACE, ADDRESS = "source.namespace", "source.ip"
"""The properties of an action and of a subject that fields of roles and bindings mean."""


class Asked(msgspec.Struct, frozen=True):
    """Who wants to do what. ``groups`` may be several, with commas between them."""

    namespace: str = ""
    service: str = ""
    method: str = ""
    path: str = ""
    user: str = ""
    groups: str = ""
    subject: Mapping[str, str] = {}
    action: Mapping[str, str] = {}


def grants_of(by_kind: Mapping[str, Sequence[Resource]]) -> tuple[tuple[Grant, ...], tuple[Finding, ...]]:
    """What bindings grant. One that is PERMISSIVE grants nothing."""
    roles = {(role.key.namespace, role.key.name): role for role in by_kind.get("ServiceRole", ())}
    found: list[Grant] = []
    findings: list[Finding] = []
    for binding in by_kind.get("ServiceRoleBinding", ()):
        rules, problems = granted(binding, roles)
        findings.extend(problems)
        if binding.spec.mode == PERMISSIVE:
            message = "the adapter rbac only knows what is allowed, so a PERMISSIVE binding allows nothing"
            findings.append(warning("without-effect", message, binding.origin_at("spec.mode"), "leave mode out"))
        elif any(one.is_tried for one in rules):
            message = "the adapter rbac only knows what is allowed, so a PERMISSIVE role allows nothing"
            findings.append(warning("without-effect", message, binding.origin, "leave the role's mode out"))
        elif rules:
            found.append(Grant(binding.key.namespace, tuple(one.rule for one in rules), binding.spec.subjects))
    return tuple(found), tuple(findings)


def allows(grant: Grant, asked: Asked) -> bool:
    """Whether a grant lets it be done."""
    if grant.namespace != asked.namespace:
        return False
    to_do = any(_permits(rule, asked) for rule in grant.rules)
    return to_do and any(_means(subject, asked) for subject in grant.subjects)


def _permits(rule: RoleRule, asked: Asked) -> bool:
    return all(_passes(test, asked) for test in tests_of_rule(rule))


def _means(subject: Subject, asked: Asked) -> bool:
    if not asked_of_groups(subject, asked.groups):
        return False
    return all(_passes(test, asked) for test in tests_of_subject(subject))


class Test(msgspec.Struct, frozen=True):
    """A part of what is asked has to be there and fit one of the patterns, or (``fitting`` false) none of them.

    ``part`` is a field of ``Asked``; ``key`` an entry of one that is a map. ``blocks``: the patterns are addresses.
    """

    part: str
    patterns: tuple[str, ...]
    key: str = ""
    fitting: bool = True
    blocks: bool = False


def tests_of_rule(rule: RoleRule) -> Iterator[Test]:
    """What a rule of a role asks of an action."""
    yield Test("service", rule.services)
    for part, wanted, unwanted, key in (
        ("method", rule.methods, rule.not_methods, ""),
        ("path", rule.paths, rule.not_paths, ""),
        ("action", rule.hosts, rule.not_hosts, HOST),
        ("action", tuple(map(str, rule.ports)), tuple(map(str, rule.not_ports)), PORT),
    ):
        yield from _both_ways(part, wanted, unwanted, key)
    yield from (_constraint(one) for one in rule.constraints)


def _constraint(constraint: Constraint) -> Test:
    return Test("action", constraint.values, constraint.key, blocks=constraint.key.endswith(".ip"))


def tests_of_subject(subject: Subject) -> Iterator[Test]:
    """What a subject asks of who asks, but for groups. That everyone is meant asks nothing."""
    names = subject.names or ((subject.user,) if subject.user not in ("", EVERYONE) else ())
    yield from _both_ways("user", names, subject.not_names)
    yield from _both_ways("subject", subject.namespaces, subject.not_namespaces, NAMESPACE)
    yield from _both_ways("subject", subject.ips, subject.not_ips, ADDRESS, blocks=True)
    for key, value in subject.properties.items():
        yield Test("subject", (value,), key, blocks=key == ADDRESS)


def _both_ways(
    part: str, wanted: tuple[str, ...], unwanted: tuple[str, ...], key: str = "", *, blocks: bool = False
) -> Iterator[Test]:
    if wanted:
        yield Test(part, wanted, key, blocks=blocks)
    if unwanted:
        yield Test(part, unwanted, key, fitting=False, blocks=blocks)


def asked_of_groups(subject: Subject, groups: str) -> bool:
    """Whether a subject may be in these groups."""
    found = {one.strip() for one in groups.split(",") if one.strip()}
    wanted = subject.groups or ((subject.group,) if subject.group else ())
    if wanted and not any(fits(pattern, one) for pattern in wanted for one in found):
        return False
    return not (subject.not_groups and (not found or any(fits(no, one) for no in subject.not_groups for one in found)))


def _passes(test: Test, asked: Asked) -> bool:
    part = getattr(asked, test.part)
    return passes(test, part.get(test.key, "") if test.key else part)


def passes(test: Test, text: str) -> bool:
    """Whether a text is there, and fits as the test wants it."""
    if not text:
        return False
    fit = any(_in_block(pattern, text) if test.blocks else fits(pattern, text) for pattern in test.patterns)
    return fit is test.fitting


def _in_block(block: str, text: str) -> bool:
    try:
        return ipaddress.ip_address(text) in ipaddress.ip_network(block, strict=False)
    except ValueError:
        return False
