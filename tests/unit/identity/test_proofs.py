"""Who may ask for a certificate: join tokens count once, service-account tokens as their issuer signed them."""

import base64
import datetime
import hashlib
import hmac
import json
import stat

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from lateen.identity.account_tokens import AccountFile, AccountIssuer, AccountTokens
from lateen.identity.authority import Authority
from lateen.identity.certificate import build_request, new_key
from lateen.identity.join_tokens import JoinTokens
from lateen.identity.proofs import by_certificate
from lateen.values.names import SpiffeId
from tests.unit.identity.names import NOW, REVIEWS

HOUR = datetime.timedelta(hours=1)
ISSUER = "https://kubernetes.default.svc"


@pytest.fixture
def clock():
    return [NOW]


@pytest.fixture
def tokens(tmp_path, clock):
    return JoinTokens(tmp_path / "join-tokens.json", lambda: clock[0])


def test_a_join_token_counts_once_and_over_a_restart_too(tmp_path, tokens, clock):
    token = tokens.invite(REVIEWS, HOUR)
    assert token not in (tmp_path / "join-tokens.json").read_text()
    assert stat.S_IMODE((tmp_path / "join-tokens.json").stat().st_mode) == 0o600
    again = JoinTokens(tmp_path / "join-tokens.json", lambda: clock[0])
    first, second = again.find(token), again.find(token)
    assert first.identity == second.identity == REVIEWS
    first.cross_out()
    with pytest.raises(OSError, match="used meanwhile"):
        second.cross_out()
    assert again.find(token) is None
    assert JoinTokens(tmp_path / "join-tokens.json", lambda: clock[0]).find(token) is None


def test_a_join_token_ends_and_others_are_no_tokens(tokens, clock):
    token = tokens.invite(REVIEWS, HOUR)
    for wrong in ("", "join-", token[:-1], token + "x", token.upper(), "x"):
        assert tokens.find(wrong) is None
    clock[0] = NOW + HOUR
    assert tokens.find(token) is None


DIGEST = hashlib.sha256(b"join-x").hexdigest()


@pytest.mark.parametrize(
    "text",
    [
        "{",
        json.dumps([{"digest": DIGEST, "identity": "nonsense", "expires": 9e9}]),
        '[{"digest": "\u00e9", "identity": "spiffe://cluster.local/ns/a/sa/b", "expires": 9e9}]',
    ],
)
def test_a_file_that_cannot_be_read_invites_nobody(tmp_path, clock, text):
    file = tmp_path / "join-tokens.json"
    file.touch(mode=0o600)
    file.write_text(text)
    assert JoinTokens(file, lambda: clock[0]).find("join-x") is None


def test_a_file_that_others_could_have_written_invites_nobody(tmp_path, tokens, clock):
    token = tokens.invite(REVIEWS, HOUR)
    (tmp_path / "join-tokens.json").chmod(0o666)
    assert JoinTokens(tmp_path / "join-tokens.json", lambda: clock[0]).find(token) is None


def test_a_token_of_any_text_is_no_error(tokens):
    tokens.invite(REVIEWS, HOUR)
    for text in ("join-\udcff", "join-\0", "join-" + "x" * 10_000, "join-é"):
        assert tokens.find(text) is None


def test_a_token_that_cannot_be_crossed_out_gives_nothing(tmp_path, clock):
    (tmp_path / "gone").mkdir()
    tokens = JoinTokens(tmp_path / "gone" / "join-tokens.json", lambda: clock[0])
    found = tokens.find(tokens.invite(REVIEWS, HOUR))
    (tmp_path / "gone" / "join-tokens.json").unlink()
    (tmp_path / "gone").rmdir()
    with pytest.raises(OSError, match="No such file"):
        found.cross_out()


# --- service-account tokens ------------------------------------------------------------------------------------------

RSA_KEY, OTHER_KEY = (rsa.generate_private_key(65537, 2048) for _ in range(2))
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def published(key, kid, algorithm):
    maker = jwt.algorithms.RSAAlgorithm if algorithm[0] in "RP" else jwt.algorithms.ECAlgorithm
    return {**json.loads(maker.to_jwk(key.public_key())), "kid": kid, "use": "sig"}


JWKS = json.dumps({"keys": [published(RSA_KEY, "r", "RS256"), published(EC_KEY, "e", "ES256")]})


