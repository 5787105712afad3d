"""What a first request is answered where a quota is charged: the mixer itself, and what a proxy is told, agree.

That Envoy counts as the explainer says is seen to in ``test_limit_agreement``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest

from lateen.explain.access import holds
from lateen.explain.facts import Facts
from lateen.explain.limits import taken
from lateen.explain.request import Request
from lateen.mesh.mixer.model import MixerRules
from lateen.mixer.check_bag import CheckBag
from lateen.mixer.engine import Engine
from lateen.mixer.handlers import Handlers
from lateen.mixer.reach import Reach
from lateen.plan.mixer.decisions import PROXY, Decision, decisions
from lateen.values.rpc_code import INVALID_ARGUMENT, OK, RESOURCE_EXHAUSTED
from tests.properties.length import is_long
from tests.properties.test_mixer_agreement import PATHS, VALUES, Asked, Written, request_of
from tests.unit.mixer_resources import document
from tests.unit.plan.building import snapshot

SEEDS = range(200 if is_long() else 4)
QUOTAS = 40
HERE: dict[str, Any] = {
    "destination.namespace": "default",
    "destination.service.host": "a.default.svc.cluster.local",
    "destination.labels": {"app": "a"},
    "destination.port": 80,
    "destination.owner": None,
}
DIMENSIONS = (
    'request.headers["x-a"]', 'request.headers["x-a"] | "a"', 'request.headers["x-b"] | ""', "request.url_path",
    "request.method", "request.host", "source.principal", 'source.principal | "a"', 'destination.labels["app"]',
    'destination.labels["b"] | "ab"', 'destination.labels["b"]', "destination.port", "source.ip",
)  # fmt: skip
ATTRIBUTES = (
    "request.path", "request.url_path", "request.host", "request.method", "request.scheme", "source.principal",
    "request.referer", "destination.port", "destination.service.host", "destination.owner", "response.code",
)  # fmt: skip
PATTERNS = ("/a.*", ".*", "a|b", "(?i)get", "80", "", "[^/]+", ".*/sa/a")


class Quotas:
    """Quotas and the requests that they are for, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random, self._written = random.Random(seed), Written(seed)

    def requests(self) -> list[Asked]:
        return self._written.requests()

    def texts(self) -> Iterator[str]:
        matches = [text for text, language in self._written.texts() if language == "CEXL"]
        for number in range(QUOTAS):
            yield self._text(matches[number % len(matches)] if number % 3 else "")

    def _text(self, match: str) -> str:
        choose, several = self._random.choice, self._random.randrange
        dimensions = {f"d{number}": choose(DIMENSIONS) for number in range(several(3))}
        overrides = [
            {"dimensions": {name: choose(VALUES)}, "maxAmount": 1 + several(4)}
            for name in dimensions
            for _ in range(several(3))
        ]
        limit = {"name": "q", "maxAmount": 2, "validDuration": "1s", "overrides": overrides}
        charged = [
            {
                "match": [{"clause": self._clause()} for _ in range(several(3))],
                "quotas": [{"quota": "q", "charge": several(4)}],
            }
            for _ in range(1 + several(3))
        ]
        actions = {"actions": [{"handler": "h.memquota", "instances": ["q.quota"]}]}
        return "\n---\n".join(
            (
                document("memquota", "h", {"quotas": [limit]}, {"lateen.io/counted-by": "proxy"}),
                document("quota", "q", {"dimensions": dimensions}),
                document("rule", "r", {**actions, **({"match": match} if match else {})}),
                document("QuotaSpec", "s", {"rules": charged}),
                document("QuotaSpecBinding", "b", {"services": [{"service": "*"}], "quotaSpecs": [{"name": "s"}]}),
            )
        )

    def _clause(self) -> dict[str, dict[str, str]]:
        choose = self._random.choice
        tests = ({"exact": choose((*VALUES, *PATHS))}, {"prefix": choose(VALUES)}, {"regex": choose(PATTERNS)})
        return {choose(ATTRIBUTES): choose(tests) for _ in range(1 + self._random.randrange(2))}


def in_proxy(decision: Decision, asked: Asked) -> int:
    """What a proxy with full buckets answers to a request."""
    path, _, query = asked.path.partition("?")
    own = ((":method", asked.method), (":path", asked.path), (":authority", asked.host))
    headers = (*own, *((name.lower(), value) for name, value in asked.headers))
    facts = Facts(asked.caller, request=Request(asked.host, path, query, headers))
    if any(holds(denial.condition, facts) for denial in decision.denials):
        return INVALID_ARGUMENT
    return RESOURCE_EXHAUSTED if any(taken(rule, facts) > rule.burst for rule in decision.limits) else OK


async def by_mixer(rules: MixerRules, requests: list[Asked]) -> list[int]:
    """What the mixer answers to each of them as the first one."""
    found = []
    for asked in requests:
        handlers = Handlers(Reach().web)
        await handlers.follow(rules, fail_open=False)
        found.append((await Engine(rules, handlers.running).check(CheckBag(request_of(asked), HERE, {}))).code)
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_a_first_request_is_answered_alike(seed: int) -> None:
    quotas, seen = Quotas(seed), set[int]()
    requests = [asked for asked in quotas.requests() if all(value.isascii() for _, value in asked.headers)]
    for text in quotas.texts():
        made = snapshot(text)
        if any(finding.is_error for finding in made.findings):
            continue
        (decision,) = (one for one in decisions(made.mixer, HERE) if "quota" in one.what)
        if decision.where != PROXY:
            continue
        for asked, wanted in zip(requests, asyncio.run(by_mixer(made.mixer, requests)), strict=True):
            found = in_proxy(decision, asked)
            assert found == wanted or (asked.repeats and found == INVALID_ARGUMENT), f"{text}\n{asked}"
            seen.add(wanted)
    assert seen, "none of them is counted by the proxy"
