"""What checks cannot know yet is told: a rule that never holds for them, and one that would refuse every request."""

from __future__ import annotations

import pytest

from lateen.expressions.vocabulary import AFTERWARDS
from lateen.mixer import check_bag, report_bag
from lateen.plan.mixer.decisions import NOWHERE, TOO_EARLY, decisions
from tests.unit.plan.building import snapshot

RULE = """
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {name: names}
spec: {compiledAdapter: listchecker, params: {overrides: [a]}}
---
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {name: entry}
spec: {compiledTemplate: listentry, params: {value: '%s'}}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: known}
spec:
  match: '%s'
  actions: [{handler: names, instances: [entry]}]
  responseHeaderOperations: [{name: x, values: ['%s']}]
"""
GOOD = ("source.user", 'request.method == "GET"', "source.user")


@pytest.mark.parametrize(
    ("value", "match", "header", "told"),
    [
        (*GOOD, []),
        ('response.headers["a"] | source.user', "response.code == 1 || true", '"a" + response.grpc_status | "b"', []),
        (GOOD[0], "response.code == 404", GOOD[2], [("spec.match", False)]),
        (GOOD[0], 'request.method == "GET" && check.cache_hit', GOOD[2], [("spec.match", False)]),
        ('response.headers["a"]', *GOOD[1:], [("spec.actions[0].instances[0]", True)]),
        (*GOOD[:2], 'response.headers["a"]', [("spec.responseHeaderOperations[0].values[0]", False)]),
    ],
)
def test_what_checks_do_not_know_is_told(value: str, match: str, header: str, told: list[tuple[str, bool]]) -> None:
    made = snapshot(RULE % (value, match, header))
    found = [(one.origin.field, one.is_error) for one in made.findings if one.code == "not-yet-known"]
    assert found == told
    assert len(made.mixer.rules) == (0 if any(wrong for _, wrong in told) else 1)


def test_a_rule_that_never_holds_for_checks_costs_nothing() -> None:
    made = snapshot(RULE % (GOOD[0], "response.code == 404", GOOD[2]))
    found = list(decisions(made.mixer, {"destination.namespace": "default"}))
    assert [(one.where, one.why) for one in found] == [(NOWHERE, TOO_EARLY)] * 2


def test_what_is_known_only_afterwards_is_what_reports_tell_and_checks_do_not() -> None:
    assert not AFTERWARDS & check_bag.ATTRIBUTES
    assert report_bag.ATTRIBUTES - check_bag.ATTRIBUTES <= AFTERWARDS
