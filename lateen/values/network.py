"""Names and addresses of the network: what is a host name, a wildcard, an address, an address range.

Comes in: text. Goes out: whether it has the form, and how two host names relate. Pure tests on text: nothing is
resolved.
"""

from __future__ import annotations

import ipaddress
import re

MAX_HOST = 255
MAX_PORT = 65535
_LABEL = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9]{0,61}[A-Za-z0-9])?")
_HEADER_NAME = re.compile(r"[-!#$%&'*+.^_`|~A-Za-z0-9]+")
_WILDCARD_LABEL = re.compile(r"\*|(?:\*-?)?[A-Za-z0-9](?:[-A-Za-z0-9]{0,61}[A-Za-z0-9])?")


def is_label(text: str) -> bool:
    """Whether a text is one DNS label: letters, digits and inner dashes, at most 63."""
    return bool(_LABEL.fullmatch(text))


def is_host(text: str) -> bool:
    """Whether a text is a host name without wildcard; a short name counts, an address does not."""
    return 0 < len(text) <= MAX_HOST and _are_labels(text)


def is_resource_name(text: str) -> bool:
    """Whether a text can be the name of a Kubernetes object: labels with dots between them."""
    return 0 < len(text) <= MAX_HOST and all(map(is_label, text.split(".")))


def is_wildcard_host(text: str) -> bool:
    """A host name whose first label may be ``*`` or begin with it: ``*``, ``*.a.b``, ``*-a.b``."""
    if not 0 < len(text) <= MAX_HOST:
        return False
    first, dot, rest = text.partition(".")
    return bool(_WILDCARD_LABEL.fullmatch(first)) and (not dot or _are_labels(rest))


def _are_labels(text: str) -> bool:
    *labels, last = text.split(".")
    if last.isdigit() or (not last and not labels):
        return False
    return all(_LABEL.fullmatch(label) for label in (labels if not last else [*labels, last]))


def is_partial_wildcard(text: str) -> bool:
    """Whether a wildcard is only a part of the first label: ``*foo.com``."""
    return "*" in text and text != "*" and not text.startswith("*.")


def usual_address(text: str) -> str:
    """An address or a block of them as it is usually written: IPv6 can be spelled in many ways, and a block by any
    address in it. What is neither stays as it is."""
    try:
        return str(ipaddress.ip_network(text, strict=False) if "/" in text else ipaddress.ip_address(text))
    except ValueError:
        return text


def is_ip(text: str) -> bool:
    """Whether a text is one address, IPv4 or IPv6."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_cidr(text: str) -> bool:
    """Whether a text is an address or an address range (``10.0.0.0/8``; host bits may be set)."""
    address, slash, bits = text.partition("/")
    if slash and not (bits.isascii() and bits.isdigit() and (bits == "0" or bits[0] != "0")):
        return False
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return is_ip(address)


def is_mapped(block: str) -> bool:
    """Whether an address or range is of IPv4, in the form of IPv6 (``::ffff:10.0.0.1``)."""
    address = ipaddress.ip_network(block, strict=False).network_address
    return isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None


def is_within(text: str, block: str) -> bool:
    """Whether a text is an address that lies in an address range."""
    return is_ip(text) and ipaddress.ip_address(text) in ipaddress.ip_network(block)


def hosts_overlap(one: str, other: str) -> bool:
    """Whether some name is matched by both, either being a name or a wildcard."""
    return host_within(one, other) or host_within(other, one)


def host_within(host: str, pattern: str) -> bool:
    """Whether every name that ``host`` matches is matched by ``pattern`` too."""
    host, pattern = host.lower(), pattern.lower()
    if not pattern.startswith("*"):
        return host == pattern
    if not host.startswith("*"):
        return len(host) >= len(pattern) - 1 and host.endswith(pattern[1:])
    return host[1:].endswith(pattern[1:])


def split_host_port(text: str) -> tuple[str, int] | None:
    """Take ``host:port`` or ``[v6]:port`` apart; None where it has not that form or the port is no number."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit():
        return None
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], int(port)
    return None if ":" in host else (host, int(port))


def is_header_name(text: str) -> bool:
    """A token of HTTP."""
    return _HEADER_NAME.fullmatch(text) is not None


def is_read_header(text: str) -> bool:
    """The name of a header or, with a colon before it, of a part of the request line: what conditions and logs read."""
    return is_header_name(text.removeprefix(":"))
