"""Quotas of Mixer that a proxy counts by itself: nobody is asked, and there is no mixer here at all."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lateen.control.mixer_placing import placed
from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.harness import Answer, Authority, eventually
from tests.envoy.test_live_inbound import PEER, Server, app_address, connect, mesh_tls, server
from tests.unit.mixer_resources import document

LIMITED = [200, 200, 429]
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: server}
spec: {selector: {app: server}, ports: [{name: http, port: 18080}]}
"""
Quota = Mapping[str, Any]
QUOTAS: Mapping[str, Quota] = {
    "plain": {},
    "header": {
        "dimensions": {"who": 'request.headers["x-who"] | "nobody"', "where": 'destination.labels["app"]'},
        "overrides": [
            {"dimensions": {"who": "rich"}, "maxAmount": 4},
            {"dimensions": {"who": "nobody"}, "maxAmount": 1},
            {"dimensions": {"who": "rich", "where": "server"}, "maxAmount": 9},
            {"dimensions": {"where": "elsewhere"}, "maxAmount": 9},
        ],
    },
    "needed": {
        "dimensions": {"who": "request.referer"},
        "charges": [
            ([{"request.url_path": {"exact": "/needed"}}], 1),
            ([{"request.url_path": {"exact": "/needed/free"}}], 0),
        ],
    },
    "entry": {"dimensions": {"who": 'request.headers["x-who"]'}},
    "default": {
        "dimensions": {"who": 'request.headers["x-who"] | "nobody"', "too": 'request.headers["x-who"] | "none"'}
    },
    "later": {"charges": [([{"request.url_path": {"prefix": "/both"}}], 1)]},
    "sooner": {"charges": [([{"request.url_path": {"prefix": "/both"}}], 1)], "spec": "first"},
    "caller": {"dimensions": {"who": 'source.principal | "nobody"'}},
    "path": {"dimensions": {"where": "request.url_path", "how": "request.method"}},
    "address": {"dimensions": {"from": "source.ip"}},
    "amounts": {
        "max": 6,
        "charges": [
            ([{"request.url_path": {"prefix": "/amounts"}}], 2),
            ([{"request.url_path": {"exact": "/amounts/dear"}, "request.method": {"exact": "GET"}}], 1),
            ([{"request.url_path": {"prefix": "/amounts"}}], 0),
        ],
    },
    "clauses": {
        "charges": [
            (
                [
                    {"request.url_path": {"regex": "/clauses/[0-9]+"}},
                    {"request.host": {"exact": "clauses.example"}, "destination.port": {"exact": "18080"}},
                ],
                1,
            )
        ]
    },
    "matched": {"match": 'request.headers["x-in"] == "yes"'},
    "quick": {"max": 20, "duration": "1s"},
}


def written(name: str, said: Quota) -> list[str]:
    limit = {"name": name, "maxAmount": said.get("max", 2), "validDuration": said.get("duration", "3600s")}
    if "overrides" in said:
        limit["overrides"] = said["overrides"]
    charges = said.get("charges", [([{"request.url_path": {"prefix": f"/{name}"}}], 1)])
    rules = [
        {"match": [{"clause": clause} for clause in clauses], "quotas": [{"quota": name, "charge": amount}]}
        for clauses, amount in charges
    ]
    match = {"match": said["match"]} if "match" in said else {}
    spec = said.get("spec", name)
    actions = [{"handler": f"{name}-counter.memquota", "instances": [f"{name}.quota"]}]
    return [
        document("memquota", f"{name}-counter", {"quotas": [limit]}, {"lateen.io/counted-by": "proxy"}),
        document("quota", name, {"dimensions": said.get("dimensions", {})}),
        document("rule", name, {**match, "actions": actions}),
        document("QuotaSpec", spec, {"rules": rules}),
        document("QuotaSpecBinding", name, {"services": [{"name": "server"}], "quotaSpecs": [{"name": spec}]}),
    ]