@pytest.fixture
def accounts():
    return AccountTokens(AccountIssuer(ISSUER, ("istio-ca",), JWKS), "cluster.local")


def signed(key=RSA_KEY, algorithm="RS256", kid="r", **changes):
    now = datetime.datetime.now(datetime.UTC)
    claims = {
        "iss": ISSUER,
        "aud": ["istio-ca"],
        "sub": "system:serviceaccount:default:reviews",
        "iat": now,
        "nbf": now - datetime.timedelta(seconds=5),
        "exp": now + HOUR,
        "kubernetes.io": {"namespace": "default", "serviceaccount": {"name": "reviews"}},
        **changes,
    }
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm, headers={"kid": kid} if kid else None)


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"), [(RSA_KEY, "RS256", "r"), (RSA_KEY, "PS256", None), (EC_KEY, "ES256", "e")]
)
def test_a_good_token_proves_its_account(accounts, key, algorithm, kid):
    assert accounts.caller(signed(key, algorithm, kid)) == (REVIEWS, "")


@pytest.mark.parametrize(
    ("pod", "told"),
    [
        ({"name": "reviews-v1-66b6955995-9w8xf", "uid": "1"}, "reviews-v1////"),
        ({"name": "db-0"}, "db////"),
        ({"name": "a/b"}, ""),
        ({"name": ["reviews"]}, ""),
        ("reviews", ""),
    ],
)
def test_a_token_of_a_pod_says_what_its_workload_is_called(accounts, pod, told):
    bound = {"namespace": "default", "serviceaccount": {"name": "reviews"}, "pod": pod}
    assert accounts.caller(signed(**{"kubernetes.io": bound})) == (REVIEWS, told)


def headed(header, key=RSA_KEY):
    claims = jwt.decode(signed(), options={"verify_signature": False})
    return jwt.encode(claims, key, "RS256", headers={"kid": "r", **header})


def url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


PUBLIC = RSA_KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
LATER = datetime.datetime(2090, 1, 1, tzinfo=datetime.UTC)
BAD = {
    "another key": lambda: signed(OTHER_KEY),
    "an unknown key id": lambda: signed(kid="other"),
    "expired": lambda: signed(exp=PAST),
    "not yet": lambda: signed(nbf=LATER),
    "no end": lambda: signed(exp=None),
    "another issuer": lambda: signed(iss="https://other.example"),
    "another audience": lambda: signed(aud=["vault"]),
    "no audience": lambda: signed(aud=None),
    "no subject": lambda: signed(sub=None),
    "a user": lambda: signed(sub="alice"),
    "too many parts": lambda: signed(sub="system:serviceaccount:a:b:c"),
    "no name": lambda: signed(sub="system:serviceaccount:default:"),
    "another account inside": lambda: signed(**{"kubernetes.io": {"namespace": "kube-system"}}),
    "an account inside that is no object": lambda: signed(**{"kubernetes.io": ["default"]}),
    "a name inside that is no object": lambda: signed(**{"kubernetes.io": {"serviceaccount": "reviews"}}),
    "issued later": lambda: signed(iat=LATER),
    "an end that is no number": lambda: signed(exp=float("inf")),
    "a header that must be understood": lambda: headed({"crit": ["x"], "x": 1}),
    "a key in the header": lambda: headed({"jwk": published(OTHER_KEY, "r", "RS256")}, OTHER_KEY),
    "a header without an end": lambda: url(b"[" * 9_000) + ".e30.AA",
    "an algorithm that is a list": lambda: url(b'{"alg": ["RS256"], "kid": "r"}') + ".e30.AA",
    "unsigned": lambda: jwt.encode({"iss": ISSUER, "sub": "x"}, None, "none"),
    "cut off": lambda: signed().rpartition(".")[0] + ".",
    "huge": lambda: signed(more="x" * 20_000),
    "no token": lambda: "join-abc",
    "garbage": lambda: "a.b.c",
}


@pytest.mark.parametrize("why", BAD)
def test_every_other_token_proves_nothing(accounts, why):
    assert accounts.caller(BAD[why]()) is None


def test_a_token_signed_with_the_public_key_as_a_secret_proves_nothing(accounts):
    """The swap of RS256 and HS256, made by hand as libraries refuse to make it."""

    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims = {"iss": ISSUER, "aud": "istio-ca", "sub": "system:serviceaccount:default:reviews", "exp": 4_000_000_000}
    text = f"{part({'alg': 'HS256', 'kid': 'r'})}.{part(claims)}"
    mark = hmac.new(PUBLIC, text.encode(), hashlib.sha256).digest()
    assert accounts.caller(f"{text}.{base64.urlsafe_b64encode(mark).rstrip(b'=').decode()}") is None


