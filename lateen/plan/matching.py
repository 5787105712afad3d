"""How a plan says that a string, a path or a header matches: the vocabulary of routes and of access rules.

Comes in: values read from resources. Goes out: frozen structs that the translation and the explainer both read.
"""

from __future__ import annotations

import enum

import msgspec


class MatchKind(enum.Enum):
    """The ways in which a string can match; REGEX is RE2 over the whole string, PRESENT any non-empty value."""

    EXACT = "exact"
    PREFIX = "prefix"
    SUFFIX = "suffix"
    CONTAINS = "contains"
    REGEX = "regex"
    PRESENT = "present"


class StringMatcher(msgspec.Struct, frozen=True):
    """One condition on one string."""

    kind: MatchKind
    value: str = ""
    ignore_case: bool = False


class HeaderMatcher(msgspec.Struct, frozen=True):
    """One condition on one request header (lower-case name; pseudo-headers such as ``:method`` included).

    ``invert`` negates; ``missing_as_empty`` lets an inverted value match hold for an absent header.
    """

    name: str
    match: StringMatcher
    invert: bool = False
    missing_as_empty: bool = False


class QueryMatcher(msgspec.Struct, frozen=True):
    """One condition on one query parameter."""

    name: str
    match: StringMatcher


class ClaimMatcher(msgspec.Struct, frozen=True):
    """One condition on a claim of the request's token, by its way in: a text, or a list that has such a text."""

    path: tuple[str, ...]
    match: StringMatcher
    invert: bool = False


class RouteMatch(msgspec.Struct, frozen=True):
    """When a route applies: a path condition and further conditions, all of which must hold.

    ``path.kind`` is PREFIX (raw string prefix), EXACT or REGEX and never sees the query.
    """

    path: StringMatcher = StringMatcher(MatchKind.PREFIX, "/")
    headers: tuple[HeaderMatcher, ...] = ()
    query: tuple[QueryMatcher, ...] = ()
    claims: tuple[ClaimMatcher, ...] = ()

    @property
    def catches_all(self) -> bool:
        """True where no later route can ever be reached."""
        everything = self.path == StringMatcher(MatchKind.PREFIX, "/")
        return everything and not self.headers and not self.query and not self.claims
