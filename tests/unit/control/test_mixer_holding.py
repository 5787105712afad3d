"""A rule of Mixer that is in force stays so, whatever happens to what it names."""

import pytest

from lateen.control.mixer_holding import settle_rules
from tests.unit.plan.building import resources

HEAD = "apiVersion: config.istio.io/v1alpha2\n"
HANDLER = resources(f"{HEAD}kind: handler\nmetadata: {{name: deny}}\nspec: {{compiledAdapter: denier}}\n")[0]
OLDER = resources(f"{HEAD}kind: denier\nmetadata: {{name: deny}}\nspec: {{}}\n")[0]
INSTANCE = resources(f"{HEAD}kind: instance\nmetadata: {{name: nil}}\nspec: {{compiledTemplate: checknothing}}\n")[0]


def rule(handler, match="true"):
    actions = f"[{{handler: {handler}, instances: [nil]}}]"
    spec = f'{{match: "{match}", actions: {actions}}}'
    return resources(f"{HEAD}kind: rule\nmetadata: {{name: one}}\nspec: {spec}\n")[0]


@pytest.mark.parametrize(
    ("handler", "name"), [(HANDLER, "deny"), (HANDLER, "deny.default"), (OLDER, "deny.denier.default")]
)
def test_what_a_rule_names_stays_when_it_is_taken_away(handler, name):
    before = (handler, INSTANCE, rule(name))
    held, findings = settle_rules(before, (INSTANCE, rule(name)))
    assert {one.key for one in held} == {one.key for one in before}
    assert [finding.code for finding in findings] == ["still-named"]
    assert settle_rules(held, (INSTANCE,)) == ((INSTANCE,), ())


def test_a_rule_that_names_what_is_not_there_stays_in_its_last_version():
    before = (HANDLER, INSTANCE, rule("deny"))
    held, findings = settle_rules(before, (HANDLER, INSTANCE, rule("dney", "false")))
    assert held == before
    assert [finding.code for finding in findings] == ["unknown-handler"]
    both, findings = settle_rules(before, (INSTANCE, rule("dney")))
    assert {one.key for one in both} == {one.key for one in before}
    assert sorted(finding.code for finding in findings) == ["still-named", "unknown-handler"]


def test_with_nothing_before_there_is_nothing_to_hold():
    wanted = (INSTANCE, rule("deny"))
    assert settle_rules((), wanted) == (wanted, ())
    assert settle_rules((INSTANCE,), wanted) == (wanted, ())


ADAPTER = resources(f"{HEAD}kind: adapter\nmetadata: {{name: mine}}\nspec: {{templates: [checknothing]}}\n")[0]


def outside(adapter):
    spec = f'{{adapter: {adapter}, connection: {{address: "a:1"}}}}'
    return resources(f"{HEAD}kind: handler\nmetadata: {{name: deny}}\nspec: {spec}\n")[0]


@pytest.mark.parametrize("name", ["mine", "mine.default"])
def test_what_a_handler_is_described_by_stays_when_it_is_taken_away(name):
    before = (ADAPTER, outside(name), INSTANCE, rule("deny"))
    held, findings = settle_rules(before, before[1:])
    assert {one.key for one in held} == {one.key for one in before}
    assert [(finding.code, finding.remedy) for finding in findings] == [
        ("still-named", "change the handler, or put it back")
    ]


def test_a_handler_of_an_adapter_that_is_not_there_stays_in_its_last_version():
    before = (ADAPTER, outside("mine"), INSTANCE, rule("deny"))
    held, findings = settle_rules(before, (ADAPTER, outside("other"), INSTANCE, rule("deny")))
    assert {one.key: one for one in held} == {one.key: one for one in before}
    assert [finding.code for finding in findings] == ["unknown-adapter"]
    both, findings = settle_rules(before, (outside("other"), INSTANCE, rule("deny")))
    assert {one.key for one in both} == {one.key for one in before}
    assert sorted(finding.code for finding in findings) == ["still-named", "unknown-adapter"]
