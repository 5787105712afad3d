"""Attributes that somebody writes down: how they are read, and what is said about those that are none."""

from __future__ import annotations

import asyncio

import pytest

from lateen.expressions.vocabulary import DEFAULT_VOCABULARY
from lateen.mixer.by_hand import ByHand, NotAttribute, read_attributes
from lateen.mixer.order import MixerOrder, Place, ordered
from lateen.mixer.outcome import Outcome
from tests.unit.plan.building import resources

RULES = """
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {name: deny}
spec: {compiledAdapter: denier, params: {status: {code: 7, message: no}}}
---
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {name: nothing}
spec: {compiledTemplate: checknothing}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: denied}
spec:
  match: request.headers["x-user"] == "eve" && request.size > 1
  actions: [{handler: deny, instances: [nothing]}]
"""
ORDER = MixerOrder(
    resources=ordered(resources(RULES)),
    places={"echo-v1-0": Place({"destination.namespace": "default"}, {"8000": {"destination.port": 8000}})},
)


def outcome(*written: str, at: str = "", port: str = "") -> tuple[Outcome, list[str]]:
    async def asked() -> tuple[Outcome, list[str]]:
        async with ByHand(ORDER) as rules:
            bag = rules.bag(written, at, port)
            return await rules.check(bag), rules.left_out(bag)

    return asyncio.run(asked())


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("request.size", "is not NAME=VALUE"),
        ("request.sizes=1", "did you mean request.size?"),
        ("-x=1", "docs/reference/mixer.md lists them"),
        ("request.size=x", "'x' is no whole number"),
        ("request.size=99999999999999999999", "does not fit into 64 bits"),
        ("request.headers=5", "is not of the form request.headers[KEY]=VALUE"),
        ("request.headers[]=5", "is not of the form request.headers[KEY]=VALUE"),
        ("request.headers[a=5", "is not of the form request.headers[KEY]=VALUE"),
        ("request.size[a]=5", "is not of the form request.size=VALUE"),
        ("request.path=/a\udcff", "is not UTF-8"),
        ("source.principal=spiffe://c/ns/a/sa/b", "write source.principal=c/ns/a/sa/b"),
    ],
)
def test_what_is_no_attribute_is_told_with_what_to_write(written: str, words: str) -> None:
    with pytest.raises(NotAttribute) as told:
        read_attributes([written], DEFAULT_VOCABULARY)
    assert words in str(told.value)


def test_what_is_given_twice_is_told() -> None:
    for written in (["request.size=1", "request.size=2"], ["request.headers[A]=1", "request.headers[a]=2"]):
        with pytest.raises(NotAttribute, match="is given twice"):
            read_attributes(written, DEFAULT_VOCABULARY)


def test_a_key_may_have_an_equals_sign_and_a_value_everything() -> None:
    found = read_attributes(["request.query_params[a=b]=c]=[d", "request.path=a=b"], DEFAULT_VOCABULARY)
    assert found == {"request.query_params": {"a=b": "c]=[d"}, "request.path": "a=b"}


def test_headers_are_found_whatever_their_case_is_and_the_rule_is_named() -> None:
    found, left_out = outcome("request.headers[X-User]=eve", "request.size=2", at="echo-v1", port="8000")
    assert (found.code, found.refused_by, left_out) == (7, ("denied.default",), [])
    assert found.inputs == ("header:content-length", "header:x-user")


def test_what_rules_look_for_and_is_not_given_is_known() -> None:
    async def missed(*written: str) -> set[str]:
        async with ByHand(ORDER) as rules:
            bag = rules.bag(written, "echo-v1-0")
            await rules.check(bag)
            return bag.missed

    assert asyncio.run(missed("request.headers[X-User]=eve")) == {"request.size"}
    assert asyncio.run(missed("request.size=5")) == {"request.headers[x-user]"}


def test_rules_that_do_not_hold_as_no_place_is_said_are_told() -> None:
    found, left_out = outcome("request.headers[x-user]=eve", "request.size=2")
    assert (found.code, left_out) == (0, ["default"])
    assert outcome("destination.namespace=default")[1] == []


def test_a_place_that_is_not_there_is_told() -> None:
    with pytest.raises(NotAttribute, match="there is no echo-v2; there are: echo-v1-0"):
        outcome(at="echo-v2")
    with pytest.raises(NotAttribute, match="nothing arrives at port 9 of echo-v1-0; its ports are: 8000"):
        outcome(at="echo-v1-0", port="9")
    with pytest.raises(NotAttribute, match="write WORKLOAD:9"):
        outcome(port="9")


@pytest.mark.parametrize("at", ["echo-v1-0", "echo-v1", "echo"])
def test_a_place_is_an_instance_a_workload_or_a_service_with_its_only_port(at: str) -> None:
    async def asked() -> object:
        async with ByHand(ORDER) as rules:
            return rules.bag((), at).get("destination.port")

    assert asyncio.run(asked()) == 8000
