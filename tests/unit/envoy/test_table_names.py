"""Route tables of chains that ask authorizers: a name of their own for Envoy, the known one for everybody else."""

from __future__ import annotations

from msgspec.structs import replace

from lateen.envoy.resources import LISTENER, ROUTE
from lateen.envoy.table_names import with_own_tables, written_name
from lateen.envoy.translate import translate
from lateen.plan.access.model import AccessPolicy, AccessRule, All, ExternalAuthorizer, ExternalCheck
from lateen.plan.model import HttpChain, ProxyPlan
from lateen.plan.patch_values import Patch, RoutePlace
from lateen.plan.routes import RouteTable
from tests.envoy.harness import listening
from tests.golden.plan_to_envoy.cases import RULES, plan_of


def asking(*names: str) -> AccessPolicy:
    rule = AccessRule("r", All(), All(), RULES)
    return AccessPolicy(
        external=tuple(ExternalCheck(ExternalAuthorizer(name, "grpc", "c", "c"), (rule,)) for name in names)
    )


def planned(access: AccessPolicy) -> ProxyPlan:
    chain = HttpChain("g", "http.80", access=access)
    return plan_of((listening(80, chain),), (RouteTable("http.80", ()), RouteTable("http.81", ())))


def names(plan: ProxyPlan) -> list[str]:
    return [table.name for table in with_own_tables(plan).route_tables]


def test_a_table_of_a_chain_that_asks_has_a_name_by_whom_it_asks() -> None:
    assert names(planned(AccessPolicy())) == ["http.80", "http.81"]
    (other, one), (_, both), (_, turned) = (names(planned(asking(*found))) for found in ("a", "ab", "ba"))
    assert other == "http.81"
    assert len({"http.80", one, both, turned}) == 4
    assert {written_name(name) for name in (one, both, turned)} == {"http.80"}
    assert written_name("http.80") == "http.80"


def test_listener_and_table_agree_and_patches_find_the_table_by_its_known_name() -> None:
    plan = planned(asking("a"))
    value = '{"response_headers_to_remove": ["x"]}'
    patch = Patch("ROUTE_CONFIGURATION", "MERGE", value, RULES, routes=RoutePlace(name="http.80", port=80))
    made = translate(replace(plan, patches=(patch,)))
    assert patch.origin in made.applied
    (listener,) = made.by_type[LISTENER].values()
    (wanted,) = [name for kind, name in listener.references if kind == ROUTE]
    assert wanted in made.by_type[ROUTE]
    assert "http.80" not in made.by_type[ROUTE]
