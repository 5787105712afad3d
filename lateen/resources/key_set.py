"""Sets of public keys (JWKS, RFC 7517) that tokens are verified with.

Comes in: JSON that a user or an issuer wrote. Goes out: the same set with nothing in it but what verifies a signature,
in one form: the trial Envoy has nothing to refuse, equal keys give equal configuration, and no secret is passed on.
A symmetric key is never taken: whoever can verify with it can make tokens, and the set is public.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from hashlib import blake2b

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

MAX_KEYS = 256
MAX_NAME = 1024
RSA_BITS = (2048, 8192)
MAX_EXPONENT = 1 << 32
ED25519_BYTES = 32
RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
CURVES: dict[str, tuple[type[ec.EllipticCurve], str]] = {
    "P-256": (ec.SECP256R1, "ES256"),
    "P-384": (ec.SECP384R1, "ES384"),
    "P-521": (ec.SECP521R1, "ES512"),
}
PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_BASE64URL = re.compile(r"[-_A-Za-z0-9]+")


class KeySetError(ValueError):
    """There is no key in a text that a token could be verified with; the message says why."""


class _Unusable(ValueError):
    """One key cannot be used."""


class KeySet(msgspec.Struct, frozen=True):
    """``text``: ``{"keys": [...]}`` of the usable keys. ``dropped``: why each other one is left out, keys for
    encryption apart. ``is_private``: there was something secret among them."""

    text: str
    dropped: tuple[str, ...] = ()
    is_private: bool = False

    @property
    def left_out(self) -> str:
        """One sentence on the keys that are not used; empty if there are none."""
        if not self.dropped:
            return ""
        more = f", and {len(self.dropped) - 1} more" if len(self.dropped) > 1 else ""
        return f"not every key is used: {self.dropped[0]}{more}"


def read_key_set(text: str | bytes, *, alone: bool = False) -> KeySet:
    """Read a set; with ``alone``, one key that stands alone too. Raises KeySetError if no key in it is usable."""
    kept: list[dict[str, str]] = []
    dropped: list[str] = []
    is_private = False
    for index, key in enumerate(_listed(text, alone)):
        if isinstance(key, dict):
            is_private = is_private or bool(PRIVATE_MEMBERS & key.keys())
            if not _is_for_signatures(key):
                continue
        try:
            kept.append(_public(key))
        except _Unusable as problem:
            name = key.get("kid") if isinstance(key, dict) else None
            shown = f"keys[{index}] ({name[:64]})" if isinstance(name, str) and name else f"keys[{index}]"
            dropped.append(f"{shown}: {problem}")
    if not kept:
        raise KeySetError(f"no key in it can be used: {dropped[0]}" if dropped else "there is no key for signatures")
    return KeySet(msgspec.json.encode({"keys": kept}).decode(), tuple(dropped), is_private)


def read_discovery(text: str | bytes, issuer: str) -> str:
    """The ``jwks_uri`` of an issuer's description of itself (OpenID Connect Discovery). Raises KeySetError.

    The description has to name the very issuer that was asked, or anybody's could be put in its place.
    """
    try:
        value = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        raise KeySetError("the issuer's description is not JSON") from None
    if not isinstance(value, dict) or not isinstance(value.get("jwks_uri"), str):
        raise KeySetError("the issuer's description has no jwks_uri")
    if value.get("issuer") != issuer:
        raise KeySetError(f"the issuer's description is that of another issuer, {str(value.get('issuer'))[:100]!r}")
    return str(value["jwks_uri"])


def keys_of_nobody(name: str) -> str:
    """A set for a provider whose keys are not known, so that it refuses every token.

    Its key is a hash of ``name`` taken as an Ed25519 key: there is no private key to it that anybody could know.
    """
    value = blake2b(name.encode(errors="replace"), digest_size=ED25519_BYTES, person=b"lateen nobody").digest()
    key = {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "keys-not-known", "x": _encode(value)}
    return msgspec.json.encode({"keys": [key]}).decode()


def _listed(text: str | bytes, alone: bool) -> list[object]:
    try:
        value = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        raise KeySetError("it is not JSON") from None
    if not isinstance(value, dict):
        raise KeySetError('it is not of the form {"keys": [...]}')
    if alone and "keys" not in value and "kty" in value:
        return [value]
    keys = value.get("keys")
    if not isinstance(keys, list):
        raise KeySetError('it is not of the form {"keys": [...]}')
    if len(keys) > MAX_KEYS:
        raise KeySetError(f"there are more than {MAX_KEYS} keys")
    return keys


def _is_for_signatures(key: Mapping[str, object]) -> bool:
    operations = key.get("key_ops", ["verify"])
    return key.get("use", "sig") == "sig" and (not isinstance(operations, list) or "verify" in operations)


def _public(key: object) -> dict[str, str]:
    """The members of a key that verify, in one form."""
    if not isinstance(key, dict):
        raise _Unusable("it is not an object")
    kind = key.get("kty")
    if kind == "oct":
        raise _Unusable("a symmetric key can make tokens as well as verify them, so it is not used")
    read = _READERS.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise _Unusable(f"keys of type {str(kind)[:32]!r} are not known, only RSA, EC and OKP")
    members = read(key)
    name = key.get("kid")
    if isinstance(name, str) and len(name) > MAX_NAME:
        raise _Unusable(f"its kid is longer than {MAX_NAME} characters")
    return {"kty": str(kind), **({"kid": name} if isinstance(name, str) and name else {}), **members}


def _rsa(key: Mapping[str, object]) -> dict[str, str]:
    algorithm = key.get("alg")
    if algorithm is not None and algorithm not in RSA_ALGORITHMS:
        raise _Unusable(f"alg {str(algorithm)[:32]!r} is none of {', '.join(RSA_ALGORITHMS)}")
    modulus, exponent = _number(key, "n"), _number(key, "e")
    least, most = RSA_BITS
    if not least <= modulus.bit_length() <= most or not modulus & 1:
        raise _Unusable(f"it has {modulus.bit_length()} bits, where {least} to {most} are wanted")
    if not 3 <= exponent < MAX_EXPONENT or not exponent & 1:
        raise _Unusable("its exponent cannot be used")
    named = {"alg": str(algorithm)} if algorithm is not None else {}
    return {**named, "n": _encode_number(modulus), "e": _encode_number(exponent)}


def _ec(key: Mapping[str, object]) -> dict[str, str]:
    name = key.get("crv")
    curve, algorithm = CURVES.get(name if isinstance(name, str) else "", (None, ""))
    if curve is None:
        raise _Unusable(f"crv {str(name)[:32]!r} is none of {', '.join(CURVES)}")
    if key.get("alg", algorithm) != algorithm:
        raise _Unusable(f"alg {str(key.get('alg'))[:32]!r} does not go with {name}, only {algorithm}")
    x, y, size = _number(key, "x"), _number(key, "y"), (curve().key_size + 7) // 8
    try:
        ec.EllipticCurvePublicNumbers(x, y, curve()).public_key()
    except ValueError:
        raise _Unusable("it is no point of its curve") from None
    return {"crv": str(name), "alg": algorithm, "x": _encode_number(x, size), "y": _encode_number(y, size)}


def _okp(key: Mapping[str, object]) -> dict[str, str]:
    if key.get("crv") != "Ed25519":
        raise _Unusable(f"crv {str(key.get('crv'))[:32]!r} is not Ed25519")
    if key.get("alg", "EdDSA") != "EdDSA":
        raise _Unusable(f"alg {str(key.get('alg'))[:32]!r} is not EdDSA")
    value = _bytes(key, "x")
    if len(value) != ED25519_BYTES:
        raise _Unusable(f"x has {len(value)} bytes, where {ED25519_BYTES} are wanted")
    return {"crv": "Ed25519", "alg": "EdDSA", "x": _encode(value)}


_READERS: dict[str, Callable[[Mapping[str, object]], dict[str, str]]] = {"RSA": _rsa, "EC": _ec, "OKP": _okp}


def _bytes(key: Mapping[str, object], member: str) -> bytes:
    text = key.get(member)
    bare = text.rstrip("=") if isinstance(text, str) else ""
    try:
        if not _BASE64URL.fullmatch(bare):
            raise ValueError
        return base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
    except (ValueError, binascii.Error):
        raise _Unusable(f"{member} is missing, or is not base64url") from None


def _number(key: Mapping[str, object], member: str) -> int:
    return int.from_bytes(_bytes(key, member), "big")


def _encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _encode_number(value: int, size: int = 0) -> str:
    return _encode(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))
