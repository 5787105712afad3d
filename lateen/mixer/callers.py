"""Who calls, and other parts of a request that checks and reports read alike.

Who calls is what the certificate says: the name of the workload, which its proxy tells, counts only together with the
certificate's namespace and service account.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from lateen.expressions.functions import Unusable, to_ip
from lateen.values.names import SpiffeId

SPIFFE = "spiffe://"


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
    """What is known of the workload that calls, by attribute. ``told`` is the name that its proxy says."""
    if identity is None:
        return {}
    found: dict[str, Any] = {
        "source.namespace": identity.namespace,
        "source.serviceAccount": identity.service_account,
    }
    known = workloads.get(f"{identity.namespace}/{told}") if isinstance(told, str) else None
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
