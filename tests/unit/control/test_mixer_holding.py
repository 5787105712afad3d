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


MANIFEST = resources(
    f"{HEAD}kind: attributemanifest\nmetadata: {{name: mine}}\nspec: {{attributes: {{a.b: {{valueType: BOOL}}}}}}\n"
)[0]
OTHER_MANIFEST = resources(
    f"{HEAD}kind: attributemanifest\nmetadata: {{name: mine}}\nspec: {{attributes: {{a.b: {{valueType: STRING}}}}}}\n"
)[0]
COUNTER = resources(f"{HEAD}kind: handler\nmetadata: {{name: deny}}\nspec: {{compiledAdapter: prometheus}}\n")[0]
UNKNOWN = resources(
    f"{HEAD}kind: instance\nmetadata: {{name: nil}}\n"
    "spec: {compiledTemplate: listentry, params: {value: nobody.knows}}\n"
)[0]
GOOD = (MANIFEST, HANDLER, INSTANCE, rule("deny", "a.b"))


@pytest.mark.parametrize(
    ("wanted", "code", "words"),
    [
        ((*GOOD[:3], rule("deny", "a.c")), "invalid-expression", "; its last version goes on"),
        ((MANIFEST, COUNTER, *GOOD[2:]), "wrong-template", "; the last version of handler default/deny goes on"),
        ((MANIFEST, HANDLER, UNKNOWN, GOOD[3]), "invalid-expression", "; its last version goes on"),
        ((*GOOD[1:],), "invalid-expression", "; the last version of attributemanifest default/mine goes on"),
        ((OTHER_MANIFEST, *GOOD[1:]), "invalid-expression", "; the last version of attributemanifest default/mine"),
        ((MANIFEST, COUNTER, INSTANCE, rule("deny", "a.c")), "invalid-expression", "; its last version goes on"),
    ],
)
def test_a_rule_in_force_never_falls_away_by_an_edit_that_makes_it_unusable(wanted, code, words):
    held, findings = settle_rules(GOOD, wanted)
    assert {one.key: one for one in held} == {one.key: one for one in GOOD}
    assert code in [finding.code for finding in findings]
    assert any(words in finding.message for finding in findings)


def test_what_is_new_or_was_wrong_before_is_not_held():
    wrong, other = rule("deny", "a.c"), rule("deny", "a.d")
    assert settle_rules(GOOD[:3], (*GOOD[:3], wrong)) == ((*GOOD[:3], wrong), ())
    assert settle_rules((*GOOD[:3], wrong), (*GOOD[:3], other)) == ((*GOOD[:3], other), ())
    assert settle_rules(GOOD, (COUNTER,)) == ((COUNTER,), ())


QUOTA = f"""{HEAD}kind: memquota
metadata: {{name: counter}}
spec: {{quotas: [{{name: %s, maxAmount: 5, validDuration: 1s}}]}}
---
{HEAD}kind: quota
metadata: {{name: calls}}
spec: {{dimensions: {{}}}}
---
{HEAD}kind: rule
metadata: {{name: counted}}
spec: {{actions: [{{handler: counter.memquota, instances: [calls.quota]}}]}}
---
{HEAD}kind: QuotaSpec
metadata: {{name: calls}}
spec: {{rules: [{{quotas: [{{quota: %s}}]}}]}}
---
{HEAD}kind: QuotaSpecBinding
metadata: {{name: calls}}
spec: {{services: [{{service: "*"}}], quotaSpecs: [{{name: calls}}]}}
"""


@pytest.mark.parametrize(
    ("limit", "quota", "code"), [("other", "calls", "no-limit"), ("calls", "other", "unknown-quota")]
)
def test_a_quota_in_force_stays_so(limit, quota, code):
    before = resources(QUOTA % ("calls", "calls"))
    held, findings = settle_rules(before, resources(QUOTA % (limit, quota)))
    assert {one.key: one.spec for one in held} == {one.key: one.spec for one in before}
    assert [finding.code for finding in findings] == [code]


def test_what_only_stands_at_other_lines_has_not_changed():
    """A rule is taken away above what it counted: nothing else was edited, so nothing is put back."""
    text = QUOTA % ("calls", "calls")
    before = resources(text)
    parts = text.split("---\n")
    wanted = resources("\n# a line\n" + "---\n".join(part for part in parts if "kind: rule" not in part))
    held, findings = settle_rules(before, wanted)
    assert (held, findings) == (wanted, ())