@pytest.mark.parametrize("jwks", ["", "{}", '{"keys": []}', '{"keys": [{"kty": "oct", "k": "AAAA"}]}', "[]"])
def test_keys_that_cannot_be_used_are_told(jwks):
    with pytest.raises(ValueError, match="key"):
        AccountTokens(AccountIssuer(ISSUER, ("istio-ca",), jwks), "cluster.local")


WEAK_KEY, P384_KEY = rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP384R1())
GOOD = published(RSA_KEY, "r", "RS256")
PRIVATE = {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA_KEY)), "kid": "r"}
NO_KEYS = {
    "weak": published(WEAK_KEY, "r", "RS256"),
    "for encryption": {**GOOD, "use": "enc"},
    "not to verify with": {**GOOD, "key_ops": ["encrypt"]},
    "private": PRIVATE,
    "symmetric": {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0", "kid": "r"},
    "of another algorithm": {**GOOD, "alg": "RSA-OAEP"},
    "broken": {"kty": "RSA", "n": "!", "e": "AQAB", "kid": "r"},
    "on another curve": published(ec.generate_private_key(ec.SECP256K1()), "r", "ES256"),
    "no object": "x",
}


def judging(*keys):
    return AccountTokens(AccountIssuer(ISSUER, ("istio-ca",), json.dumps({"keys": keys})), "cluster.local")


@pytest.mark.parametrize("kind", NO_KEYS)
def test_keys_that_are_not_for_this_are_left_out(kind):
    with pytest.raises(ValueError, match="no public RSA or EC key"):
        judging(NO_KEYS[kind])
    both = judging(NO_KEYS[kind], published(EC_KEY, "e", "ES256"))
    assert both.caller(signed(EC_KEY, "ES256", "e")) == (REVIEWS, "")
    assert both.caller(signed(RSA_KEY)) is None


def test_a_key_with_an_algorithm_counts_with_that_alone():
    with_pss = judging({**GOOD, "alg": "PS256"})
    assert with_pss.caller(signed(RSA_KEY, "PS256")) == (REVIEWS, "")
    assert with_pss.caller(signed(RSA_KEY, "RS256")) is None


def test_a_curve_has_its_algorithm():
    assert judging(published(P384_KEY, "p", "ES384")).caller(signed(P384_KEY, "ES384", "p")) == (REVIEWS, "")
    assert judging(published(P384_KEY, "p", "ES384")).caller(signed(EC_KEY, "ES256", "p")) is None


def test_a_file_of_keys_is_read_again_and_a_broken_one_is_not_taken(tmp_path):
    file = tmp_path / "keys.json"
    file.write_text(JWKS)
    accounts = AccountFile(ISSUER, ("istio-ca",), file, "cluster.local")
    assert accounts.caller(signed()) == (REVIEWS, "")
    file.write_text("{ broken")
    assert accounts.caller(signed()) == (REVIEWS, "")
    file.unlink()
    assert accounts.caller(signed()) == (REVIEWS, "")
    file.write_text(json.dumps({"keys": [published(OTHER_KEY, "r", "RS256")]}))
    assert accounts.caller(signed()) is None
    assert accounts.caller(signed(OTHER_KEY)) == (REVIEWS, "")


# --- certificates ----------------------------------------------------------------------------------------------------


def test_a_certificate_proves_its_own_identity_while_it_holds(tmp_path):

    authority = Authority(tmp_path / "ca", "cluster.local", lambda: NOW)
    pem = authority.sign(build_request(new_key(), REVIEWS), REVIEWS)[0]
    assert by_certificate(pem, "cluster.local", NOW).identity == REVIEWS
    assert by_certificate(pem, "other.example", NOW) is None
    assert by_certificate(pem, "cluster.local", NOW + 25 * HOUR) is None
    assert by_certificate(b"nonsense", "cluster.local", NOW) is None
    _, chain, _ = authority.server_pair(
        SpiffeId("cluster.local", "istio-system", "istiod"), ["istiod.istio-system.svc"]
    )
    assert by_certificate(chain, "cluster.local", NOW) is None  # it has other names, so it is no workload's
