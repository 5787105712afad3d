"""Issuers of tokens for tests: real keys, and tokens that are good or wrong in one way."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

COORDINATE = 32
LIFE_S = 3600
"""Longer than a whole run: some are made as tests are collected."""


def url(data: bytes) -> str:
    """Base64 as tokens have it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsigned(token: str) -> str:
    """The same claims in a token that says it needs no signature."""
    return f"{url(json.dumps({'alg': 'none'}).encode())}.{token.split('.')[1]}."


class Issuer:
    """Makes tokens. ``algorithm``: RS256, ES256 or EdDSA."""

    def __init__(self, name: str, algorithm: str = "RS256", kid: str = "") -> None:
        self.name = name
        self._algorithm = algorithm
        self._kid = kid
        self._key: Any
        if algorithm == "RS256":
            self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        elif algorithm == "ES256":
            self._key = ec.generate_private_key(ec.SECP256R1())
        else:
            self._key = ed25519.Ed25519PrivateKey.generate()

    @property
    def members(self) -> dict[str, str]:
        """The public key."""
        named = {"alg": self._algorithm, **({"kid": self._kid} if self._kid else {})}
        public = self._key.public_key()
        if self._algorithm == "RS256":
            modulus = public.public_numbers().n.to_bytes(256, "big")
            return {"kty": "RSA", "e": "AQAB", "n": url(modulus), **named}
        if self._algorithm == "ES256":
            numbers = public.public_numbers()
            x, y = (url(value.to_bytes(COORDINATE, "big")) for value in (numbers.x, numbers.y))
            return {"kty": "EC", "crv": "P-256", "x": x, "y": y, **named}
        return {"kty": "OKP", "crv": "Ed25519", "x": url(public.public_bytes_raw()), **named}

    @property
    def jwks(self) -> str:
        return json.dumps({"keys": [self.members]})

    @property
    def key(self) -> str:
        """The public key alone, which stands for a set of one."""
        return json.dumps(self.members)

    def token(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A good token, but for the members of its header and the claims that are given; None leaves one out."""
        payload = {"iss": self.name, "aud": "shop", "sub": "ann", "exp": int(time.time()) + LIFE_S, **claims}
        payload = {name: value for name, value in payload.items() if value is not None}
        head = {"alg": self._algorithm, "typ": "JWT", **({"kid": self._kid} if self._kid else {}), **(header or {})}
        head = {name: value for name, value in head.items() if value is not None}
        text = ".".join(url(json.dumps(part).encode()) for part in (head, payload))
        return f"{text}.{url(self._sign(head['alg'], text.encode()))}"

    def _sign(self, algorithm: str, text: bytes) -> bytes:
        """A signature; one of HS256 has the published key for its secret, as whoever confuses the two would take it."""
        if algorithm == "HS256":
            public = self._key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            return hmac.new(public, text, hashlib.sha256).digest()
        if self._algorithm == "RS256":
            return bytes(self._key.sign(text, padding.PKCS1v15(), hashes.SHA256()))
        if self._algorithm == "ES256":
            pair = utils.decode_dss_signature(self._key.sign(text, ec.ECDSA(hashes.SHA256())))
            return b"".join(value.to_bytes(COORDINATE, "big") for value in pair)
        return bytes(self._key.sign(text))
