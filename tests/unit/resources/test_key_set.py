"""Which keys of a set are used, in which form, and why the others are not."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

import pytest

from lateen.resources.key_set import KeySetError, keys_of_nobody, read_key_set
from tests.envoy.token_support import Issuer

RSA, EC, ED = (Issuer("i", algorithm).members for algorithm in ("RS256", "ES256", "EdDSA"))


def _with(key: dict[str, str], **members: Any) -> dict[str, Any]:
    changed = {**key, **members}
    return {name: value for name, value in changed.items() if value is not None}


def _read(*keys: Any) -> list[dict[str, str]]:
    return list(json.loads(read_key_set(json.dumps({"keys": keys})).text)["keys"])


def test_what_verifies_is_kept_in_one_form() -> None:
    assert _read(RSA, EC, ED) == [RSA, EC, ED]
    assert _read(_with(RSA, x5c=["a"], use="sig", key_ops=["verify"], n=RSA["n"] + "==")) == [RSA]
    assert _read(_with(RSA, kid=7)) == [RSA]
    assert _read(_with(EC, alg=None)) == [EC]
    spaced = json.dumps({"b": 1, "keys": [dict(reversed(RSA.items()))]}, indent=4)
    assert read_key_set(spaced).text == read_key_set(json.dumps({"keys": [RSA]})).text


def test_private_parts_are_left_out_and_told() -> None:
    found = read_key_set(json.dumps({"keys": [_with(RSA, d="AQAB", p="AQAB")]}))
    assert (json.loads(found.text)["keys"], found.is_private, found.dropped) == ([RSA], True, ())


@pytest.mark.parametrize(
    "key",
    [
        {"kty": "oct", "k": "AAAA"},
        {"kty": "oct", "alg": "HS256", "k": "AAAA"},
        {"kty": "XYZ"},
        {"kty": ["RSA"]},
        {},
        7,
        None,
        _with(RSA, alg="RSA-OAEP"),
        _with(RSA, alg="HS256"),
        _with(RSA, alg=256),
        _with(RSA, n=None),
        _with(RSA, kid="a" * 1025),
        _with(RSA, n=7),
        _with(RSA, n=base64.b64encode(bytes(range(255, 0, -1))).decode()),
        _with(RSA, n=RSA["n"][:100]),
        _with(RSA, n=RSA["n"] * 5),
        _with(RSA, e="AQ"),
        _with(RSA, e="AgAA"),
        _with(RSA, e="AQAAAAAB"),
        _with(EC, crv="P-384"),
        _with(EC, crv="secp256k1"),
        _with(EC, crv=None),
        _with(EC, alg="ES384"),
        _with(EC, y=EC["x"]),
        _with(ED, crv="X25519"),
        _with(ED, x="AAAA"),
        _with(ED, alg="ES256"),
    ],
)
def test_a_key_that_cannot_be_used_is_left_out_with_the_reason(key: Any) -> None:
    found = read_key_set(json.dumps({"keys": [key, RSA]}))
    assert json.loads(found.text)["keys"] == [RSA]
    assert len(found.dropped) == 1
    assert found.dropped[0].startswith("keys[0]")
    with pytest.raises(KeySetError):
        _read(key)


def test_keys_for_encryption_are_passed_over_in_silence() -> None:
    found = read_key_set(json.dumps({"keys": [_with(EC, use="enc"), _with(EC, key_ops=["encrypt"]), RSA]}))
    assert (json.loads(found.text)["keys"], found.dropped) == ([RSA], ())


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "nonsense",
            "<html>",
            "null",
            "[]",
            "{}",
            '{"keys": {}}',
            '{"keys": []}',
            "[" * 100_000,
            '{"keys": [1e999]}',
        ),
        *(json.dumps({"keys": [RSA] * 257}), json.dumps(RSA), '{"keys": [{"kty": "oct", "k": "AAAA"}]}', b"\xff\xfe"),
    ],
    ids=itertools.count(),
)
def test_what_holds_no_key_is_refused(text: str | bytes) -> None:
    with pytest.raises(KeySetError):
        read_key_set(text)


def test_one_key_may_stand_alone_where_a_user_writes_it() -> None:
    assert json.loads(read_key_set(json.dumps(RSA), alone=True).text) == {"keys": [RSA]}


def test_many_keys_that_are_left_out_make_one_sentence() -> None:
    found = read_key_set(json.dumps({"keys": [{"kty": "oct"}, RSA, {}, 7]}))
    assert found.left_out.startswith("not every key is used: keys[0]: a symmetric key")
    assert found.left_out.endswith(", and 2 more")


def test_the_keys_of_nobody_differ_by_provider() -> None:
    one, other = keys_of_nobody("https://a.example/keys"), keys_of_nobody("https://b.example/keys")
    assert one != other
    assert read_key_set(one).dropped == ()
    assert keys_of_nobody("https://a.example/keys") == one
