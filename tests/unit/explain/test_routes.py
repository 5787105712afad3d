"""Virtual hosts and routes are chosen as Envoy chooses them."""

from __future__ import annotations

import pytest
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager as Manager,
)
from google.protobuf import json_format

from lateen.explain.call import Call, Mode
from lateen.explain.request import Request, arriving, normalised
from lateen.explain.routes import first_route, matches, virtual_host


def table(**domains):
    made = route_pb2.RouteConfiguration()
    for name, listed in domains.items():
        made.virtual_hosts.add(name=name, domains=listed)
    return made


def call(path="/", **more):
    found = arriving(
        Manager(), Call(port=80, mode=Mode.OUTBOUND, path=path, **{"host": "a.com", **more}), over_tls=False
    )
    assert isinstance(found, Request)
    return found


@pytest.mark.parametrize(
    ("host", "wanted"),
    [("a.com", "it"), ("A.com", "it"), ("x.b.com", "near"), ("x.com", "wide"), ("b.org", "front"), ("z", "rest")],
)
def test_the_most_specific_domain_wins(host, wanted):
    hosts = table(rest=["*"], wide=["*.com"], near=["*.b.com"], front=["b.*"], it=["a.com"])
    assert virtual_host(hosts, host).name == wanted


def test_a_port_counts_unless_it_is_ignored():
    hosts = table(it=["a.com"])
    assert virtual_host(hosts, "a.com:80") is None
    hosts.ignore_port_in_host_matching = True
    assert virtual_host(hosts, "a.com:80").name == "it"


def match(**fields):
    return json_format.ParseDict(fields, route_components_pb2.RouteMatch())


HEADER = {"name": "x-a", "string_match": {"exact": "1"}}
CLAIM = {"filter": "jwt", "path": [{"key": "sub"}], "value": {"present_match": True}}


@pytest.mark.parametrize(
    ("fields", "made", "wanted"),
    [
        ({"prefix": "/a"}, {"path": "/a/b?q=1"}, True),
        ({"prefix": "/A", "case_sensitive": False}, {"path": "/a"}, True),
        ({"path": "/a"}, {"path": "/a/"}, False),
        ({"path_separated_prefix": "/a"}, {"path": "/ab"}, False),
        ({"safe_regex": {"regex": "/a+"}}, {"path": "/aab"}, False),
        ({"safe_regex": {"regex": "/a+"}}, {"path": "/aa?b"}, True),
        ({"prefix": "/", "headers": [HEADER]}, {"headers": (("x-a", "1"),)}, True),
        ({"prefix": "/", "headers": [HEADER]}, {}, False),
        ({"prefix": "/", "headers": [{**HEADER, "invert_match": True}]}, {}, False),
        (
            {"prefix": "/", "headers": [{**HEADER, "invert_match": True, "treat_missing_header_as_empty": True}]},
            {},
            True,
        ),
        ({"prefix": "/", "headers": [{"name": "x-a", "present_match": True, "invert_match": True}]}, {}, True),
        ({"prefix": "/", "headers": [{"name": ":method", "string_match": {"exact": "PUT"}}]}, {"method": "PUT"}, True),
        ({"prefix": "/", "query_parameters": [{"name": "q", "string_match": {"exact": "1"}}]}, {"path": "/?q=1"}, True),
        ({"prefix": "/", "query_parameters": [{"name": "q", "present_match": True}]}, {"path": "/?p"}, False),
        ({"prefix": "/", "dynamic_metadata": [CLAIM]}, {}, False),
        ({"prefix": "/", "dynamic_metadata": [{**CLAIM, "invert": True}]}, {}, True),
    ],
)
def test_matches(fields, made, wanted):
    assert matches(match(**fields), call(**made)) is wanted


def test_the_first_route_that_matches_decides():
    host = route_components_pb2.VirtualHost()
    host.routes.add(name="one").match.prefix = "/one"
    host.routes.add(name="rest").match.prefix = "/"
    assert first_route(host, call("/one/a")).name == "one"
    assert first_route(host, call("/two")).name == "rest"


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/a/./b/../c", "/a/c"),
        ("/../a", "/a"),
        ("/a/..", "/"),
        ("/a\\b", "/a/b"),
        ("/%61%2Fb", "/a%2Fb"),
        ("/a|b^c", "/a%7Cb%5Ec"),
        ("/é", "/%C3%A9"),
    ],
)
def test_paths_are_normalised_as_envoy_does_it(path, wanted):
    assert normalised(path) == wanted


@pytest.mark.parametrize(("query", "wanted"), [("p=x", True), ("p=%78", False), ("p=x&p=y", True), ("p=y&p=x", False)])
def test_the_first_value_of_a_parameter_counts_as_it_is_written(query, wanted):
    made = match(prefix="/", query_parameters=[{"name": "p", "string_match": {"exact": "x"}}])
    assert matches(made, call(f"/?{query}")) is wanted
