"""Tokens whose keys are fetched: the whole mesh with an issuer beside it that answers well, badly and not at all."""

import contextlib
import json
import os
import signal

import pytest

from tests.envoy import key_site
from tests.envoy.key_site import KeySite, answer, packed, redirect
from tests.envoy.token_support import Issuer
from tests.features.running import running_mesh, until

pytestmark = [pytest.mark.mesh, pytest.mark.xdist_group("tokens"), pytest.mark.timeout(180)]
DISCOVERY = "/.well-known/openid-configuration"
RULES = """
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens}}
spec:
  selector: {{matchLabels: {{istio: ingressgateway}}}}
  jwtRules: {rules}
"""


@pytest.fixture(scope="module")
def house():
    """One way of capture is enough: keys are fetched by the control plane."""
    with running_mesh("loopback") as running:
        yield running


@pytest.fixture
def site():
    with KeySite() as running:
        yield running


def rules(*found):
    return RULES.format(rules=json.dumps(found))


def status(house, issuer):
    return house.get(headers={"authorization": f"Bearer {issuer.token()}"}).status


def codes(house):
    """What is wrong with keys."""
    found = [entry["code"] for entry in house.control("/v1/findings")["findings"]]
    return [code for code in found if code.startswith("keys-")]


def told(house, code):
    """What is said of this; the control plane may just be starting."""

    def found():
        with contextlib.suppress(OSError):
            return [entry for entry in house.control("/v1/findings")["findings"] if entry["code"] == code]

    return until(found, f"{code} is told")[0]["text"]


@pytest.mark.covers("RequestAuthentication jwtRules[].jwksUri")
def test_keys_are_fetched_rotated_and_kept_while_the_issuer_is_away(house, site):
    old, new, stranger = Issuer("a"), Issuer("a"), Issuer("a")
    site.pages["/keys"] = answer(old.jwks)
    with house.applied(rules({"issuer": "a", "jwksUri": site.url("/keys")})):
        until(lambda: status(house, old) == 200, "the issuer's tokens are taken")
        assert [status(house, stranger), status(house, new), house.get().status] == [401, 401, 200]
        assert codes(house) == []
        site.pages["/keys"] = answer(json.dumps({"keys": [old.members, new.members]}))
        until(lambda: status(house, new) == 200, "tokens of the new key are taken")
        assert status(house, old) == 200
        site.pages["/keys"] = answer(new.jwks)
        until(lambda: status(house, old) == 401, "the old key is gone")
        site.pages["/keys"] = answer("", 500)
        text = told(house, "keys-not-refreshed")
        assert "extra.yaml:7" in text
        assert "status 500" in text
        assert [status(house, new), status(house, stranger), status(house, old)] == [200, 401, 401]
        before = house.status()["control_plane"]["pid"]
        os.kill(before, signal.SIGKILL)
        until(lambda: house.status()["control_plane"]["pid"] not in (0, before), "the control plane is started again")
        until(lambda: house.status()["control_plane"]["ready"], "the control plane is ready")
        told(house, "keys-not-refreshed")
        house.settled()
        assert [status(house, new), status(house, stranger)] == [200, 401]
        site.pages["/keys"] = answer(new.jwks)
        until(lambda: codes(house) == [], "nothing is wrong any more")


def test_keys_rotate_under_load_without_a_request_that_fails(house, site):
    issuers = [Issuer("a", kid=str(number)) for number in range(4)]
    site.pages["/keys"] = answer(issuers[0].jwks)
    first = {"issuer": "a", "jwksUri": site.url("/keys"), "presence": "REQUIRED"}
    with house.applied(rules(first)):
        until(lambda: status(house, issuers[0]) == 200, "the issuer's tokens are taken")
        with house.load(f"/echo?access_token={issuers[0].token()}") as load:
            for issuer in issuers[1:]:
                site.pages["/keys"] = answer(json.dumps({"keys": [issuers[0].members, issuer.members]}))
                until(lambda issuer=issuer: status(house, issuer) == 200, "tokens of the new key are taken")
    assert load.failures == []
    assert load.summary["answered"] > 100


@pytest.mark.covers("RequestAuthentication jwtRules[].timeout")
@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (answer("", 500), "status 500"),
        (answer('{"keys": []}'), "no key"),
        (answer("<html>sign in</html>"), "not JSON"),
        (packed(Issuer("a").jwks), "compressed"),
        (key_site.silent, "within 0.4 s"),
        (key_site.endless, "larger than 1 MiB"),
        (redirect("http://169.254.169.254/keys"), "link-local"),
        (redirect("/keys"), "more than 3 redirects"),
        (redirect("file:///etc/passwd"), "http or https"),
    ],
    ids=["500", "empty", "html", "gzip", "silent", "endless", "forbidden", "loop", "file"],
)
def test_where_no_keys_can_be_had_tokens_are_refused_and_nothing_else_breaks(house, site, act, reason):
    lost, good = Issuer("lost"), Issuer("good")
    site.pages |= {"/keys": act, "/good": answer(good.jwks)}
    patience = {"timeout": "0.4s"} if act is key_site.silent else {}
    first = {"issuer": "lost", "jwksUri": site.url("/keys"), **patience}
    with house.applied(rules(first, {"issuer": "good", "jwksUri": site.url("/good")})):
        assert reason in told(house, "keys-not-fetched")
        until(lambda: status(house, good) == 200, "the other issuer's tokens are taken")
        assert [status(house, lost), house.get().status] == [401, 200]
        site.pages["/keys"] = answer(lost.jwks)
        until(lambda: status(house, lost) == 200, "its tokens are taken once it answers")
        until(lambda: codes(house) == [], "nothing is wrong any more")


def test_an_issuer_alone_is_asked_where_its_keys_are(house, site):
    issuer = Issuer(site.url("/realm"), "ES256")
    site.pages |= {"/keys": answer(issuer.jwks), f"/realm{DISCOVERY}": site.describe(site.url("/keys"), path="/realm")}
    with house.applied(rules({"issuer": issuer.name}, {"issuer": "no.url"})):
        until(lambda: status(house, issuer) == 200, "the issuer's tokens are taken")
        assert [status(house, Issuer(issuer.name, "ES256")), status(house, Issuer("no.url"))] == [401, 401]
        assert "no.url" in told(house, "keys-not-fetched")
