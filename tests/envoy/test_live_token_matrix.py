"""Tokens that are wrong in one way each, in each place and for each demand, at a real Envoy with a server behind it."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from lateen.explain.call import Call, Mode, Protocol
from lateen.explain.simulate import Configuration, simulate
from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.gateways import entry, gateway, gateway_workload, serves
from tests.envoy.harness import Answer, Application, eventually, free_port, raw_status
from tests.envoy.token_support import Issuer, unsigned

MESH = """
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: shop}}
spec:
  hosts: ["*"]
  gateways: [edge]
  http:
  - corsPolicy: {{allowOrigins: [{{exact: "https://page.example"}}], allowMethods: [GET]}}
    route: [{{destination: {{host: shop.example}}}}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens}}
spec: {{jwtRules: {rules}}}
---
{more}
"""
WITH_CLAIM = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: claim}
spec: {rules: [{when: [{key: "request.auth.claims[CLAIM]", values: [b]}]}]}
"""
DEMAND = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: demand}
spec: {rules: [{from: [{source: {requestPrincipals: ["*"]}}]}]}
"""


class Door(NamedTuple):
    """A gateway with a server behind it."""

    proxy: Running
    port: int

    def ask(self, path: str = "/", headers: Mapping[str, str] | None = None, method: str = "GET") -> Answer:
        return self.proxy.get("shop.example", self.port, path, headers=headers, method=method, address="127.0.0.1")

    def status(self, token: str) -> int:
        return self.ask(headers=bearer(token)).status


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@contextlib.contextmanager
def door(*rules: dict[str, Any], more: str = "", logs: bool = False) -> Iterator[Door]:
    """A gateway with these rules; ``logs``: it writes an access log."""
    port = free_port()
    with Application("shop") as app:
        text = entry("shop", app.port) + gateway(serves(port)) + MESH.format(rules=json.dumps(rules), more=more)
        with sidecar(text, workload=gateway_workload(), logs=logs) as proxy:
            yield Door(proxy, port)


RSA, EC, ED = Issuer("rsa", "RS256", "r1"), Issuer("ec", "ES256"), Issuer("ed", "EdDSA")
STRANGER, OTHER_CURVE = Issuer("rsa", "RS256", "r1"), Issuer("rsa", "ES256", "r1")


@pytest.fixture(scope="module")
def issuers() -> Iterator[Door]:
    rules = [{"issuer": one.name, "audiences": ["shop", "bar"], "jwks": one.jwks} for one in (RSA, EC, ED)]
    with door(*rules) as found:
        yield found


@pytest.mark.covers("RequestAuthentication jwtRules[].jwks", "RequestAuthentication jwtRules[].issuer")
@pytest.mark.parametrize("issuer", [RSA, EC, ED], ids=["RS256", "ES256", "EdDSA"])
def test_each_kind_of_key_takes_its_own_tokens(issuers: Door, issuer: Issuer) -> None:
    assert issuers.status(issuer.token()) == 200
    assert issuers.status(issuer.token(aud=["elsewhere", "bar"])) == 200
    assert issuers.status(issuer.token(exp=None)) == 200


WRONG = {
    "expired": RSA.token(exp=1),
    "not yet valid": RSA.token(nbf=int(time.time()) + 3600),
    "wrong issuer": RSA.token(iss="nobody"),
    "no issuer": RSA.token(iss=None),
    "another's issuer": EC.token(iss="rsa"),
    "wrong key": STRANGER.token(),
    "unknown kid": RSA.token({"kid": "r2"}),
    "unsigned": unsigned(RSA.token()),
    "alg none with a signature": RSA.token({"alg": "none"}),
    "HS256 with the public key": RSA.token({"alg": "HS256"}),
    "ES256 for RSA": RSA.token({"alg": "ES256"}),
    "RS256 for EC": EC.token({"alg": "RS256"}),
    "a key of another kind": OTHER_CURVE.token(),
    "RS512 named, RS256 made": RSA.token({"alg": "RS512"}),
    "no signature": RSA.token().rpartition(".")[0],
    "claims changed": ".".join((RSA.token().split(".")[0], STRANGER.token(sub="root").split(".")[1], "AAAA")),
    "not a token": "....",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_token_that_is_wrong_is_refused(issuers: Door, name: str) -> None:
    assert issuers.status(WRONG[name]) == 401


@pytest.mark.covers("RequestAuthentication jwtRules[].audiences")
def test_a_token_for_others_is_refused(issuers: Door) -> None:
    assert [issuers.status(RSA.token(aud=aud)) for aud in ("other", ["a", "b"], None)] == [403, 403, 403]


def test_a_preflight_needs_no_token_and_two_tokens_in_one_place_are_no_way_around(issuers: Door) -> None:
    asking = {"origin": "https://page.example", "access-control-request-method": "GET"}
    assert issuers.ask(headers={**asking, **bearer("nonsense")}, method="OPTIONS").status == 200
    assert issuers.ask(headers=bearer("nonsense"), method="OPTIONS").status == 401
    assert issuers.ask(f"/?access_token={RSA.token()}").status == 200
    for header, parameter in ((RSA.token(), EC.token(exp=1)), (RSA.token(exp=1), EC.token())):
        assert issuers.ask(f"/?access_token={parameter}", bearer(header)).status == 401


def test_no_kid_and_no_alg_leave_it_to_the_signature() -> None:
    first, second = Issuer("i", kid="a"), Issuer("i", kid="b")
    keys = [{name: value for name, value in one.members.items() if name != "alg"} for one in (first, second)]
    with door({"issuer": "i", "jwks": json.dumps({"keys": keys})}) as found:
        assert found.status(second.token()) == 200
        assert found.status(second.token({"kid": None})) == 200
        assert found.status(second.token({"kid": "a"})) == 401
        assert found.status(Issuer("i", kid="a").token()) == 401


@pytest.mark.covers("RequestAuthentication jwtRules[].jwks")
def test_symmetric_keys_and_keys_for_encryption_verify_nothing() -> None:
    secret = {"kty": "oct", "alg": "HS256", "kid": "h", "k": "c2VjcmV0"}
    closed = {**STRANGER.members, "use": "enc"}
    with door(
        {"issuer": "rsa", "jwks": json.dumps({"keys": [secret, closed, {**RSA.members, "d": "secret-part"}]})}
    ) as found:
        assert found.status(RSA.token()) == 200
        assert found.status(STRANGER.token()) == 401
        assert found.status(RSA.token({"alg": "HS256", "kid": "h"})) == 401
        assert "secret-part" not in (found.proxy.folder / "envoy.json").read_text()


PLACES = {
    "issuer": "ec",
    "jwks": EC.jwks,
    "fromHeaders": [{"name": "x-token", "prefix": "Key "}, {"name": "x-bare"}],
    "fromParams": ["t"],
    "fromCookies": ["c"],
    "outputPayloadToHeader": "x-payload",
    "outputClaimToHeaders": [
        {"header": "x-user", "claim": "sub"},
        {"header": "x-city", "claim": "address.city"},
        {"header": "x-groups", "claim": "groups"},
    ],
}


@pytest.fixture(scope="module")
def places() -> Iterator[Door]:
    kept = {
        **PLACES,
        "issuer": "ed",
        "jwks": ED.jwks,
        "forwardOriginalToken": True,
        "fromHeaders": [{"name": "x-kept"}],
    }
    with door(PLACES, kept) as found:
        yield found


@pytest.mark.covers(
    "RequestAuthentication jwtRules[].fromHeaders",
    "RequestAuthentication jwtRules[].fromParams",
    "RequestAuthentication jwtRules[].fromCookies",
)
def test_a_token_is_found_where_the_rule_says_and_nowhere_else(places: Door) -> None:
    for headers, path in (
        ({"x-token": f"Key {EC.token()}"}, "/"),
        ({"x-bare": EC.token()}, "/"),
        ({"cookie": f"a=b; c={EC.token()}"}, "/"),
        ({}, f"/?t={EC.token()}"),
    ):
        answer = places.ask(path, headers)
        assert (answer.status, answer.seen["headers"].get("x-user")) == (200, "ann")
        wrong = {name: value.replace(".", ".x", 1) for name, value in headers.items()}
        assert places.ask(path.replace(".", ".x", 1), wrong).status == 401
    for headers in (bearer("nonsense"), {"cookie": "d=nonsense"}):
        answer = places.ask(headers=headers)
        assert (answer.status, "x-user" in answer.seen["headers"]) == (200, False)


@pytest.mark.covers("RequestAuthentication jwtRules[].forwardOriginalToken")
def test_the_server_sees_the_token_only_where_the_rule_forwards_it(places: Door) -> None:
    assert "x-bare" not in places.ask(headers={"x-bare": EC.token()}).seen["headers"]
    assert "x-token" not in places.ask(headers={"x-token": f"Key {EC.token()}"}).seen["headers"]
    assert places.ask(headers={"x-kept": ED.token()}).seen["headers"]["x-kept"].count(".") == 2


@pytest.mark.covers(
    "RequestAuthentication jwtRules[].outputPayloadToHeader", "RequestAuthentication jwtRules[].outputClaimToHeaders"
)
def test_headers_made_of_claims_cannot_come_from_the_client(places: Door) -> None:
    forged = {"x-user": "root", "x-city": "Rome", "x-groups": "admins", "x-payload": "e30"}
    token = EC.token(address={"city": "Bonn"}, groups=["a", "b"])
    seen = places.ask(headers={**forged, "x-bare": token}).seen["headers"]
    assert (seen["x-user"], seen["x-city"]) == ("ann", "Bonn")
    assert "admins" not in seen.get("x-groups", "")
    payload = json.loads(base64.urlsafe_b64decode(seen["x-payload"] + "=="))
    assert payload["groups"] == ["a", "b"]
    seen = places.ask(headers={**forged, "x-bare": EC.token(sub=None)}).seen["headers"]
    assert {"x-user", "x-city", "x-groups"} & seen.keys() == set()
    seen = places.ask(headers=forged).seen["headers"]
    assert {"x-user", "x-city", "x-groups", "x-payload"} & seen.keys() == set()


@pytest.mark.covers("RequestAuthentication jwtRules[].presence")
def test_a_required_token_is_asked_for_by_the_rule_itself() -> None:
    own = {"issuer": "ec", "jwks": EC.jwks, "fromHeaders": [{"name": "x-own"}]}
    both = {"none": {}, "first": bearer(RSA.token()), "second": {"x-own": EC.token()}}
    both["both"] = {**both["first"], **both["second"]}
    both["second wrong"] = {**both["first"], "x-own": EC.token(exp=1)}
    first = {"issuer": "rsa", "jwks": RSA.jwks, "presence": "REQUIRED"}
    for presence, passing in (
        ("REQUIRED", {"both"}),
        ("OPTIONAL", {"first", "both"}),
        ("UNSPECIFIED", {"first", "both"}),
    ):
        with door(first, {**own, "presence": presence}) as found:
            answers = {name: found.ask(headers=headers).status for name, headers in both.items()}
        assert answers == {name: 200 if name in passing else 401 for name in both}, presence


@pytest.mark.parametrize("required", [(), ("rsa",), ("ec",), ("rsa", "ec")])
def test_a_walk_over_the_configuration_agrees_on_tokens_that_are_required(required: tuple[str, ...]) -> None:
    rules = [
        {"issuer": one.name, "jwks": one.jwks, "presence": "REQUIRED" if one.name in required else "OPTIONAL"}
        for one in (RSA, EC)
    ]
    with door(*({**rule, "fromHeaders": [{"name": f"x-{rule['issuer']}"}]} for rule in rules)) as found:
        configuration = Configuration(found.proxy.resources)
        for issuer in (None, RSA, EC):
            claims = None if issuer is None else {"iss": issuer.name, "sub": "ann"}
            headers = {} if issuer is None else {f"x-{issuer.name}": issuer.token()}
            call = Call(found.port, Mode.GATEWAY, "127.0.0.1", Protocol.HTTP, host="shop.example", claims=claims)
            assert (simulate(configuration, call).status or 200) == found.ask(headers=headers).status


@pytest.mark.parametrize("presence", ["OPTIONAL", "REQUIRED"])
def test_of_tokens_in_two_places_each_has_to_be_good_and_the_first_rule_s_counts(presence: str) -> None:
    first = {"issuer": "rsa", "jwks": RSA.jwks, "presence": presence}
    second = {"issuer": "ec", "jwks": EC.jwks, "fromHeaders": [{"name": "x-own"}], "presence": presence}
    good = {**bearer(RSA.token()), "x-own": EC.token()}
    for rules, principal in (((first, second), "rsa/ann"), ((second, first), "ec/ann")):
        with door(*rules, more=DEMAND.replace("*", principal)) as found:
            answer = found.ask(headers=good)
            assert answer.status == 200
            assert {"authorization", "x-own"} & answer.seen["headers"].keys() == set()
            for wrong in (bearer(STRANGER.token()), {"x-own": RSA.token()}, {"x-own": EC.token(exp=1)}):
                assert found.ask(headers={**good, **wrong}).status == 401


def test_no_pair_of_tokens_gets_a_bad_one_through() -> None:
    shared = [{"issuer": one.name, "jwks": one.jwks} for one in (RSA, EC)]
    own = {"issuer": "ed", "jwks": ED.jwks, "fromHeaders": [{"name": "x-own"}], "fromCookies": ["c"]}
    third = {"issuer": "rsa", "jwks": RSA.jwks, "fromHeaders": [{"name": "x-third"}]}
    good = [{}, bearer(RSA.token()), bearer(EC.token()), {"x-own": ED.token()}, {"cookie": f"c={ED.token()}"}]
    good.append({"x-third": RSA.token()})
    bad = [bearer(RSA.token(exp=1)), {"x-own": EC.token()}, {"cookie": "c=nonsense"}, {"x-third": STRANGER.token()}]
    with door(*shared, own, third) as found:
        for first in good:
            for second in (*good, *bad):
                expected = 401 if second in bad else 200
                assert found.ask(headers={**first, **second}).status == expected, (first, second)


def test_a_header_that_stands_twice_hides_no_token(places: Door) -> None:
    good, bad = ED.token(), ED.token(exp=1)
    values = {
        (good, good): 200,
        (good, bad): 401,
        (bad, good): 401,
        (good, ""): 401,
        ("", bad): 401,
        (f"{good},{bad}",): 401,
    }
    for given, expected in values.items():
        lines = "".join(f"x-kept: {value}\r\n" for value in given)
        text = f"GET / HTTP/1.1\r\nhost: shop.example\r\n{lines}connection: close\r\n\r\n"
        assert raw_status(places.port, text.encode()) == expected, given


@pytest.mark.covers("RequestAuthentication jwtRules[].jwksUri")
def test_where_keys_are_not_known_no_token_is_good() -> None:
    unknown = {"issuer": "ed", "jwksUri": "https://ed.example/keys"}
    with door(unknown) as found:
        own = Issuer("ed", "EdDSA", "keys-not-known")
        tokens = [ED.token(), own.token(), unsigned(own.token()), own.token({"kid": None})]
        assert [found.status(token) for token in tokens] == [401] * len(tokens)
        assert found.ask().status == 200
    with door(unknown, {"issuer": "rsa", "jwks": RSA.jwks}) as found:
        assert [found.status(issuer.token()) for issuer in (RSA, ED)] == [200, 401]


def test_the_log_holds_no_token() -> None:
    tokens = [RSA.token(), RSA.token(aud="other"), RSA.token(exp=1)]
    for more in ({}, {"forwardOriginalToken": True}, {"fromParams": ["t"]}):
        with door({"issuer": "rsa", "jwks": RSA.jwks, "audiences": ["shop"], **more}, logs=True) as found:
            for token in tokens:
                found.ask(f"/page?access_token={token}&t={token}", bearer(token))
            eventually(lambda: len(found.proxy.log()) == len(tokens))
            assert [entry["path"] for entry in found.proxy.log()] == ["/page"] * len(tokens)
            text = (found.proxy.folder / "access.log").read_text() + (found.proxy.folder / "envoy.log").read_text()
            assert not any(token.rpartition(".")[2] in text for token in tokens)


@pytest.mark.covers("RequestAuthentication jwtRules[].spaceDelimitedClaims")
def test_claims_of_several_values_are_taken_apart() -> None:
    for claim, expected in (("roles", 200), ("scope", 200), ("other", 403)):
        rule = {"issuer": "rsa", "jwks": RSA.jwks, "spaceDelimitedClaims": ["roles"]}
        with door(rule, more=WITH_CLAIM.replace("CLAIM", claim)) as found:
            assert found.status(RSA.token(**{claim: "a b c"})) == expected
            assert found.status(RSA.token(**{claim: ["a", "b"]})) == 200
            assert found.status(RSA.token(**{claim: "a c"})) == 403


def test_rules_ask_for_no_token_and_a_policy_on_principals_does() -> None:
    rule = {"issuer": "rsa", "jwks": RSA.jwks}
    with door(rule) as found:
        assert (found.ask().status, found.status(RSA.token()), found.status("nonsense")) == (200, 200, 401)
    with door(rule, more=DEMAND) as found:
        assert (found.ask().status, found.status(RSA.token()), found.status("nonsense")) == (403, 200, 401)
    with door(more=DEMAND) as found:
        assert (found.ask().status, found.status(RSA.token())) == (403, 403)
    with door() as found:
        assert found.status("nonsense") == 200
