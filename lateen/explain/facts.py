"""What is known of a caller and its request when access rules are looked at.

Comes in: nothing. These values are what ``access`` (the rules as they were planned) and ``guards`` (the same as Envoy
gets them) judge.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from lateen.explain.call import Call, Tls
from lateen.explain.request import Request


class Facts(msgspec.Struct, frozen=True):
    """One connection and, where it speaks HTTP, one request on it.

    ``identity`` is the URI of the peer's certificate, empty without one. ``source`` is the peer's own address,
    ``remote`` the original client's. ``found`` is what filters found out, by the filter's name: the claims of a good
    token stand under the token filter's name and ``payload``. ``request`` None: plain bytes. ``whole``: nothing is left
    out; where it is not, header fields and tokens that are not here may have been there.
    """

    identity: str = ""
    source: str = "127.0.0.1"
    remote: str = "127.0.0.1"
    address: str = "127.0.0.1"
    port: int = 0
    server_name: str = ""
    request: Request | None = None
    found: Mapping[str, Any] = {}
    whole: bool = True

    def header(self, name: str) -> list[str]:
        """The values of a request header. Envoy's rules hold if they hold for one of them."""
        return self.request.values(name) if self.request is not None else []

    def metadata(self, name: str, path: Iterable[str]) -> Any:
        """What a filter found out, by its way in; None where there is nothing."""
        value: Any = self.found.get(name)
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value


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
    """What is known of a request once the connection manager has looked at it; its token has not been seen yet."""
    return msgspec.structs.replace(facts_of_connection(call), request=request, remote=_remote(call, manager))


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
