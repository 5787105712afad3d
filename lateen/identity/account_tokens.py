"""Signed service-account tokens (JWT), such as Kubernetes projects into pods, as proofs of identity.

Comes in: whose tokens count, and a token. Goes out: the identity in ``sub`` (``system:serviceaccount:NAMESPACE:NAME``).
Signatures, times, issuer and audience are checked by PyJWT; only asymmetric algorithms count.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from lateen.values.names import SpiffeId
from lateen.values.network import is_resource_name
from lateen.values.pod_names import workload_of_pod
from lateen.values.told_names import told_workload

OF_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
OF_CURVES = {"secp256r1": ("ES256",), "secp384r1": ("ES384",)}
LEAST_RSA_BITS = 2048
LONGEST_TOKEN = 16 * 1024
LEEWAY_S = 10
logger = logging.getLogger(__name__)
_SUBJECT = "system:serviceaccount:"
Caller = tuple[SpiffeId, str]
"""Whom a token proves, and what its workload is called (``told_names``)."""


class AccountIssuer(msgspec.Struct, frozen=True):
    """Whose tokens count: the issuer, one of the audiences, and the keys (JSON of a JWKS)."""

    issuer: str
    audiences: tuple[str, ...]
    jwks: str


class _Key(msgspec.Struct, frozen=True):
    """A public key, and the algorithms that count with it."""

    id: str | None
    public: Any
    algorithms: tuple[str, ...]


class AccountTokens:
    """Judges service-account tokens for one trust domain. Raises ValueError where none of the keys can be used."""

    def __init__(self, issuer: AccountIssuer, trust_domain: str) -> None:
        self._issuer, self._trust_domain = issuer, trust_domain
        try:
            entries = json.loads(issuer.jwks)["keys"]
        except (ValueError, TypeError, KeyError, RecursionError) as problem:
            raise ValueError(f"the keys of {issuer.issuer} cannot be used: they are no JWKS") from problem
        found = [_usable(entry) for entry in entries] if isinstance(entries, list) else []
        self._keys = [key for key in found if key is not None]
        if not self._keys:
            raise ValueError(f"there is no public RSA or EC key of {issuer.issuer} that verifies signatures")

    def caller(self, token: str) -> Caller | None:
        """Whom a token proves, or None."""
        if len(token) > LONGEST_TOKEN or token.count(".") != 2:
            return None
        try:
            wanted = jwt.get_unverified_header(token).get("kid")
        except jwt.PyJWTError:
            return None
        for key in self._keys:
            if wanted is not None and key.id is not None and key.id != wanted:
                continue
            claims = self._claims(token, key)
            if claims is not None:
                return self._caller_in(claims)
        return None

    def _claims(self, token: str, key: _Key) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = jwt.decode(
                token,
                key.public,
                algorithms=list(key.algorithms),
                audience=list(self._issuer.audiences),
                issuer=self._issuer.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError):
            return None
        return found

    def _caller_in(self, claims: dict[str, Any]) -> Caller | None:
        subject = str(claims["sub"])
        namespace, colon, account = subject.removeprefix(_SUBJECT).partition(":")
        if not subject.startswith(_SUBJECT) or not colon or not namespace or not account or ":" in account:
            return None
        if "kubernetes.io" in claims and not _agrees(claims["kubernetes.io"], namespace, account):
            return None
        workload = _workload_in(claims.get("kubernetes.io"))
        return SpiffeId(self._trust_domain, namespace, account), told_workload(workload) if workload else ""


class AccountFile:
    """The same by keys in a file, which is read again when it has changed. If it is no good then, those before count.

    Raises OSError and ValueError where it is no good from the start.
    """

    def __init__(self, issuer: str, audiences: tuple[str, ...], file: Path, trust_domain: str) -> None:
        self._issuer, self._audiences, self._file, self._trust_domain = issuer, audiences, file, trust_domain
        self._mark = self._look()
        self._tokens = self._load()

    def caller(self, token: str) -> Caller | None:
        """Whom a token proves, or None."""
        try:
            mark = self._look()
            if mark != self._mark:
                self._mark = mark
                self._tokens = self._load()
        except (OSError, ValueError) as problem:
            logger.warning("the keys for service-account tokens stay as they were: %s", problem)
        return self._tokens.caller(token)

    def _look(self) -> tuple[int, int, int]:
        status = self._file.stat()
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _load(self) -> AccountTokens:
        return AccountTokens(AccountIssuer(self._issuer, self._audiences, self._file.read_text()), self._trust_domain)


def _agrees(told: object, namespace: str, account: str) -> bool:
    """Whether Kubernetes' own claim, which stands beside the subject, says the same."""
    named = told.get("serviceaccount") if isinstance(told, dict) else None
    if not isinstance(told, dict) or not isinstance(named, dict | None):
        return False
    there = named.get("name") if named is not None else account
    return bool((told.get("namespace", namespace), there) == (namespace, account))


def _workload_in(told: object) -> str:
    """The workload of the pod that a token was made for; empty if it is bound to none."""
    pod = told.get("pod") if isinstance(told, dict) else None
    name = pod.get("name") if isinstance(pod, dict) else None
    return workload_of_pod(name) if isinstance(name, str) and is_resource_name(name) else ""


def _usable(entry: object) -> _Key | None:
    """A member of a JWKS, if it is a public key for signatures and strong enough."""
    if not isinstance(entry, dict) or "d" in entry or entry.get("kty") not in ("RSA", "EC"):
        return None
    if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ("verify",)):
        return None
    try:
        public = jwt.PyJWK(entry).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        return None
    algorithms: tuple[str, ...] = ()
    if isinstance(public, rsa.RSAPublicKey) and public.key_size >= LEAST_RSA_BITS:
        algorithms = OF_RSA
    elif isinstance(public, ec.EllipticCurvePublicKey):
        algorithms = OF_CURVES.get(public.curve.name, ())
    if "alg" in entry:
        algorithms = tuple(name for name in algorithms if name == entry["alg"])
    kid = entry.get("kid")
    return _Key(kid if isinstance(kid, str) else None, public, algorithms) if algorithms else None
