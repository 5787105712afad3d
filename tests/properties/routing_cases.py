"""Routing tests made up by Hypothesis, in the form of ``lateen test``: a mesh, a proxy in it, and calls.

The names are few, so that matches, hosts and calls meet each other often. What fails can be saved as it is and run by
``lateen test --live``.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

SERVICES = ("a", "b")
OUTSIDE = ("shop.example", "*.shop.example", "*.example")
PORTS = (80, 8080)
WORDS = ("", "x", "X", "xy", "1", "é")
HEADERS = ("user", "x-group")
LABELS = ({}, {"app": "client"}, {"version": "v2"}, {"app": "client", "version": "v1"})
PATHS = ("/", "/a", "/A", "/a/", "/a/b", "/ab", "/b", "/a//b", "/a/./b", "/a/../b", "/a%2Fb", "/a%2fB", "/%61", "/a;b",
         "/a\\b", "/%2e%2e/b", "/a/%2E%2e/b", "/a%", "/a%zz", "/%7Eb", "/a^b", "/a|b", "/%20", "/a/..", "/..", "/.",
         "//a", "/a{b}", '/a"b', "/a//../b", "/x%5Cy", "/[a]", "/a'b", "/a%C3%A9", "/a=b&c")  # fmt: skip
QUERIES = ("", "?", "?p", "?p=", "?p=x", "?p=xy&q=1", "?q=X&p=x", "?p=1&p=x", "?p=%78", "?p=a+b", "?P=x", "?p=x#f")
HOSTS = (
    "a", "A", "a:80", "a:8080", "a.default", "a.default.svc.cluster.local", "a.default.svc.cluster.local.", "b", "b:80",
    "shop.example", "SHOP.example:80", "shop.example:8080", "shop.example.", "www.shop.example", "x.y.shop.example:80",
    "other.example", "nowhere", "10.9.0.1", "10.9.0.1:80",
)  # fmt: skip

pick = st.sampled_from


def text_match(words: tuple[str, ...]) -> st.SearchStrategy[dict[str, str]]:
    some = tuple(word for word in words if word)
    patterns = (".*", "x+", "[xX]y?", "(?i)x", "1|x", "/a.*", "/[ab]/?.*", ".", "")
    return st.one_of(
        pick(some).map(lambda word: {"exact": word}),
        pick(some).map(lambda word: {"prefix": word}),
        pick(tuple(pattern for pattern in patterns if pattern)).map(lambda pattern: {"regex": pattern}),
    )


http_match = st.fixed_dictionaries(
    {},
    optional={
        "uri": text_match(tuple(path for path in PATHS if "%" not in path)),
        "ignoreUriCase": st.booleans(),
        "headers": st.dictionaries(pick(HEADERS), st.one_of(text_match(WORDS), st.just({})), min_size=1, max_size=2),
        "withoutHeaders": st.dictionaries(pick(HEADERS), st.one_of(text_match(WORDS), st.just({})), min_size=1),
        "method": text_match(("GET", "POST", "G")),
        "authority": text_match(("a", "a:80", "shop.example", "SHOP.example:80", "10.9.0.1")),
        "scheme": text_match(("http", "https")),
        "queryParams": st.dictionaries(pick(("p", "q")), st.one_of(text_match(WORDS), st.just({})), min_size=1),
        "port": pick((80, 8080)),
        "sourceLabels": pick(LABELS[1:]),
        "gateways": pick((["mesh"], ["gateway"], ["mesh", "gateway"])),
    },
)
destination = st.builds(
    lambda host, port: {"destination": {"host": host, "port": {"number": port}}}, pick(SERVICES), pick(PORTS)
)


@st.composite
def action(draw: Any) -> dict[str, Any]:
    kind = draw(st.integers(0, 5))
    if kind == 0:
        return {"redirect": {"uri": "/there", "redirectCode": draw(pick((301, 302, 303, 307, 308)))}}
    if kind == 1:
        return {"directResponse": {"status": draw(pick((200, 404, 503)))}}
    if kind == 2:
        weight = draw(pick((0, 1, 50, 99, 100)))
        first, second = draw(destination), draw(destination)
        return {"route": [{**first, "weight": weight}, {**second, "weight": 100 - weight}]}
    return {"route": [draw(destination)], **draw(pick(({}, {"rewrite": {"uri": "/z"}}, {"timeout": "5s"})))}


@st.composite
def http_routes(draw: Any) -> list[dict[str, Any]]:
    routes = []
    for number in range(draw(st.integers(1, 4))):
        matches = draw(st.lists(http_match, max_size=3).map(lambda found: [one for one in found if one]))
        routes.append({"name": f"r{number}", **({"match": matches} if matches else {}), **draw(action())})
    return routes


@st.composite
def virtual_services(draw: Any) -> list[dict[str, Any]]:
    hosts = draw(st.lists(pick((*SERVICES, *OUTSIDE, "10.9.0.1")), unique=True, min_size=1, max_size=5))
    made = []
    while hosts:
        own = [hosts.pop() for _ in range(draw(st.integers(1, min(2, len(hosts)))))]
        spec = {"hosts": own, "http": draw(http_routes())}
        spec |= draw(pick(({}, {"gateways": ["mesh"]}, {"gateways": ["gateway"]}, {"gateways": ["mesh", "gateway"]})))
        made.append(resource("networking.istio.io/v1", "VirtualService", f"vs-{len(made)}", spec))
    return made


def resource(version: str, kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def service(name: str, address: str, ports: list[dict[str, Any]]) -> dict[str, Any]:
    return resource("v1", "Service", name, {"clusterIP": address, "selector": {"app": name}, "ports": ports})


BOTH_PORTS = [{"name": "http", "port": 80}, {"name": "http-more", "port": 8080}]
MESH = [service(name, f"10.1.0.{number}", BOTH_PORTS) for number, name in enumerate(SERVICES, 1)]


@st.composite
def gateways(draw: Any) -> list[dict[str, Any]]:
    servers = [
        {
            "port": {"number": port, "name": f"http-{port}", "protocol": "HTTP"},
            "hosts": draw(
                st.lists(pick((*OUTSIDE, "*", "*/shop.example", "other/*.example")), unique=True, min_size=1)
            ),
            **draw(pick(({}, {"tls": {"httpsRedirect": True}}))),
        }
        for port in draw(st.lists(pick(PORTS), unique=True, min_size=1))
    ]
    spec = {"selector": {"istio": "gateway"}, "servers": servers}
    return [resource("networking.istio.io/v1", "Gateway", "gateway", spec)]


@st.composite
def http_call(draw: Any, mode: str) -> dict[str, Any]:
    return {
        "mode": mode,
        "address": draw(pick(("10.1.0.1", "10.1.0.2", "10.9.0.1"))),
        "port": draw(pick(PORTS)),
        "protocol": draw(pick(("http", "http2"))),
        "host": draw(pick(HOSTS)),
        "path": draw(pick(PATHS)) + draw(pick(QUERIES)),
        "method": draw(pick(("GET", "POST", "OPTIONS"))),
        "headers": draw(st.dictionaries(pick(HEADERS), pick(WORDS), max_size=2)),
    }


@st.composite
def http_case(draw: Any) -> dict[str, Any]:
    """A sidecar or a gateway, VirtualServices for it, and requests."""
    at_gateway = draw(st.booleans())
    labels = {"istio": "gateway"} if at_gateway else draw(pick(LABELS))
    config = [*draw(virtual_services()), *draw(gateways())]
    calls = draw(st.lists(http_call("gateway" if at_gateway else "outbound"), min_size=20, max_size=40))
    return case("router" if at_gateway else "sidecar", labels, MESH, config, calls)


def case(
    kind: str, labels: dict[str, str], kubernetes: list[Any], config: list[Any], calls: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "proxy": {"type": kind, "namespace": "default", "labels": labels, "addresses": ["10.0.0.1"]},
        "kubernetes": documents(kubernetes),
        "config": documents(config),
        "calls": [{"name": f"call {number}", "call": call} for number, call in enumerate(calls)],
    }


def documents(found: list[Any]) -> str:
    return "\n---\n".join(json.dumps(one, ensure_ascii=False) for one in found)
