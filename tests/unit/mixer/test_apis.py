"""Descriptions of APIs: which attributes requests have by them, and what proxies know of that."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lateen.expressions.evaluate import MapBag, RecordingBag
from lateen.mesh.mixer.resolve import resolve
from lateen.mixer.apis import Apis
from lateen.mixer.engine import Engine
from lateen.mixer.handlers import Handlers
from lateen.mixer.reach import Reach
from lateen.plan.mixer.decisions import decisions
from lateen.resources.mixer.uri_template import pattern_of
from lateen.resources.resource import Resource
from tests.properties.mixer_roles import written

HOST = "pets.default.svc.cluster.local"
BINDING = {"services": [{"name": "pets"}], "apiSpecs": [{"name": "pets"}]}


def said(**values: str) -> dict[str, Any]:
    return {"attributes": {name.replace("__", "."): {"stringValue": value} for name, value in values.items()}}


PETS = {
    "attributes": said(api__service="pets.example", api__version="1"),
    "patterns": [
        {"httpMethod": "GET", "uriTemplate": "/pets", "attributes": said(api__operation="list")},
        {"httpMethod": "GET", "uriTemplate": "/pets/{id}", "attributes": said(api__operation="show")},
        {"httpMethod": "get", "uriTemplate": "/pets/mine", "attributes": said(api__operation="never")},
        {"httpMethod": "POST", "regex": "/pets[?]dry=.*", "attributes": said(api__operation="try", api__version="2")},
    ],
}


def by_kind(*resources: Resource) -> dict[str, list[Resource]]:
    return {kind: [one for one in resources if one.key.kind == kind] for kind in {one.key.kind for one in resources}}


def apis(spec: dict[str, Any]) -> Apis:
    rules, findings = resolve(
        by_kind(written("HTTPAPISpec", "pets", spec), written("HTTPAPISpecBinding", "bound", BINDING)), "root"
    )
    assert findings == ()
    return Apis(rules.apis)


def request(method: str = "GET", path: str = "/pets", host: str = HOST, **more: Any) -> dict[str, Any]:
    headers = {name.lower(): value for name, value in more.pop("headers", {}).items()}
    return {
        "request.method": method,
        "request.path": path,
        "request.headers": headers,
        "request.query_params": dict(pair.split("=") for pair in path.partition("?")[2].split("&") if pair),
        "destination.service.host": host,
        **more,
    }


@pytest.mark.parametrize(
    ("asked", "operation", "version"),
    [
        (request(), "list", "1"),
        (request(path="/pets?all=1"), "list", "1"),
        (request(path="/pets/7"), "show", "1"),
        (request(path="/pets/mine"), "show", "1"),
        (request(path="/pets/7/toys"), None, "1"),
        (request("POST"), None, "1"),
        (request("POST", "/pets?dry=yes"), "try", "2"),
        (request(host="other"), None, None),
        ({"destination.service.host": HOST}, None, None),
        (request(**{"api.operation": "told", "api.version": "9"}), "told", "9"),
    ],
)
def test_operations(asked: dict[str, Any], operation: str | None, version: str | None) -> None:
    bag = apis(PETS).on(MapBag(asked))
    assert (bag.get("api.operation"), bag.get("api.version")) == (operation, version)


@pytest.mark.parametrize(
    ("keys", "asked", "key"),
    [
        ([], request(path="/pets?key=a"), "a"),
        ([], request(path="/pets?api_key=b"), "b"),
        ([], request(headers={"X-Api-Key": "c"}), "c"),
        ([], request(path="/pets?key=a", headers={"X-Api-Key": "c"}), "a"),
        ([], request(), None),
        ([], request(host="other", headers={"X-Api-Key": "c"}), None),
        ([{"header": "X-Own"}], request(headers={"x-own": "d", "x-api-key": "c"}), "d"),
        ([{"header": "X-Own"}], request(headers={"x-api-key": "c"}), None),
        ([{"cookie": "k"}], request(headers={"cookie": "a=1; k=e"}), "e"),
        ([{"cookie": "k"}], request(headers={"cookie": '"; ;;=k'}), None),
        ([{"query": "q"}, {"header": "h"}], request(headers={"h": "f"}), "f"),
    ],
)
def test_keys(keys: list[dict[str, str]], asked: dict[str, Any], key: str | None) -> None:
    assert apis({**PETS, "apiKeys": keys}).on(MapBag(asked)).get("request.api_key") == key


def test_what_it_depends_on_counts_as_looked_at() -> None:
    recording = RecordingBag(MapBag(request(headers={"x-api-key": "c"})))
    apis(PETS).on(recording).get("request.api_key")
    assert {("request.query_params", "key"), ("request.headers", "x-api-key")} <= recording.seen
    apis(PETS).on(recording).get("api.operation")
    assert {("request.method", None), ("request.path", None)} <= recording.seen


@pytest.mark.parametrize(
    ("template", "fits", "fails"),
    [
        ("/pets", ("/pets",), ("/pets/", "/petsx", "/")),
        ("/pets/{id}", ("/pets/1", "/pets/a.b"), ("/pets/", "/pets/1/2")),
        ("/terms/{term:1}/{term}", ("/terms/c/cat",), ("/terms/ca/cat",)),
        ("/files/{+path}", ("/files/a/b",), ("/files/",)),
        ("/search{?q*,lang}", ("/search",), ("/search/x",)),
        ("/a{/b,c}", ("/a/x/y",), ("/a/x", "/a/x/y/z")),
        ("/a{/b*}", ("/a", "/a/x/y/z"), ("/ax",)),
        ("/point/{x,y}", ("/point/1,2",), ("/point/1",)),
        ("/v*/a", ("/v*/a",), ("/v1/a",)),
        ("/*/a", ("/v1/a",), ("/v1/b/a",)),
        ("/x/**", ("/x/", "/x/a/b"), ("/x",)),
        ("/a.b", ("/a.b",), ("/aXb",)),
    ],
)
def test_templates(template: str, fits: tuple[str, ...], fails: tuple[str, ...]) -> None:
    import re2

    program = re2.compile(pattern_of(template))
    assert [one for one in fits if program.fullmatch(one) is None] == []
    assert [one for one in fails if program.fullmatch(one) is not None] == []


@pytest.mark.parametrize("template", ["pets", "/a{", "/a}", "/a{}", "/a{#x}", "/a{;x}", "/a{.x}", "/a{x y}"])
def test_templates_that_cannot_be(template: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        pattern_of(template)


def listed(keys: list[dict[str, str]], *, blacklist: bool = False) -> dict[str, list[Resource]]:
    return by_kind(
        written("HTTPAPISpec", "pets", {**PETS, "apiKeys": keys}),
        written("HTTPAPISpecBinding", "bound", BINDING),
        written(
            "handler",
            "keys",
            {"compiledAdapter": "listchecker", "params": {"overrides": ["good"], "blacklist": blacklist}},
        ),
        written("instance", "key", {"compiledTemplate": "listentry", "params": {"value": 'request.api_key | ""'}}),
        written(
            "rule",
            "ask",
            {"match": 'api.service == "pets.example"', "actions": [{"handler": "keys", "instances": ["key"]}]},
        ),
        written("rule", "always", {"actions": [{"handler": "keys", "instances": ["key"]}]}),
    )


def test_a_list_of_keys_and_what_the_proxy_knows_of_it() -> None:
    rules, findings = resolve(listed([{"header": "x-own"}], blacklist=True), "default")
    assert findings == ()
    here = {"destination.namespace": "default", "destination.service.host": HOST}
    always, ask = decisions(rules, here)
    assert (always.where, ask.where) == ("proxy", "mixer")
    assert ask.why == "api.service may be found by an HTTPAPISpec"
    elsewhere = list(decisions(rules, {**here, "destination.service.host": "other"}))
    assert [one.where for one in elsewhere] == ["proxy", "nowhere"]
    asking, _ = decisions(resolve(listed([{"query": "key"}]), "default")[0], here)
    assert (asking.where, asking.why) == ("mixer", "request.api_key is known to the mixer alone")


def test_the_mixer_looks_into_the_list() -> None:
    rules, _ = resolve(listed([]), "default")

    async def checked(asked: dict[str, Any]) -> Any:
        handlers = Handlers(Reach().web)
        await handlers.follow(rules, fail_open=False)
        return await Engine(rules, handlers.running).check(MapBag({**asked, "destination.namespace": "default"}))

    assert asyncio.run(checked(request(path="/pets?key=good"))).code == 0
    refused = asyncio.run(checked(request(path="/pets?key=bad")))
    assert refused.code == 7
    assert refused.inputs == ("header::method", "header::path")


@pytest.mark.parametrize(
    ("spec", "binding", "code"),
    [
        (PETS, {**BINDING, "apiSpecs": [{"name": "other"}]}, "unknown-api-spec"),
        ({"attributes": said(own__level="1")}, BINDING, "unknown-attribute"),
        ({"attributes": said(request__size="1")}, BINDING, "wrong-type"),
    ],
)
def test_what_leads_nowhere_is_told(spec: dict[str, Any], binding: dict[str, Any], code: str) -> None:
    found = by_kind(written("HTTPAPISpec", "pets", spec), written("HTTPAPISpecBinding", "bound", binding))
    rules, findings = resolve(found, "default")
    assert rules.apis == ()
    assert code in {finding.code for finding in findings}


def test_attributes_of_manifests_and_of_other_types() -> None:
    values = {
        "own.level": {"int64Value": 3},
        "own.share": {"doubleValue": 0.5},
        "own.on": {"boolValue": True},
        "own.at": {"timestampValue": "2026-01-31T12:00:00Z"},
        "own.took": {"durationValue": "10ms"},
        "own.map": {"stringMapValue": {"entries": {"a": "b"}}},
    }
    types = ("INT64", "DOUBLE", "BOOL", "TIMESTAMP", "DURATION", "STRING_MAP")
    manifest = {name: {"valueType": kind} for name, kind in zip(values, types, strict=True)}
    found = by_kind(
        written("HTTPAPISpec", "pets", {"attributes": {"attributes": values}}),
        written("HTTPAPISpecBinding", "bound", BINDING),
        written("attributemanifest", "own", {"attributes": manifest}),
    )
    rules, findings = resolve(found, "default")
    assert findings == ()
    bag = Apis(rules.apis).on(MapBag(request()))
    assert (bag.get("own.level"), bag.get("own.share"), bag.get("own.on")) == (3, 0.5, True)
    assert (bag.get("own.took").total_seconds(), bag.entry("own.map", "a"), bag.entry("own.map", "b")) == (
        0.01,
        "b",
        None,
    )
    assert bag.get("own.at").year == 2026
