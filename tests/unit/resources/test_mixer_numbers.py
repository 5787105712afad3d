"""Names that handlers and rules may write as numbers, as protobuf's JSON and Istio's own documents do."""

from __future__ import annotations

import pytest

from lateen.resources.mixer.content import HandlerContent, handler_content
from tests.unit.plan.building import resources

HANDLER = """
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {{name: one}}
spec: {{compiledAdapter: {adapter}, params: {params}}}
"""


@pytest.mark.parametrize(
    ("adapter", "number", "name"),
    [
        (
            "stdio",
            "{severityLevels: {warning: 1}, logStream: 1}",
            "{severityLevels: {warning: WARNING}, logStream: STDERR}",
        ),
        ("listchecker", "{entryType: 3}", "{entryType: REGEX}"),
        ("prometheus", "{metrics: [{name: a, kind: 2}]}", "{metrics: [{name: a, kind: COUNTER}]}"),
        ("statsd", "{metrics: {a: {type: 3}}}", "{metrics: {a: {type: DISTRIBUTION}}}"),
        ("redisquota", "{quotas: [{rateLimitAlgorithm: 1}]}", "{quotas: [{rateLimitAlgorithm: ROLLING_WINDOW}]}"),
    ],
)
def test_a_number_means_what_its_name_means(adapter: str, number: str, name: str) -> None:
    written = [handler_content(*resources(HANDLER.format(adapter=adapter, params=params))) for params in (number, name)]
    assert isinstance(written[0], HandlerContent)
    assert written[0] == written[1]


def test_a_number_of_no_name_is_told_with_the_names() -> None:
    (problem,) = handler_content(*resources(HANDLER.format(adapter="stdio", params="{logStream: 7}")))  # type: ignore[misc]
    assert problem.message == "7 is none of FILE, ROTATED_FILE, STDERR, STDOUT"


def test_a_rule_may_say_what_to_do_with_a_header_by_number() -> None:
    operation = "{name: x, values: ['\"a\"'], operation: 2}"
    (rule,) = resources(
        "apiVersion: config.istio.io/v1alpha2\nkind: rule\nmetadata: {name: r}\n"
        f"spec: {{requestHeaderOperations: [{operation}]}}\n"
    )
    assert rule.spec.request_header_operations[0].operation == "APPEND"
