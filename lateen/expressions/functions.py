"""The functions of the language: their types, and what they do.

A function is given values that are there, and raises ``Unusable`` for one that it can do nothing with.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import msgspec
import re2

from lateen.expressions.syntax import IpAddress
from lateen.expressions.vocabulary import ValueType

_TEXT, _BOOL = ValueType.STRING, ValueType.BOOL
LONGEST_PATTERN = 1024
ANY = None
"""In a signature: any type, the same one wherever it stands."""


class Unusable(ValueError):
    """A value that a function can do nothing with; the message is a sentence."""


class Signature(msgspec.Struct, frozen=True):
    """``arguments`` with the receiver first where it is a ``method``; ``result`` ANY: the type that ANY came to."""

    arguments: tuple[ValueType | None, ...]
    result: ValueType | None
    run: Callable[..., Any]
    method: bool = False


def matches_glob(value: str, pattern: str) -> bool:
    """``prefix*``, ``*suffix`` or the whole text."""
    if pattern.endswith("*"):
        return value.startswith(pattern[:-1])
    if pattern.startswith("*"):
        return value.endswith(pattern[1:])
    return value == pattern


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> Any:
    """RE2's program for a pattern. Raises Unusable."""
    if len(pattern.encode()) > LONGEST_PATTERN:
        raise Unusable(f"the pattern is longer than {LONGEST_PATTERN} bytes")
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as problem:
        text = problem.args[0].decode() if isinstance(problem.args[0], bytes) else str(problem)
        raise Unusable(f"the pattern does not compile: {text}") from None


def _matches(pattern: str, value: str) -> bool:
    return compile_pattern(pattern).search(value) is not None


def to_ip(text: str) -> IpAddress:
    """An address; one of IPv4 that is written as IPv6 counts as IPv4, one with a zone is none. Raises Unusable."""
    try:
        address = ipaddress.ip_address(text.replace("%", " "))
    except ValueError:
        raise Unusable(f"{text!r} is not an IP address") from None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


_TIMESTAMP = re2.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def to_timestamp(text: str) -> datetime.datetime:
    """A time in RFC 3339. Raises Unusable."""
    try:
        found = datetime.datetime.fromisoformat(text.upper()) if _TIMESTAMP.fullmatch(text) else None
    except ValueError:
        found = None
    if found is None:
        raise Unusable(f"{text!r} is not a time such as 2026-01-31T12:00:00Z")
    return found


_UNITS: Mapping[str, float] = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re2.compile(r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|ms|s|m|h))+|[+-]?0")
_PIECE = re2.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|ms|s|m|h)")


def to_duration(text: str) -> datetime.timedelta:
    """A duration as Go writes it: ``1h30m``, ``10ms``. Raises Unusable."""
    if not _DURATION.fullmatch(text):
        raise Unusable(f"{text!r} is not a duration such as 10ms or 1m30s")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PIECE.findall(text))
    try:
        return datetime.timedelta(seconds=-seconds if text.startswith("-") else seconds)
    except OverflowError:
        raise Unusable(f"{text!r} is longer than can be") from None


def to_dns_name(text: str) -> str:
    """A DNS name as it is compared: in ASCII, small letters, without a final dot. Raises Unusable."""
    try:
        found = text.rstrip(".").encode("idna").decode().lower() if text else ""
    except UnicodeError:
        found = ""
    if not found:
        raise Unusable(f"{text!r} is not a DNS name")
    return found


def to_email(text: str) -> str:
    """An e-mail address as it is compared: the domain as a DNS name. Raises Unusable."""
    local, at, domain = text.rpartition("@")
    if not at or not local or any(character in "<>, \t\n" for character in text):
        raise Unusable(f"{text!r} is not an e-mail address")
    return f"{local}@{to_dns_name(domain)}"


def to_uri(text: str) -> str:
    """A URI as it is compared: scheme and host in small letters. Raises Unusable."""
    try:
        parts = urlsplit(text)
    except ValueError:
        raise Unusable(f"{text!r} is not a URI") from None
    if not text or any(character <= " " for character in text):
        raise Unusable(f"{text!r} is not a URI")
    return parts._replace(scheme=parts.scheme.lower(), netloc=parts.netloc.lower()).geturl()


def to_sum(one: Any, other: Any) -> Any:
    """Two numbers added up, or two texts joined. Raises Unusable where a whole number has more than 64 bits."""
    found = one + other
    if isinstance(found, int) and not -(1 << 63) <= found < 1 << 63:
        raise Unusable(f"{one} + {other} does not fit into 64 bits")
    return found


def _conditional(test: bool, yes: Any, no: Any) -> Any:
    return yes if test else no


FUNCTIONS: Mapping[str, Signature] = {
    "conditional": Signature((_BOOL, ANY, ANY), ANY, _conditional),
    "conditionalString": Signature((_BOOL, _TEXT, _TEXT), _TEXT, _conditional),
    "match": Signature((_TEXT, _TEXT), _BOOL, matches_glob),
    "matches": Signature((_TEXT, _TEXT), _BOOL, _matches, method=True),
    "startsWith": Signature((_TEXT, _TEXT), _BOOL, str.startswith, method=True),
    "endsWith": Signature((_TEXT, _TEXT), _BOOL, str.endswith, method=True),
    "size": Signature((_TEXT,), ValueType.INT64, len),
    "toLower": Signature((_TEXT,), _TEXT, str.lower),
    "ip": Signature((_TEXT,), ValueType.IP_ADDRESS, to_ip),
    "timestamp": Signature((_TEXT,), ValueType.TIMESTAMP, to_timestamp),
    "dnsName": Signature((_TEXT,), ValueType.DNS_NAME, to_dns_name),
    "email": Signature((_TEXT,), ValueType.EMAIL_ADDRESS, to_email),
    "uri": Signature((_TEXT,), ValueType.URI, to_uri),
    "emptyStringMap": Signature((), ValueType.STRING_MAP, dict),
}
LITERAL_CHECKS: Mapping[str, Callable[[str], object]] = {
    "matches": compile_pattern,
    "ip": to_ip,
    "timestamp": to_timestamp,
    "dnsName": to_dns_name,
    "email": to_email,
    "uri": to_uri,
}
"""Functions whose first argument is looked at beforehand where it is written down."""
