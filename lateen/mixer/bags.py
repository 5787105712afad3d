"""What checks and reports read alike of a request: a bag that makes attributes as they are looked at, and who calls.

Who calls is what its certificate says. The name of the workload, which stands in the subject, counts only together with
the identity.
"""

from __future__ import annotations

import abc
import functools
import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from lateen.envoy.check_cache import PAYLOAD, TOKENS
from lateen.expressions.functions import Unusable, to_ip
from lateen.values.names import SpiffeId
from lateen.values.told_names import names_in

SPIFFE = "spiffe://"
_CLAIMS: Mapping[str, str] = {"request.auth.audiences": "aud", "request.auth.presenter": "azp"}
OF_TOKENS = frozenset({*_CLAIMS, "request.auth.claims", "request.auth.principal"})
"""What a good token says, and nobody where there is none."""


def identity_of(principal: str) -> SpiffeId | None:
    """The workload of a certificate's URI; None if it is no workload's."""
    try:
        return SpiffeId.parse(principal) if principal.startswith(SPIFFE) else None
    except ValueError:
        return None


def without_scheme(principal: str) -> str | None:
    """A principal as rules write it."""
    return principal.removeprefix(SPIFFE) or None


def caller_of(identity: SpiffeId | None, told: object, workloads: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """What is known of the workload that calls, by attribute. ``told`` are the names in its certificate."""
    if identity is None:
        return {}
    found: dict[str, Any] = {
        "source.namespace": identity.namespace,
        "source.serviceAccount": identity.service_account,
    }
    workload = names_in(told).get("workload") if isinstance(told, str) else None
    known = workloads.get(f"{identity.trust_domain}/{identity.namespace}/{workload}")
    if known is not None and known.get("source.serviceAccount") == identity.service_account:
        found.update(known)
    return found


def query_of(path: str) -> Mapping[str, str]:
    """The parameters of a path's query; of several with one name the first."""
    found: dict[str, str] = {}
    for name, value in parse_qsl(path.partition("?")[2], keep_blank_values=True):
        found.setdefault(name, value)
    return found


def claim_text(value: Any) -> str | None:
    """A claim as a text; a list of texts is joined."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value)
    parts = getattr(value, "values", None)
    if parts is not None and not callable(parts):
        texts = [claim_text(item.string_value) for item in parts if item.HasField("string_value")]
        return ",".join(text for text in texts if text is not None)
    return None


def ip_of(text: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address; None for what is none."""
    try:
        return to_ip(text) if isinstance(text, str) and text else None
    except Unusable:
        return None


class RequestBag(abc.ABC):
    """A bag in which each attribute is made when it is looked at, and kept. ``constant`` holds at the proxy."""

    def __init__(self, constant: Mapping[str, Any], workloads: Mapping[str, Mapping[str, Any]]) -> None:
        self._constant = constant
        self._workloads = workloads
        self._known: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        """The value of an attribute; None if it is absent."""
        if name not in self._known:
            self._known[name] = self._constant[name] if name in self._constant else self._made(name)
        return self._known[name]

    def entry(self, name: str, key: str) -> str | None:
        """One entry of an attribute that is a map."""
        entries = self.get(name)
        return None if entries is None else entries.get(key)

    def there(self, name: str) -> bool:
        """Whether a map is there."""
        return self.get(name) is not None

    @abc.abstractmethod
    def _made(self, name: str) -> Any:
        """An attribute of the request at hand."""

    @abc.abstractmethod
    def _metadata(self) -> Any:
        """What the proxy's filters found out."""

    @functools.cached_property
    def claims(self) -> Mapping[str, Any]:
        """Those of a good token."""
        found = self._metadata()
        payload = found[TOKENS][PAYLOAD] if TOKENS in found and PAYLOAD in found[TOKENS] else None
        return dict(payload) if payload is not None else {}

    def of_token(self, name: str) -> Any:
        """The attributes ``request.auth.*``."""
        if name == "request.auth.claims":
            texts = {key: text for key, value in self.claims.items() if (text := claim_text(value)) is not None}
            return texts or None
        if name == "request.auth.principal":
            issuer, subject = self.claims.get("iss"), self.claims.get("sub")
            return f"{issuer}/{subject}" if isinstance(issuer, str) and isinstance(subject, str) else None
        return claim_text(self.claims.get(_CLAIMS.get(name, "")))
