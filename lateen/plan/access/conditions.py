"""Conditions of AuthorizationPolicies, one by one: what a text of a policy means.

Comes in: texts as users write them. Goes out: ``Condition`` values. Texts have AuthorizationPolicy's small syntax:
``abc`` exact, ``abc*`` prefix, ``*abc`` suffix, ``*`` present. Names are matched inside the peer's SPIFFE id, every
character standing for itself; claims in what the token filter found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lateen.plan.access.model import (
    PAYLOAD,
    TOKEN_FILTER,
    All,
    AnyOf,
    Condition,
    DestinationAddress,
    DestinationPort,
    DirectAddress,
    Header,
    Metadata,
    PathTemplate,
    PeerIdentity,
    RemoteAddress,
    ServerName,
    UrlPath,
)
from lateen.plan.matching import MatchKind, StringMatcher

SPIFFE = "spiffe://"
LOCAL_DOMAIN = "cluster.local"
_SPECIAL = frozenset("\\.+*?()|[]{}^$-#&~")
_PRESENT = StringMatcher(MatchKind.PRESENT)
_EXPERIMENTAL = "experimental."


def mini_syntax(text: str, before: str = "") -> StringMatcher:
    """Read AuthorizationPolicy's small syntax; ``before`` stands in front of what the user wrote.

    A suffix of something that has a fixed beginning needs a pattern, with the text quoted.
    """
    if text == "*":
        return StringMatcher(MatchKind.PREFIX, before) if before else StringMatcher(MatchKind.PRESENT)
    if text.startswith("*"):
        if before:
            return StringMatcher(MatchKind.REGEX, f"{quote(before)}.*{quote(text[1:])}")
        return StringMatcher(MatchKind.SUFFIX, text[1:])
    if text.endswith("*"):
        return StringMatcher(MatchKind.PREFIX, before + text[:-1])
    return StringMatcher(MatchKind.EXACT, before + text)


def quote(text: str) -> str:
    """Make every character of a text stand for itself in an RE2 pattern."""
    return "".join(f"\\{character}" if character in _SPECIAL else character for character in text)


def principal(text: str, trust_domains: tuple[str, ...] = ()) -> Condition:
    """``TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT``; one of the mesh's own trust domains stands for all of them, and
    ``cluster.local`` for the mesh's own whatever they are called.

    A trust domain ``*rest`` that matches one of them stands for itself and for the others.
    """
    domain, slash, rest = text.partition("/")
    is_own = domain == LOCAL_DOMAIN or any(_names(domain, own) for own in trust_domains)
    if not slash or domain == "*" or not trust_domains or not is_own:
        return PeerIdentity(mini_syntax(text, SPIFFE))
    domains = [domain] if domain.startswith("*") else []
    domains += [own for own in trust_domains if not (domain.startswith("*") and _names(domain, own))]
    found = tuple(PeerIdentity(mini_syntax(f"{one}/{rest}", SPIFFE)) for one in domains)
    return found[0] if len(found) == 1 else AnyOf(found)


def _names(pattern: str, domain: str) -> bool:
    return domain.endswith(pattern[1:]) if pattern.startswith("*") else domain == pattern


def namespace(text: str) -> Condition:
    inner = "[^/]*".join(quote(part) for part in text.split("*"))
    return PeerIdentity(StringMatcher(MatchKind.REGEX, f"spiffe://[^/]+/ns/{inner}/sa/.*"))


def host(text: str) -> Condition:
    """Hosts ignore case; one that is written without a port matches with any behind it, a suffix as well.

    (Istio's suffix does not, so that a denial of ``*.example`` is walked around by naming the port.)
    """
    matcher = mini_syntax(text)
    if matcher.kind in (MatchKind.EXACT, MatchKind.SUFFIX) and ":" not in text:
        anything = ".*" if matcher.kind is MatchKind.SUFFIX else ""
        return Header(":authority", StringMatcher(MatchKind.REGEX, f"(?i){anything}{quote(matcher.value)}(:[0-9]+)?"))
    return Header(":authority", StringMatcher(matcher.kind, matcher.value, ignore_case=True))


def path(text: str) -> Condition:
    """A path, or a template: ``{*}`` is one segment, ``{**}`` any number of them."""
    if "{*}" in text or "{**}" in text:
        return PathTemplate(text.replace("{**}", "**").replace("{*}", "*"))
    return UrlPath(mini_syntax(text))


def method(text: str) -> Condition:
    return Header(":method", mini_syntax(text))


def port(text: str) -> Condition:
    return DestinationPort(int(text))


def service_account(text: str, policy_namespace: str) -> Condition:
    """``namespace/name``, or a name in the namespace of the policy."""
    first, _, second = text.rpartition("/")
    account = f"/ns/{quote(first or policy_namespace)}/(?:.+/|)sa/{quote(second)}"
    return PeerIdentity(StringMatcher(MatchKind.REGEX, f"spiffe://[^/]+{account}(?:/.+)?"))


def trust_domain(text: str) -> Condition:
    """The trust domain of an identity; ``*`` stands for any characters of it."""
    if "*" not in text:
        return PeerIdentity(StringMatcher(MatchKind.PREFIX, f"{SPIFFE}{text}/"))
    inner = "[^/]*".join(quote(part) for part in text.split("*"))
    return PeerIdentity(StringMatcher(MatchKind.REGEX, f"{SPIFFE}{inner}/.*"))


def request_principal(text: str) -> Condition:
    """``issuer/subject`` of a token, split at the last slash.

    Without a slash, a prefix is of issuers and a suffix of subjects.
    """
    issuer, slash, subject = text.rpartition("/")
    if slash:
        first, second = mini_syntax(issuer), mini_syntax(subject)
    elif text.startswith("*"):
        first, second = _PRESENT, mini_syntax(text)
    elif text.endswith("*"):
        first, second = mini_syntax(text), _PRESENT
    else:
        first, second = mini_syntax(text), StringMatcher(MatchKind.EXACT)
    return All((_claim_text("iss", first), _claim_text("sub", second)))


def _claim_text(name: str, match: StringMatcher) -> Metadata:
    return Metadata(TOKEN_FILTER, (PAYLOAD, name), (match,))


def claim(path: tuple[str, ...], values: tuple[str, ...]) -> Condition:
    """A claim that is one of the texts, or a list that has one of them."""
    return Metadata(TOKEN_FILTER, (PAYLOAD, *path), tuple(map(mini_syntax, values)), listed=True)


def of_filter(key: str, values: tuple[str, ...]) -> Condition:
    """What a filter found out: ``experimental.envoy.filters.NAME[KEY]``; ``[text]`` is a list that has it."""
    name, _, entry = key.removeprefix(_EXPERIMENTAL).partition("[")
    way = (entry.removesuffix("]"),)
    listed = tuple(value[1:-1] for value in values if value.startswith("[") and value.endswith("]"))
    plain = tuple(value for value in values if not (value.startswith("[") and value.endswith("]")))
    found = []
    if plain:
        found.append(Metadata(name, way, tuple(map(mini_syntax, plain))))
    if listed:
        found.append(Metadata(name, way, tuple(map(mini_syntax, listed)), listed=None))
    return found[0] if len(found) == 1 else AnyOf(tuple(found))


def server_name(text: str) -> Condition:
    return ServerName(mini_syntax(text))


PLAIN: Mapping[str, Callable[[str], Condition]] = {
    "source.ip": DirectAddress,
    "remote.ip": RemoteAddress,
    "source.namespace": namespace,
    "source.trustDomain": trust_domain,
    "request.auth.principal": request_principal,
    "destination.ip": DestinationAddress,
    "destination.port": port,
    "connection.sni": server_name,
}
"""Keys of ``when`` whose values are read one by one."""


def condition(
    key: str, values: tuple[str, ...], policy_namespace: str, trust_domains: tuple[str, ...] = ()
) -> Condition:
    """One of the values of a key of ``when``. Raises KeyError for a key that there is not."""
    if key == "source.principal":
        return AnyOf(tuple(principal(value, trust_domains) for value in values))
    if key in PLAIN:
        return AnyOf(tuple(PLAIN[key](value) for value in values))
    if key == "source.serviceAccount":
        return AnyOf(tuple(service_account(value, policy_namespace) for value in values))
    if key in _CLAIM_KEYS:
        return claim((_CLAIM_KEYS[key],), values)
    if key.startswith("request.auth.claims["):
        return claim(tuple(key.removeprefix("request.auth.claims[").removesuffix("]").split("][")), values)
    if key.startswith("request.headers["):
        name = key.removeprefix("request.headers[").removesuffix("]").lower()
        return AnyOf(tuple(Header(name, mini_syntax(value)) for value in values))
    if key.startswith(f"{_EXPERIMENTAL}envoy.filters."):
        return of_filter(key, values)
    raise KeyError(key)


_CLAIM_KEYS = {"request.auth.audiences": "aud", "request.auth.presenter": "azp"}


def is_asked_for(key: str) -> bool:
    """Whether a key of ``when`` is about what is asked for, not about who asks."""
    return key.startswith(("destination.", "connection.", _EXPERIMENTAL))
