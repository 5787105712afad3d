"""The adapter ``rbac``: what roles and bindings allow, and that everything else is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lateen.mesh.mixer.resolve import resolve
from lateen.mixer.adapter import OK, PERMISSION_DENIED
from lateen.mixer.adapters.rbac import Rbac
from lateen.mixer.order import MixerOrder, ordered, rules_of
from lateen.mixer.templates import Action, Authorization, CheckNothing, Subject
from lateen.resources.resource import Resource
from tests.properties.mixer_roles import RBAC, written

ROLE = {"services": ["a.default"], "methods": ["GET"], "paths": ["/x*"]}
ALICE = {"user": "alice"}


def resources(rule: dict[str, Any], subject: dict[str, Any], **binding: Any) -> list[Resource]:
    told = {"subject": {"user": "source.user"}, "action": {"namespace": '"default"'}}
    reference = {"kind": "ServiceRole", "name": "role"}
    return [
        written("handler", "roles", {"compiledAdapter": "rbac"}),
        written("instance", "who", {"compiledTemplate": "authorization", "params": told}),
        written("rule", "ask", {"actions": [{"handler": "roles", "instances": ["who"]}]}),
        written("ServiceRole", "role", {"rules": [rule]}, RBAC),
        written("ServiceRoleBinding", "bound", {"subjects": [subject], "roleRef": reference, **binding}, RBAC),
    ]


def verdict(rule: dict[str, Any], subject: dict[str, Any], who: Subject, action: dict[str, Any]) -> int:
    """By the rules as the mixer gets them from the control plane."""
    rules = rules_of(MixerOrder(resources=ordered(resources(rule, subject)), root_namespace="default"))
    full = {"namespace": "default", "service": "a.default", "method": "GET", "path": "/x/y", **action}
    instance = Authorization(subject=who, action=Action(**full))
    return asyncio.run(Rbac(lambda: rules.grants).check(instance)).code


@pytest.mark.parametrize(
    ("rule", "subject", "who", "action", "code"),
    [
        ({}, {}, {}, {}, OK),
        ({}, {}, {"user": "bob"}, {}, PERMISSION_DENIED),
        ({}, {}, {"user": ""}, {}, PERMISSION_DENIED),
        ({}, {"user": "*"}, {"user": ""}, {}, OK),
        ({}, {}, {}, {"namespace": "other"}, PERMISSION_DENIED),
        ({}, {}, {}, {"namespace": ""}, PERMISSION_DENIED),
        ({}, {}, {}, {"service": ""}, PERMISSION_DENIED),
        ({"services": ["*"]}, {}, {}, {"service": ""}, PERMISSION_DENIED),
        ({"services": ["*"]}, {}, {}, {"service": "b.default"}, OK),
        ({}, {}, {}, {"method": "POST"}, PERMISSION_DENIED),
        ({"methods": ["*"]}, {}, {}, {"method": "POST"}, OK),
        ({}, {}, {}, {"path": "/y"}, PERMISSION_DENIED),
        ({"paths": [], "notPaths": ["/y"]}, {}, {}, {"path": "/z"}, OK),
        ({"paths": [], "notPaths": ["/y"]}, {}, {}, {"path": ""}, PERMISSION_DENIED),
        ({"hosts": ["h"]}, {}, {}, {}, PERMISSION_DENIED),
        ({"hosts": ["h"]}, {}, {}, {"properties": {"request.host": "h"}}, OK),
        ({"ports": [80]}, {}, {}, {"properties": {"destination.port": 80}}, OK),
        ({"ports": [80]}, {}, {}, {"properties": {"destination.port": 81}}, PERMISSION_DENIED),
        ({"constraints": [{"key": "destination.ip", "values": ["10.0.0.0/8"]}]}, {}, {}, {}, PERMISSION_DENIED),
        (
            {"constraints": [{"key": "destination.ip", "values": ["10.0.0.0/8"]}]},
            {},
            {},
            {"properties": {"destination.ip": "10.1.2.3"}},
            OK,
        ),
        ({}, {"groups": ["ops"]}, {"groups": "devs, ops"}, {}, OK),
        ({}, {"groups": ["ops"]}, {"groups": "devs"}, {}, PERMISSION_DENIED),
        ({}, {"group": "ops"}, {}, {}, PERMISSION_DENIED),
        ({}, {"notGroups": ["ops"]}, {"groups": "devs"}, {}, OK),
        ({}, {"notGroups": ["ops"]}, {"groups": ""}, {}, PERMISSION_DENIED),
        ({}, {"properties": {"source.namespace": "n*"}}, {"properties": {"source.namespace": "ns"}}, {}, OK),
        ({}, {"properties": {"source.namespace": "n*"}}, {}, {}, PERMISSION_DENIED),
        ({}, {"ips": ["10.0.0.0/8"]}, {"properties": {"source.ip": "11.0.0.1"}}, {}, PERMISSION_DENIED),
        ({}, {"ips": ["10.0.0.0/8"]}, {"properties": {"source.ip": "10.0.0.1"}}, {}, OK),
        ({}, {"ips": ["10.0.0.0/8"]}, {"properties": {"source.ip": "nonsense"}}, {}, PERMISSION_DENIED),
    ],
)
def test_a_verdict(
    rule: dict[str, Any], subject: dict[str, Any], who: dict[str, Any], action: dict[str, Any], code: int
) -> None:
    asking = Subject(**{"user": "alice", **who})
    assert verdict({**ROLE, **rule}, {**ALICE, **subject}, asking, action) == code


def by_kind(found: list[Resource]) -> dict[str, list[Resource]]:
    return {kind: [one for one in found if one.key.kind == kind] for kind in {one.key.kind for one in found}}


def test_what_is_permissive_allows_nothing_and_a_role_that_is_not_there_is_told() -> None:
    rules, findings = resolve(by_kind(resources(ROLE, ALICE, mode="PERMISSIVE")), "default")
    assert rules.grants == ()
    assert [finding.origin.field for finding in findings] == ["spec.mode"]
    missing = [one for one in resources(ROLE, ALICE) if one.key.kind != "ServiceRole"]
    rules, findings = resolve(by_kind(missing), "default")
    assert rules.grants == ()
    assert "there is no ServiceRole role" in findings[0].message


def test_roles_make_another_generation_where_they_are_asked_alone() -> None:
    with_role, without = resources(ROLE, ALICE), resources(ROLE, {"user": "bob"})
    generations = {resolve(by_kind(found), "default")[0].generation for found in (with_role, without)}
    assert len(generations) == 2
    unasked = [one for one in with_role if one.key.kind != "rule"]
    assert resolve(by_kind(unasked), "default")[0].grants == ()
    assert {one.key.kind for one in ordered(with_role[3:])} == set()


def test_no_other_template_is_taken() -> None:
    with pytest.raises(TypeError):
        asyncio.run(Rbac(list).check(CheckNothing()))
