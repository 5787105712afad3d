"""Expressions as conditions of a proxy: what can be decided where the request is.

Comes in: what is left of an expression, settled. Goes out: a ``Condition`` that holds for just the requests for which
the expression is true; ``Beyond`` says why there is none. That an attribute is absent is part of the condition: an
expression that cannot be evaluated is not true, and neither is its negation.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping

import msgspec
import re2

from lateen.expressions.syntax import (
    AND,
    EITHER,
    ENTRIES,
    EQ,
    FILLED,
    NEQ,
    NOT,
    OR,
    RESCUE,
    Attribute,
    Call,
    Expression,
    Known,
    Literal,
)
from lateen.expressions.vocabulary import HEADERS, ValueType
from lateen.plan.access.conditions import quote
from lateen.plan.access.model import All, AnyOf, Condition, DirectAddress, Header, Not, PeerIdentity, UrlPath
from lateen.plan.matching import MatchKind, StringMatcher
from lateen.values.expression import LARGEST_PATTERN

ALWAYS, NEVER = All(), AnyOf()
SPIFFE = "spiffe://"
GRPC = "application/grpc"
MOST_TERMS = 64
_PRESENT = StringMatcher(MatchKind.PRESENT)
_SCHEME = StringMatcher(MatchKind.PREFIX, SPIFFE)
_ANY = r"\C*"
_WORKLOAD = r"spiffe://[^/]+/ns/{namespace}/sa/{account}"
_SEGMENT = "[^/]+"


class Beyond(Exception):
    """A proxy cannot decide this; the message says why, as the rest of a sentence that begins with "because"."""


class TextSource(msgspec.Struct, frozen=True):
    """A text that the proxy knows: where it is from, and its name there."""

    kind: str
    name: str = ""

    def present(self) -> Condition:
        if self.kind == "header":
            return Header(self.name, _PRESENT)
        if self.kind == "path":
            return ALWAYS
        return self.where(StringMatcher(MatchKind.PREFIX, ""))

    def lacks(self, match: StringMatcher) -> Condition:
        """It does not match, where it is there. Raises Beyond."""
        if self.repeats:
            raise Beyond("a header that may come twice has to be something else")
        return Not(self.where(match))

    @property
    def repeats(self) -> bool:
        """Whether it may have several values, which Envoy looks at one by one, and the mixer joined by commas."""
        return self.kind == "header" and not self.name.startswith(":")

    def where(self, match: StringMatcher) -> Condition:
        """It is there and matches."""
        if self.repeats and match.kind is MatchKind.REGEX:
            raise Beyond("a pattern is held against a header that may come twice")
        if not match.value and match.kind in (MatchKind.PREFIX, MatchKind.SUFFIX) and self.kind != "identity":
            match = _PRESENT if self.kind != "principal" else _SCHEME
        if self.kind == "header":
            return Header(self.name, match)
        if self.kind == "path":
            return UrlPath(match)
        if self.kind == "principal":
            if match is _SCHEME:
                return PeerIdentity(match)
            if match.kind is MatchKind.REGEX or "//" in match.value:
                raise Beyond("a pattern is held against the name of the client's certificate")
            value = match.value if match.kind is MatchKind.SUFFIX else SPIFFE + match.value
            return PeerIdentity(msgspec.structs.replace(match, value=value))
        if match == StringMatcher(MatchKind.EXACT, ""):
            return NEVER
        return PeerIdentity(pattern_of(self._identity(match)))

    def _identity(self, match: StringMatcher) -> str:
        if match.kind is MatchKind.REGEX:
            raise Beyond("a pattern is held against a part of the client's name")
        before = _ANY_OF_SEGMENT if match.kind is MatchKind.SUFFIX else ""
        after = _ANY_OF_SEGMENT if match.kind is MatchKind.PREFIX else ""
        part = f"{before}{quote(match.value)}{after}" if match.value else _SEGMENT
        places = {"namespace": _SEGMENT, "account": _SEGMENT, self.name: part}
        return _WORKLOAD.format(**places)


_ANY_OF_SEGMENT = "[^/]*"
_Base = str | TextSource | None
_Alternative = tuple[Condition, _Base]
"""A condition, and what a text then is: a literal, something that the proxy knows, or (None) absent."""


def holds(tree: Expression) -> Condition:
    """When the expression is true. Raises Beyond."""
    return within_bounds(_Compiler().truth(tree, wanted=True))


def matched(match: Expression | bool) -> Condition:
    """When what is left of a rule's match holds. Raises Beyond."""
    return (ALWAYS if match else NEVER) if isinstance(match, bool) else holds(match)


