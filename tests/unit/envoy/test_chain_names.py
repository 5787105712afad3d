"""Chains that ask authorizers: a name of their own for Envoy, the known one for everybody else."""

from __future__ import annotations

from msgspec.structs import replace

from lateen.envoy.chain_names import with_marked_chains, written_name
from lateen.envoy.translate import translate
from lateen.plan.access.model import AccessPolicy, AccessRule, All, ExternalAuthorizer, ExternalCheck
from lateen.plan.model import HttpChain, ProxyPlan
from lateen.plan.patch_values import ListenerPlace, Patch
from lateen.plan.routes import RouteTable
from tests.envoy.harness import listening
from tests.golden.plan_to_envoy.cases import RULES, plan_of


def asking(*names: str) -> AccessPolicy:
    rule = AccessRule("r", All(), All(), RULES)
    return AccessPolicy(
        external=tuple(ExternalCheck(ExternalAuthorizer(name, "grpc", "c", "c"), (rule,)) for name in names)
    )


def planned(access: AccessPolicy) -> ProxyPlan:
    return plan_of((listening(80, HttpChain("g", "http.80", access=access)),), (RouteTable("http.80", ()),))


def name_of(plan: ProxyPlan) -> str:
    return with_marked_chains(plan).listeners[0].chains[0].name


def test_a_chain_that_asks_has_a_name_by_whom_it_asks() -> None:
    known = name_of(planned(AccessPolicy()))
    one, both, turned = (name_of(planned(asking(*found))) for found in ("a", "ab", "ba"))
    assert len({known, one, both, turned}) == 4
    assert {written_name(name) for name in (known, one, both, turned)} == {known}


def test_patches_find_the_chain_by_its_known_name() -> None:
    plan = planned(asking("a"))
    place = ListenerPlace(chain=plan.listeners[0].chains[0].name)
    patch = Patch("FILTER_CHAIN", "MERGE", '{"transport_socket_connect_timeout": "3s"}', RULES, listener=place)
    assert patch.origin in translate(replace(plan, patches=(patch,))).applied