class Counting(NamedTuple):
    proxy: Running
    authority: Authority
    folder: Path

    def ask(self, path: str, headers: Mapping[str, str] | None = None, account: str = "", more: bytes = b"") -> Answer:
        """Calls the workload's port; with a certificate of the mesh where an account is named."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in {"host": "server", **(headers or {})}.items())
        connection: socket.socket = connect(self.proxy)
        if account:
            connection = mesh_tls(self.authority, self.folder, ["istio-http/1.1"], account).wrap_socket(connection)
        with connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nconnection: close\r\n{lines}".encode() + more + b"\r\n")
            response = http.client.HTTPResponse(connection)
            response.begin()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def statuses(self, times: int, path: str, *args: Any, **kwargs: Any) -> list[int]:
        return [self.ask(path, *args, **kwargs).status for _ in range(times)]


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counting]:
    authority = Authority()
    text = "\n---\n".join(
        [
            SERVICE,
            PEER.format(mode="PERMISSIVE"),
            *(one for name, said in QUOTAS.items() for one in written(name, said)),
        ]
    )
    with (
        sidecar(text, workload=server("HTTP"), authority=authority, logs=True) as proxy,
        Server(app_address(proxy)),
    ):
        yield Counting(proxy, authority, tmp_path_factory.mktemp("pem"))


def test_it_is_told_that_each_is_counted_in_the_proxy(counting: Counting) -> None:
    found = {one.rule: (one.where, one.why) for one in placed(counting.proxy.snapshot) if one.workload == "server"}
    said = ("proxy", "each proxy counts by itself, as the handler says")
    assert found == {f"default/{name}": said for name in QUOTAS}


def test_what_is_above_it_is_refused_as_the_mixer_would(counting: Counting) -> None:
    assert counting.statuses(3, "/plain") == LIMITED
    refused = counting.ask("/plain/refused")
    assert refused.body == b"RESOURCE_EXHAUSTED:Quota is exhausted for: plain"
    name = "mixer:plain.default/plain.quota.default"
    assert refused.headers["x-lateen-rate-limit"] == name
    entry = counting.proxy.logged("/plain/refused")
    assert (entry["response_flags"], entry["rate_limit"]) == ("RL", name)
    assert counting.statuses(5, "/free") == [200] * 5


def test_each_value_has_its_own_and_overrides_theirs(counting: Counting) -> None:
    assert counting.statuses(3, "/header", {"x-who": "poor"}) == LIMITED
    assert counting.statuses(5, "/header", {"x-who": "rich"}) == [200] * 4 + [429]
    assert counting.statuses(2, "/header") == [200, 429]
    assert counting.statuses(1, "/header", {"x-who": "nobody"}) == [429], "it is counted as that"
    assert [counting.ask("/header", more=b"x-who: \xff\xfe\r\n").status for _ in range(3)] == LIMITED


def test_who_lacks_what_is_counted_by_is_refused(counting: Counting) -> None:
    assert counting.statuses(3, "/needed", {"referer": "a"}) == LIMITED
    refused = counting.ask("/needed")
    assert refused.status == 400
    assert refused.body.startswith(b"INVALID_ARGUMENT:needed-counter.memquota.default:needed.quota.default: ")


def test_who_lacks_it_is_refused_where_nothing_is_taken_off_too(counting: Counting) -> None:
    assert counting.statuses(3, "/needed/free", {"referer": "z"}) == [200] * 3
    assert counting.statuses(1, "/needed/free") == [400]


def test_an_entry_of_headers_that_is_not_there_is_counted_as_empty(counting: Counting) -> None:
    assert counting.statuses(1, "/entry") == [200]
    assert counting.statuses(2, "/entry", {"x-who": ""}) == [200, 429]
    assert counting.statuses(1, "/entry") == [429]
    assert counting.statuses(1, "/entry", {"x-who": "a"}) == [200]


def test_a_header_that_is_not_there_has_the_bucket_of_its_default(counting: Counting) -> None:
    assert counting.statuses(1, "/default") == [200]
    assert counting.statuses(3, "/default", {"x-who": "nobody"}) == LIMITED, "the other default tells them apart"
    assert counting.statuses(1, "/header", {"x-who": "-"}) == [200]
    assert counting.statuses(3, "/default", {"x-who": "-"}) == LIMITED
    assert counting.statuses(3, "/default", {"x-who": ""}) == LIMITED
    assert counting.statuses(2, "/default") == [200, 429]


def test_quotas_are_charged_in_the_order_of_their_specs(counting: Counting) -> None:
    assert counting.statuses(3, "/both") == LIMITED
    assert b"sooner" in counting.ask("/both").body


def test_callers_are_told_apart_by_their_certificates(counting: Counting) -> None:
    assert counting.statuses(3, "/caller", account="ann") == LIMITED
    assert counting.statuses(1, "/caller", account="bob") == [200]
    assert counting.statuses(3, "/caller", {"x-forwarded-client-cert": "URI=spiffe://a"}) == LIMITED


def test_paths_and_addresses(counting: Counting) -> None:
    assert counting.statuses(3, "/path/a?x=1") == LIMITED
    assert counting.statuses(1, "/path/b") == [200]
    assert counting.statuses(3, "/address") == LIMITED


def test_amounts_of_several_charges_are_taken_together(counting: Counting) -> None:
    assert counting.statuses(3, "/amounts/dear") == [200, 200, 429]
    assert counting.statuses(2, "/amounts/cheap") == [429, 429]


def test_one_of_the_clauses_has_to_hold(counting: Counting) -> None:
    assert counting.statuses(3, "/clauses/x") == [200] * 3
    assert counting.statuses(1, "/clauses/12") == [200]
    assert counting.statuses(2, "/other", {"host": "clauses.example"}) == [200, 429]
    assert counting.statuses(1, "/clauses/13") == [429]


def test_what_no_rule_matches_is_not_counted(counting: Counting) -> None:
    assert counting.statuses(3, "/matched", {"x-in": "yes"}) == LIMITED
    assert counting.statuses(3, "/matched", {"x-in": "no"}) == [200] * 3
    assert counting.statuses(3, "/matched", {"x-in": "YES"}) == [200] * 3
    assert counting.statuses(1, "/matched", more=b"x-in: \xff\r\n") == [200]


def test_it_comes_back_evenly(counting: Counting) -> None:
    eventually(lambda: 429 in counting.statuses(10, "/quick"))
    eventually(lambda: 200 in counting.statuses(1, "/quick"))