def within_bounds(condition: Condition, most: int = MOST_TERMS) -> Condition:
    """The condition itself. Raises Beyond where a proxy would have to look at too much."""
    if _size(condition) > most:
        raise Beyond(f"it comes to more than {most} conditions")
    return condition


def text_conditions(tree: Expression, test: Callable[[str | TextSource], Condition]) -> tuple[Condition, Condition]:
    """When a text is there and passes a test, and when it is absent. Raises Beyond."""
    there, absent = [], []
    for guard, base in _alternatives(tree):
        if base is None:
            absent.append(guard)
        else:
            there.append(both(guard, test(base)))
    return either(there), either(absent)


class _Compiler:
    """Works out when parts of one expression are true and when they are false, each once."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, bool], Condition] = {}

    def truth(self, tree: Expression, *, wanted: bool) -> Condition:
        """When a boolean expression is evaluated, and to this value."""
        found = self._known.get((id(tree), wanted))
        if found is None:
            found = self._known[(id(tree), wanted)] = within_bounds(self._truth(tree, wanted=wanted))
        return found

    def _truth(self, tree: Expression, *, wanted: bool) -> Condition:
        if isinstance(tree, Literal):
            return ALWAYS if tree.value is wanted else NEVER
        if isinstance(tree, Attribute):
            return _flag(tree.name, wanted=wanted)
        if not isinstance(tree, Call):
            raise Beyond("it has a value that is no condition")
        arguments = tree.arguments
        if tree.function == NOT:
            return self.truth(arguments[0], wanted=not wanted)
        if tree.function in (AND, OR):
            return self._joined(tree, wanted=wanted)
        if tree.function in (EQ, NEQ):
            return _equal(arguments[0], arguments[1], wanted=wanted is (tree.function == EQ))
        if tree.function in _TESTS:
            return _tested(tree, wanted=wanted)
        if tree.function == RESCUE:
            if arguments[1] == Literal(not wanted, ValueType.BOOL, arguments[1].at):
                return self.truth(arguments[0], wanted=wanted)
            raise Beyond("a part that may be absent decides")
        raise Beyond(f"{tree.function} is worked out")

    def _joined(self, tree: Call, *, wanted: bool) -> Condition:
        left, right = tree.arguments
        decides = tree.function == OR
        if wanted is not decides:
            return both(self.truth(left, wanted=wanted), self.truth(right, wanted=wanted))
        passed = self.truth(right, wanted=wanted)
        if not _never_fails(left):
            passed = both(self.truth(left, wanted=not wanted), passed)
        return either([self.truth(left, wanted=wanted), passed])


def _never_fails(tree: Expression) -> bool:
    """Whether an expression has a value, whatever is absent."""
    if not isinstance(tree, Call):
        return isinstance(tree, Literal)
    if tree.function == RESCUE:
        return _never_fails(tree.arguments[1])
    return tree.function in (AND, OR, NOT) and all(_never_fails(part) for part in tree.arguments)


def _flag(name: str, *, wanted: bool) -> Condition:
    if name != "connection.mtls":
        raise Beyond(f"{name} is known to the mixer alone")
    secured = PeerIdentity(StringMatcher(MatchKind.REGEX, _WORKLOAD.format(namespace=_SEGMENT, account=_SEGMENT)))
    return secured if wanted else Not(secured)


def _equal(left: Expression, right: Expression, *, wanted: bool) -> Condition:
    address = _address_equal(left, right) or _address_equal(right, left)
    if address is not None:
        return address if wanted else Not(address)
    protocol = _protocol_equal(left, right) or _protocol_equal(right, left)
    if protocol is not None:
        return protocol if wanted else Not(protocol)
    found = []
    for guard, one in _alternatives(left):
        for other_guard, other in _alternatives(right):
            if one is not None and other is not None:
                found.append(both(both(guard, other_guard), _same(one, other, wanted=wanted)))
    return either(found)


def _same(one: _Base, other: _Base, *, wanted: bool) -> Condition:
    if isinstance(one, str) and isinstance(other, str):
        return ALWAYS if (one == other) is wanted else NEVER
    if isinstance(one, str) and isinstance(other, TextSource):
        one, other = other, one
    if not isinstance(one, TextSource) or not isinstance(other, str):
        raise Beyond("two parts of the request are held against each other")
    match = StringMatcher(MatchKind.EXACT, other)
    return one.where(match) if wanted else one.lacks(match)


def _address_equal(left: Expression, right: Expression) -> Condition | None:
    """``source.ip == ip("...")``: the address is always there."""
    if not isinstance(left, Attribute) or left.name != "source.ip" or not isinstance(right, Known):
        return None
    if not isinstance(right.value, ipaddress.IPv4Address | ipaddress.IPv6Address):
        return None
    return DirectAddress(f"{right.value}/{right.value.max_prefixlen}")


def _protocol_equal(left: Expression, right: Expression) -> Condition | None:
    """``context.protocol == "grpc"``, of requests."""
    if not isinstance(left, Attribute) or left.name != "context.protocol" or not isinstance(right, Literal):
        return None
    grpc = Header("content-type", StringMatcher(MatchKind.PREFIX, GRPC))
    by_name: dict[str, Condition] = {"grpc": grpc, "http": Not(grpc)}
    return by_name.get(str(right.value), NEVER)


def _tested(tree: Call, *, wanted: bool) -> Condition:
    value, pattern = tree.arguments if tree.function != "matches" else tree.arguments[::-1]
    if not isinstance(pattern, Literal) or not isinstance(pattern.value, str):
        raise Beyond(f"what {tree.function} looks for is part of the request")
    matcher, literal = _TESTS[tree.function](pattern.value)
    found = []
    for guard, base in _alternatives(value):
        if isinstance(base, str):
            found.append(guard if literal(base) is wanted else NEVER)
        elif base is not None:
            found.append(both(guard, base.where(matcher) if wanted else base.lacks(matcher)))
    return either(found)


def _glob(pattern: str) -> tuple[StringMatcher, Callable[[str], bool]]:
    if pattern.endswith("*"):
        return _starts(pattern[:-1])
    if pattern.startswith("*"):
        return _ends(pattern[1:])
    return StringMatcher(MatchKind.EXACT, pattern), lambda text: text == pattern


def _starts(pattern: str) -> tuple[StringMatcher, Callable[[str], bool]]:
    return StringMatcher(MatchKind.PREFIX, pattern), lambda text: text.startswith(pattern)


def _ends(pattern: str) -> tuple[StringMatcher, Callable[[str], bool]]:
    return StringMatcher(MatchKind.SUFFIX, pattern), lambda text: text.endswith(pattern)


def anywhere(pattern: str) -> StringMatcher:
    """A pattern of RE2 that is found anywhere in a text, whatever bytes stand around it. Raises Beyond."""
    return pattern_of(f"{_ANY}(?:{pattern}){_ANY}")


def bases(tree: Expression) -> list[str | TextSource]:
    """What a text may be: parts of the request, and what stands for them where they are not there. Raises Beyond."""
    return [base for _, base in _alternatives(tree) if base is not None]


def pattern_of(pattern: str) -> StringMatcher:
    """A pattern of RE2, which the whole text has to fit.

    Raises Beyond for one that Envoy does not take: it knows no characters but bytes, and bounds programs.
    """
    options = re2.Options()
    options.log_errors = False
    options.encoding = re2.Options.Encoding.LATIN1
    try:
        size = re2.compile(pattern.encode(), options).programsize
    except re2.error:
        raise Beyond("Envoy does not read its pattern") from None
    if size > LARGEST_PATTERN:
        raise Beyond("its pattern is too large for Envoy")
    return StringMatcher(MatchKind.REGEX, pattern)


def _found(pattern: str) -> tuple[StringMatcher, Callable[[str], bool]]:
    from lateen.expressions.functions import compile_pattern

    return anywhere(pattern), lambda text: compile_pattern(pattern).search(text) is not None


_TESTS: Mapping[str, Callable[[str], tuple[StringMatcher, Callable[[str], bool]]]] = {
    "match": _glob,
    "startsWith": _starts,
    "endsWith": _ends,
    "matches": _found,
}


def _alternatives(tree: Expression) -> list[_Alternative]:
    """What a text may be, each with the condition under which it is that."""
    if isinstance(tree, Literal):
        if tree.value is not None and not isinstance(tree.value, str):
            raise Beyond("numbers are compared")
        return [(ALWAYS, tree.value)]
    if isinstance(tree, Call) and tree.function == EITHER:
        left = _alternatives(tree.arguments[0])
        found: list[_Alternative] = [(guard, base) for guard, base in left if base is not None]
        for guard, base in left:
            if base is None:
                found.extend((both(guard, other), next_base) for other, next_base in _alternatives(tree.arguments[1]))
        return found
    source = _source(tree)
    present = source.present()
    lacking = "" if isinstance(tree, Call) and tree.function == FILLED else None
    return [(present, source)] if present == ALWAYS else [(present, source), (Not(present), lacking)]


def _source(tree: Expression) -> TextSource:
    if isinstance(tree, Call) and tree.function in ENTRIES:
        owner, key = tree.arguments
        if isinstance(owner, Attribute) and owner.name == "request.headers" and isinstance(key, Literal):
            if str(key.value).lower() == "host":
                raise Beyond("host is :authority to a proxy, and not there to the mixer")
            return TextSource("header", str(key.value).lower())
        raise Beyond("it looks into a map that the mixer has")
    if not isinstance(tree, Attribute):
        raise Beyond("it is worked out from parts of the request")
    if tree.name in HEADERS:
        return TextSource("header", HEADERS[tree.name])
    if tree.name == "request.url_path":
        return TextSource("path")
    if tree.name in ("source.principal", "source.user"):
        return TextSource("principal")
    if tree.name in ("source.namespace", "source.serviceAccount"):
        return TextSource("identity", "namespace" if tree.name == "source.namespace" else "account")
    raise Beyond(f"{tree.name} is known to the mixer alone")


def both(one: Condition, other: Condition) -> Condition:
    """Both hold."""
    if NEVER in (one, other):
        return NEVER
    terms = [*_terms(one), *_terms(other)]
    unique = tuple(dict.fromkeys(terms))
    return unique[0] if len(unique) == 1 else All(unique)


def either(conditions: list[Condition]) -> Condition:
    """One of them holds."""
    found = [one for one in dict.fromkeys(conditions) if one != NEVER]
    if ALWAYS in found:
        return ALWAYS
    return found[0] if len(found) == 1 else AnyOf(tuple(found))


def negated(condition: Condition) -> Condition:
    """It does not hold."""
    if condition in (ALWAYS, NEVER):
        return NEVER if condition == ALWAYS else ALWAYS
    return condition.term if isinstance(condition, Not) else Not(condition)


def _terms(condition: Condition) -> Iterator[Condition]:
    if isinstance(condition, All):
        yield from condition.terms
    else:
        yield condition


def _size(condition: Condition) -> int:
    if isinstance(condition, All | AnyOf):
        return sum(_size(term) for term in condition.terms)
    return _size(condition.term) if isinstance(condition, Not) else 1
