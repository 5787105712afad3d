"""What is known of a caller and its request when access rules are looked at.

Comes in: nothing. These values are what ``access`` (the rules as they were planned) and ``guards`` (the same as Envoy
gets them) judge.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2 as jwt_authn_pb2

from lateen.explain.call import Call, Tls
from lateen.explain.request import Request
from lateen.plan.access.model import PAYLOAD, TOKEN_FILTER


class Facts(msgspec.Struct, frozen=True):
    """One connection and, where it speaks HTTP, one request on it.

    ``identity`` is the URI of the peer's certificate, empty without one. ``source`` is the peer's own address,
    ``remote`` the original client's. ``found`` is what filters found out, by the filter's name: the claims of a good
    token stand under the token filter's name and ``payload``. ``request`` None: plain bytes.
    """

    identity: str = ""
    source: str = "127.0.0.1"
    remote: str = "127.0.0.1"
    address: str = "127.0.0.1"
    port: int = 0
    server_name: str = ""
    request: Request | None = None
    found: Mapping[str, Any] = {}

    def header(self, name: str) -> str | None:
        """The value of a request header, several joined by commas as Envoy does; None where it is absent."""
        values = [value for known, value in (self.request.headers if self.request else ()) if known == name]
        return ",".join(values) if values else None

    def metadata(self, name: str, path: Iterable[str]) -> Any:
        """What a filter found out, by its way in; None where there is nothing."""
        value: Any = self.found.get(name)
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value


def spaced_into_lists(claims: Mapping[str, Any], spaced: Iterable[str]) -> dict[str, Any]:
    """Claims as Envoy keeps them: those that hold several values apart by spaces become lists of them."""
    return {
        name: value.split() if name in spaced and isinstance(value, str) and " " in value else value
        for name, value in claims.items()
    }


def facts_of_connection(call: Call) -> Facts:
    """What is known of a connection that is passed on as it is."""
    return Facts(
        identity=call.identity if call.tls is Tls.MTLS else "",
        source=call.source,
        remote=call.source,
        address=call.address,
        port=call.port,
        server_name=call.server_name,
    )


def facts_of_request(call: Call, request: Request, manager: Any) -> Facts:
    """What is known of a request once the connection manager and the token filter have looked at it."""
    known = facts_of_connection(call)
    found: dict[str, Any] = {}
    if call.claims is not None:
        found[TOKEN_FILTER] = {PAYLOAD: spaced_into_lists(call.claims, _spaced(manager, call.claims))}
    return msgspec.structs.replace(known, request=request, found=found, remote=_remote(call, manager))


def _remote(call: Call, manager: Any) -> str:
    """The original client's address: the last one that a trusted proxy wrote down, else the peer's."""
    said = ",".join(value for name, value in call.headers if name == "x-forwarded-for")
    hops = [part.strip() for part in said.split(",")] if said else []
    trusted = manager.xff_num_trusted_hops
    place = trusted if manager.use_remote_address.value else trusted + 1
    if place == 0 or place > len(hops):
        return call.source
    try:
        return str(ipaddress.ip_address(hops[-place]))
    except ValueError:
        return call.source


def _spaced(manager: Any, claims: Mapping[str, Any]) -> tuple[str, ...]:
    """The claims that the provider which takes the token holds apart by spaces."""
    for found in manager.http_filters:
        if found.name != TOKEN_FILTER:
            continue
        config = jwt_authn_pb2.JwtAuthentication.FromString(found.typed_config.value)
        for provider in config.providers.values():
            if provider.issuer in ("", claims.get("iss")):
                return tuple(provider.normalize_payload_in_metadata.space_delimited_claims)
    return ()
