"""Operations of rules on headers that the proxy does by itself, as it sends a request on and its answer back.

Comes in: a rule, and what is left of its match. Goes out: ``HeaderOps`` of a route; ``Beyond`` says why there are none.
A header that is set under a condition has a value that CEL works out; one without a value is not set.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import re2
from msgspec.structs import replace

from lateen.expressions.partial import partial
from lateen.expressions.syntax import Expression, Literal, attributes_of
from lateen.expressions.vocabulary import OF_HEADERS, Vocabulary
from lateen.mesh.mixer.model import HeaderOperation, Rule
from lateen.plan.access.model import Condition
from lateen.plan.cel import Inexpressible, expression, quoted
from lateen.plan.mixer.compile import Beyond, holds
from lateen.plan.routes import HeaderOps, RouteTable

_UNFIT = re2.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_ANSWERED = "has(upstream.address)"
"""Somebody else answers than the proxy itself, whose refusals no rule changes."""
Names = Counter[str]


def fit(value: str) -> str:
    """A value without what would end a header, or break the message that it stands in: a client may have written it."""
    return str(_UNFIT.sub("?", value))


def names_changed(rules: Iterable[Rule]) -> tuple[Names, Names]:
    """How many operations change each header of requests, and of answers."""
    found = tuple(rules)
    return (
        Counter(one.name for rule in found for one in rule.request),
        Counter(one.name for rule in found for one in rule.response),
    )


def not_changed(trees: Iterable[Expression], names: Names) -> None:
    """Raises Beyond where something is looked at that an operation of ``names`` may have changed before."""
    for name, key in (one for tree in trees for one in attributes_of(tree)):
        header = key.lower() if name == "request.headers" and key else OF_HEADERS.get(name, "")
        if header in names:
            raise Beyond(f"a rule may change {header} before it is counted")


def changes(
    rule: Rule, match: Expression | bool, known: Mapping[str, Any], vocabulary: Vocabulary, names: tuple[Names, Names]
) -> tuple[HeaderOps, HeaderOps]:
    """What the proxy does with the headers of a request, and of its answer. Raises Beyond."""
    guards = [] if isinstance(match, bool) else [_guarding(holds(match))]
    request = _Maker(guards, known, vocabulary).made(rule.request, names[0])
    return request, _Maker([*guards, _ANSWERED], known, vocabulary).made(rule.response, names[1])


def joined(found: Iterable[HeaderOps]) -> HeaderOps:
    """All of these operations; no header stands in two of them."""
    parts = tuple(found)
    return HeaderOps(
        set=tuple(one for part in parts for one in part.set),
        add=tuple(one for part in parts for one in part.add),
        remove=tuple(one for part in parts for one in part.remove),
    )


def with_changes(table: RouteTable, request: HeaderOps, response: HeaderOps) -> RouteTable:
    """A table whose routes, which lead to the application, change headers."""
    hosts = (
        replace(
            host,
            routes=tuple(replace(route, request_headers=request, response_headers=response) for route in host.routes),
        )
        for host in table.virtual_hosts
    )
    return replace(table, virtual_hosts=tuple(hosts))


class _Maker:
    """Makes operations that are done where all guards hold, which are conditions of CEL."""

    def __init__(self, guards: Sequence[str], known: Mapping[str, Any], vocabulary: Vocabulary) -> None:
        self._guard, self._known, self._vocabulary = " && ".join(guards), known, vocabulary

    def made(self, operations: Iterable[HeaderOperation], names: Names) -> HeaderOps:
        changed, added, removed = [], [], []
        for one in operations:
            if names[one.name] > 1:
                raise Beyond(f"{one.name} is changed more than once")
            if one.name.startswith(":") or one.name == "host":
                raise Beyond(f"{one.name} is no header that a route may change")
            if one.operation == "remove":
                if self._guard not in ("", _ANSWERED):
                    raise Beyond("a header is removed from some requests alone")
                removed.append(one.name)
                continue
            values = [form for value in one.values if (form := self._form(value))]
            first = values[:1] if one.operation == "replace" else []
            changed += [(one.name, value) for value in first]
            added += [(one.name, value) for value in values[len(first) :]]
        return HeaderOps(set=tuple(changed), add=tuple(added), remove=tuple(removed))

    def _form(self, tree: Expression) -> str:
        rest = partial(tree, self._known, self._vocabulary)
        if not isinstance(rest, Literal):
            raise Beyond("a value is worked out from the request")
        text = fit(rest.value) if isinstance(rest.value, str) else ""
        if not text or not self._guard:
            return text.replace("%", "%%")
        return f"%CEL({self._guard} ? {_plain(quoted(text))} : '')%"


def _guarding(condition: Condition) -> str:
    """A condition within a format of Envoy's, where a percent sign would end it. Raises Beyond."""
    try:
        return _plain(expression(condition))
    except Inexpressible as problem:
        raise Beyond(str(problem)) from None


def _plain(text: str) -> str:
    if "%" in text:
        raise Beyond("a percent sign stands in it")
    return text
