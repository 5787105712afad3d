"""What is wrong with ``mesh.identity`` beyond the shape of its fields.

Comes in: the fields. Goes out: for each mistake its place below ``mesh.identity``, what is wrong, what to write.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from lateen.local.fields import IdentityFields
from lateen.values.network import MAX_PORT, is_host

Mistake = tuple[tuple[str | int, ...], str, str]


def authority_mistakes(fields: IdentityFields) -> Iterator[Mistake]:
    """Where the authority listens, and as what."""
    for name in ("listen", "listen_mutual"):
        text = getattr(fields, name)
        if text and not _is_place(text):
            yield (name,), f"{text} is not HOST:PORT", "such as 127.0.0.1:15012"
    if fields.listen and fields.listen == fields.listen_mutual:
        yield ("listen_mutual",), "tokens and certificates need a port each", "another port than that of listen"
    for index, text in enumerate(fields.names):
        if not (is_host(text) or _is_address(text)):
            yield ("names", index), f"{text!r} is neither a host name nor an address", "such as ca.example.com"
    if fields.names and not (fields.listen or fields.listen_mutual):
        yield ("names",), "nothing listens that could have these names", "set listen too"


def _is_place(text: str) -> bool:
    host, _, port = text.rpartition(":")
    inner = host[1:-1] if host.startswith("[") and host.endswith("]") else ""
    is_port = port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= MAX_PORT
    return is_port and (_is_address(inner) if inner else is_host(host) or (_is_address(host) and ":" not in host))


def _is_address(text: str) -> bool:
    try:
        return "%" not in text and bool(ipaddress.ip_address(text))
    except ValueError:
        return False
