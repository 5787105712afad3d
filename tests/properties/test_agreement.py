"""The walk of ``lateen test`` and a real Envoy agree on where calls end, whatever the mesh and the calls."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import assume, given

from lateen.control.playing.cases import held_against
from lateen.control.playing.play import play
from lateen.control.routing_tests import CaseResult, run_case
from tests.properties.length import examples
from tests.properties.routing_cases import http_case

pytestmark = pytest.mark.timeout(3600)


def walked(case: dict[str, Any]) -> CaseResult:
    found = run_case(json.dumps(case, ensure_ascii=False).encode(), "case.yaml")
    errors = [finding.render() for finding in found.findings if finding.is_error]
    assume(not errors)
    return found


def agrees(found: CaseResult) -> None:
    calls = [result.call for result in found.results]
    outcomes = asyncio.run(play(found.resources, calls))
    wrong = []
    for result, outcome in zip(found.results, outcomes, strict=True):
        live = held_against(result, outcome)
        if live.disagreements or getattr(outcome, "reason", ""):
            wrong.append((result.call, live.disagreements, outcome, result.verdict.trail))
    assert not wrong, wrong


@given(http_case())
@examples(8, 300)
def test_http(case: dict[str, Any]) -> None:
    agrees(walked(case))
