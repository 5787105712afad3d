"""What an access policy makes of a request, and why: the rules as they were planned.

Comes in: an ``AccessPolicy`` and ``Facts``. Goes out: a ``Judgement``: allowed or not, by which rule (file and line),
and of ALLOW rules that did not match, which came near and by what they failed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import msgspec
import re2

from lateen.explain.facts import Facts
from lateen.plan.access.model import (
    PAYLOAD,
    TOKEN_FILTER,
    AccessPolicy,
    AccessRule,
    All,
    AnyOf,
    Condition,
    DestinationAddress,
    DestinationPort,
    DirectAddress,
    Header,
    Metadata,
    Not,
    PathTemplate,
    PeerIdentity,
    RemoteAddress,
    ServerName,
    UrlPath,
)
from lateen.plan.matching import MatchKind, StringMatcher

_SEGMENT = r"[a-zA-Z0-9._~%!$&'()+,;:@=*-]+"
_SEGMENTS = r"[a-zA-Z0-9._~%!$&'()+,;:@=*/-]*"
NEAREST = 3


class Near(msgspec.Struct, frozen=True):
    """An ALLOW rule that did not match, and what it failed by."""

    rule: AccessRule
    reasons: tuple[str, ...]


class Asked(msgspec.Struct, frozen=True):
    """An authorizer that has to be asked, because this rule says so."""

    authorizer: str
    rule: AccessRule


class Judgement(msgspec.Struct, frozen=True):
    """Whether a request may go on. ``by`` is the rule that decided; None: no rule did.

    ``asks`` are authorizers that have to agree first. ``near`` are ALLOW rules that did not match, the nearest first.
    ``audited`` and the ``trial`` ones decided nothing: ``trial_deny`` would have denied; ``trial_allows`` is whether
    the ALLOW rules on trial would have let it pass (None: there are none).
    """

    allowed: bool
    by: AccessRule | None = None
    asks: tuple[Asked, ...] = ()
    near: tuple[Near, ...] = ()
    audited: AccessRule | None = None
    trial_deny: AccessRule | None = None
    trial_allows: bool | None = None


def judge(policy: AccessPolicy, facts: Facts) -> Judgement:
    """What the policy says of a request, or of a connection of plain bytes (for which it is ``for_bytes``)."""
    asking = ((check.authorizer.name, _first(check.rules, facts)) for check in policy.external)
    asks = tuple(Asked(name, rule) for name, rule in asking if rule is not None)
    denying = _first(policy.deny, facts)
    allowing = _first(policy.allow or (), facts)
    refused = denying is None and policy.allow is not None and allowing is None
    return Judgement(
        allowed=denying is None and not refused,
        by=denying or allowing,
        asks=asks,
        near=near_rules(policy.allow or (), facts) if refused else (),
        audited=_first(policy.audit, facts),
        trial_deny=_first(policy.trial_deny, facts),
        trial_allows=None if policy.trial_allow is None else _first(policy.trial_allow, facts) is not None,
    )


def _first(rules: Iterable[AccessRule], facts: Facts) -> AccessRule | None:
    return next((rule for rule in rules if rule_holds(rule, facts)), None)


def rule_holds(rule: AccessRule, facts: Facts) -> bool:
    return holds(rule.principal, facts) and holds(rule.permission, facts)


def near_rules(rules: Iterable[AccessRule], facts: Facts) -> tuple[Near, ...]:
    """The rules that came nearest, and what each failed by."""
    found = [Near(rule, (*failures(rule.principal, facts), *failures(rule.permission, facts))) for rule in rules]
    return tuple(sorted(found, key=lambda near: len(near.reasons))[:NEAREST])


# --- conditions ------------------------------------------------------------------------------------------------------


def holds(condition: Condition, facts: Facts) -> bool:
    """Whether a condition holds."""
    match condition:
        case All(terms):
            return all(holds(term, facts) for term in terms)
        case AnyOf(terms):
            return any(holds(term, facts) for term in terms)
        case Not(term):
            return not holds(term, facts)
        case PeerIdentity(match):
            return bool(facts.identity) and text_holds(match, facts.identity)
        case DirectAddress(cidr):
            return _lies_in(facts.source, cidr)
        case RemoteAddress(cidr):
            return _lies_in(facts.remote, cidr)
        case DestinationAddress(cidr):
            return _lies_in(facts.address, cidr)
        case DestinationPort(port):
            return facts.port == port
        case ServerName(match):
            return text_holds(match, facts.server_name)
        case Metadata():
            return _found_holds(condition, facts)
        case Header(name, match):
            return any(match.kind is MatchKind.PRESENT or text_holds(match, value) for value in facts.header(name))
        case UrlPath(match):
            return facts.request is not None and text_holds(match, facts.request.path)
        case PathTemplate(template):
            return facts.request is not None and template_holds(template, facts.request.path)


def text_holds(match: StringMatcher, text: str) -> bool:
    """Whether one condition on a text holds."""
    if match.kind is MatchKind.REGEX:
        return re2.fullmatch(f"(?i:{match.value})" if match.ignore_case else match.value, text) is not None
    wanted, seen = (match.value.lower(), text.lower()) if match.ignore_case else (match.value, text)
    return {
        MatchKind.EXACT: seen == wanted,
        MatchKind.PREFIX: seen.startswith(wanted),
        MatchKind.SUFFIX: seen.endswith(wanted),
        MatchKind.CONTAINS: wanted in seen,
        MatchKind.PRESENT: bool(seen),
    }[match.kind]


def template_holds(template: str, path: str) -> bool:
    """Whether a path fits a template, as Envoy reads it."""
    parts = template.split("/")
    patterns = {"*": _SEGMENT, "**": _SEGMENTS}
    return re2.fullmatch("/".join(patterns.get(part) or _template_part(part) for part in parts), path) is not None


def _template_part(part: str) -> str:
    """A segment of a template: literal text around stars."""
    return _SEGMENTS.join(_SEGMENT.join(re2.escape(text) for text in one.split("*")) for one in part.split("**"))


def _found_holds(condition: Metadata, facts: Facts) -> bool:
    value = facts.metadata(condition.filter, condition.path)
    entries = value if isinstance(value, list | tuple) else []
    listed = any(_text_among(condition.any_of, entry) for entry in entries)
    if condition.listed is None:
        return listed
    return _text_among(condition.any_of, value) or (condition.listed and listed)


def _text_among(matchers: Iterable[StringMatcher], value: object) -> bool:
    return isinstance(value, str) and any(text_holds(match, value) for match in matchers)


def _lies_in(address: str, cidr: str) -> bool:
    found, network = ipaddress.ip_address(address), ipaddress.ip_network(cidr, strict=False)
    return found.version == network.version and found in network


# --- why not ---------------------------------------------------------------------------------------------------------


def failures(condition: Condition, facts: Facts) -> tuple[str, ...]:
    """What a condition fails by, one text for each part that does not hold; empty where it holds.

    Of alternatives, the one that came nearest is told, and what else would have done.
    """
    if holds(condition, facts):
        return ()
    if isinstance(condition, All):
        return tuple(reason for term in condition.terms for reason in failures(term, facts))
    if isinstance(condition, AnyOf):
        told = [failures(term, facts) for term in condition.terms]
        if not told:
            return ("nothing is in the list",)
        if all(not isinstance(term, All | AnyOf | Not) for term in condition.terms):
            return (_listed(condition.terms, facts),)
        return min(told, key=len)
    if isinstance(condition, Not):
        return tuple(f"{text}, which is excluded" for text in [_seen(condition.term, facts)])
    return (_listed((condition,), facts),)


def _listed(terms: Iterable[Condition], facts: Facts) -> str:
    """What was there, and what would have done."""
    terms = tuple(terms)
    wanted = " or ".join(dict.fromkeys(_wanted(term) for term in terms))
    return f"{_seen(terms[0], facts)}, not {wanted}"


def _seen(condition: Condition, facts: Facts) -> str:
    match condition:
        case All(terms) | AnyOf(terms):
            held = [term for term in terms if holds(term, facts)] or list(terms)
            return " and ".join(dict.fromkeys(_seen(term, facts) for term in held)) or "anything"
        case Not(term):
            return f"not ({_seen(term, facts)})"
        case PeerIdentity():
            return f"the caller is {facts.identity}" if facts.identity else "the caller has no mesh identity"
        case DirectAddress():
            return f"the peer's address is {facts.source}"
        case RemoteAddress():
            return f"the client's address is {facts.remote}"
        case DestinationAddress():
            return f"the destination is {facts.address}"
        case DestinationPort():
            return f"the port is {facts.port}"
        case ServerName():
            return f"the server name is {facts.server_name!r}" if facts.server_name else "there is no server name"
        case Metadata():
            return _seen_claim(condition, facts)
        case Header(name):
            values = " and ".join(map(repr, facts.header(name)))
            if values:
                return f"{_header_name(name)} is {values}"
            return f"there is no header {name}" if facts.whole else f"the header {name} is not known here"
        case UrlPath() | PathTemplate():
            return f"the path is {facts.request.path!r}" if facts.request is not None else "it is not HTTP"


def _header_name(name: str) -> str:
    return {":authority": "the host", ":method": "the method"}.get(name, f"the header {name}")


def _seen_claim(condition: Metadata, facts: Facts) -> str:
    if condition.filter != TOKEN_FILTER:
        what = f"{condition.filter}[{']['.join(condition.path)}]"
    elif facts.metadata(TOKEN_FILTER, (PAYLOAD,)) is None:
        return "there is no good token" if facts.whole else "what the token says is not known here"
    else:
        what = f"the claim {'.'.join(condition.path[1:])}"
    value = facts.metadata(condition.filter, condition.path)
    return f"{what} is not there" if value is None else f"{what} is {value!r}"


def _wanted(condition: Condition) -> str:
    match condition:
        case PeerIdentity(match) | ServerName(match) | UrlPath(match) | Header(_, match):
            return _shown(match)
        case DirectAddress(cidr) | RemoteAddress(cidr) | DestinationAddress(cidr):
            return cidr
        case DestinationPort(port):
            return str(port)
        case PathTemplate(template):
            operators = {"*": "{*}", "**": "{**}"}
            return repr("/".join(operators.get(part, part) for part in template.split("/")))
        case Metadata():
            return " or ".join(_shown(match) for match in condition.any_of)
    return "another"


def _shown(match: StringMatcher) -> str:
    shapes = {
        MatchKind.EXACT: "{!r}",
        MatchKind.PREFIX: "one that begins with {!r}",
        MatchKind.SUFFIX: "one that ends with {!r}",
        MatchKind.CONTAINS: "one that has {!r} in it",
        MatchKind.REGEX: "one that matches {!r}",
        MatchKind.PRESENT: "any",
    }
    return shapes[match.kind].format(match.value)
