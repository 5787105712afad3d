"""What a request is counted as: Envoy's descriptors, the same for limits of one proxy and of all.

Comes in: ``LimitRule`` values. Goes out: the actions that make a descriptor of a request, the entries that it has, and
how each part of a bucket's key is formatted. A descriptor is made of a request that fulfils all conditions, and of no
other: an expression that asks for an entry beyond the end of a list fails, and with it the descriptor.

Keys come from filter state and not from headers, so that whatever bytes a client sends make some key: text without a
value is ``-``, long text is cut. What fails to make a key would not be counted.
"""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3 import extension_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.rate_limit_descriptors.expr.v3 import expr_pb2

from lateen.envoy import wire
from lateen.envoy.matching import header_condition
from lateen.plan import cel
from lateen.plan.access.conditions import quote
from lateen.plan.access.model import PAYLOAD, TOKEN_FILTER, All
from lateen.plan.limits.model import BucketKey, Charged, Counted, KeyKind, LimitRule, PathTemplate
from lateen.plan.matching import MatchKind, StringMatcher

RULE = "rule"
WINDOW = "window"
TRIAL = "trial"
REQUEST = "request"
HEADERS = "headers"
CHARGED = "charged"
HOLDS = "yes"
LONGEST_KEY = 256

_ONE = (Charged(),)
_EXPRESSION = "envoy.rate_limit_descriptors.expr"
_Action = route_components_pb2.RateLimit.Action
_FORMATS = {
    KeyKind.PEER: "%DOWNSTREAM_PEER_URI_SAN%",
    KeyKind.DIRECT_ADDRESS: "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
    KeyKind.REMOTE_ADDRESS: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    KeyKind.HOST: f"%REQ(:AUTHORITY):{LONGEST_KEY}%",
    KeyKind.METHOD: f"%REQ(:METHOD):{LONGEST_KEY}%",
    KeyKind.PATH: f"%PATH(NQ:PATH):{LONGEST_KEY}%",
}


def state_of(key: BucketKey) -> str:
    """The filter state that holds this part of a key. No claim has a colon in its name, but many have dots."""
    return ".".join(("lateen.bucket", key.kind.value, *([":".join(key.path)] if key.path else ())))


def format_of(key: BucketKey) -> str:
    """How Envoy formats it. Identities are never cut: two that begin alike must not share a bucket."""
    if key.kind is KeyKind.HEADER:
        return f"%REQ({key.path[0]}):{LONGEST_KEY}%"
    if key.kind is KeyKind.CLAIM:
        return f"%DYNAMIC_METADATA({':'.join((TOKEN_FILTER, PAYLOAD, *key.path))}):{LONGEST_KEY}%"
    return _FORMATS[key.kind]


def has_conditions(rule: LimitRule) -> bool:
    """Whether there are requests that are not counted, or take more than one."""
    return rule.counted != Counted() or rule.charged != _ONE


def entries_of(rule: LimitRule) -> list[tuple[str, str]]:
    """The entries of the rule's descriptors, in order; those of keys have no value, which stands for any."""
    found = [(RULE, rule.name)]
    if _expression(rule.counted):
        found.append((REQUEST, HOLDS))
    if rule.counted.headers:
        found.append((HEADERS, HOLDS))
    if _depends(rule):
        found.append((CHARGED, HOLDS))
    return [*found, *((state_of(key), "") for key in rule.keys)]


def rate_limits(rule: LimitRule) -> list[Any]:
    """The actions that make descriptors: the same one for each charge, with its amount.

    Where all count together, the limit is part of the descriptor.
    """
    return [_rate_limit(rule, charge) for charge in rule.charged]


def _depends(rule: LimitRule) -> bool:
    """Whether what a request takes depends on it."""
    return any(charge.condition != All() for charge in rule.charged)


def _rate_limit(rule: LimitRule, charge: Charged) -> Any:
    actions = [_constant(RULE, rule.name)]
    if rule.shared:
        actions.append(_constant(WINDOW, f"bucket {rule.burst} {rule.requests} {rule.interval:.9g}"))
    if rule.shared and rule.on_trial:
        actions.append(_constant(TRIAL, HOLDS))
    condition = _expression(rule.counted)
    if condition:
        actions.append(_evaluated(REQUEST, _where(condition)))
    if rule.counted.headers:
        wanted = [header_condition(header.name, header.match) for header in rule.counted.headers]
        match = _Action.HeaderValueMatch(descriptor_key=HEADERS, descriptor_value=HOLDS, headers=wanted)
        actions.append(_Action(header_value_match=match))
    if _depends(rule):
        actions.append(_evaluated(CHARGED, _where(cel.expression(charge.condition))))
    actions.extend(_evaluated(state_of(key), _value_of(key)) for key in rule.keys)
    message = route_components_pb2.RateLimit(actions=actions)
    if charge.amount != 1:
        message.hits_addend.number.value = charge.amount
    return message


def _value_of(key: BucketKey) -> str:
    state = cel.quoted(state_of(key))
    if key.default is None:
        return f'{state} in filter_state ? filter_state[{state}] : "-"'
    there = f"{cel.quoted(key.path[0])} in request.headers && {state} in filter_state"
    return f"{there} ? filter_state[{state}] : {cel.quoted(key.default)}"


def _where(condition: str) -> str:
    """A value where the condition holds; elsewhere the expression fails."""
    return f'{condition} ? "{HOLDS}" : ["no"][1]'


def _constant(name: str, value: str) -> Any:
    return _Action(generic_key=_Action.GenericKey(descriptor_key=name, descriptor_value=value))


def _evaluated(name: str, expression: str) -> Any:
    config = expr_pb2.Descriptor(descriptor_key=name, text=expression)
    return _Action(extension=extension_pb2.TypedExtensionConfig(name=_EXPRESSION, typed_config=wire.pack(config)))


# --- conditions, in CEL ----------------------------------------------------------------------------------------------


def _expression(counted: Counted) -> str:
    """What has to hold, but for headers; empty where nothing has to."""
    parts = []
    if counted.methods:
        parts.append(f"request.method in [{', '.join(map(cel.quoted, counted.methods))}]")
    if counted.hosts:
        parts.append(_any("request.host", counted.hosts))
    if counted.paths:
        parts.append(_any("request.url_path", tuple(_as_matcher(path) for path in counted.paths)))
    if counted.ports:
        parts.append(f"destination.port in [{', '.join(map(str, counted.ports))}]")
    return f"({' && '.join(parts)})" if parts else ""


def _as_matcher(path: StringMatcher | PathTemplate) -> StringMatcher:
    if isinstance(path, StringMatcher):
        return path
    inner = ".*".join("[^/]+".join(map(quote, part.split("{*}"))) for part in path.text.split("{**}"))
    return StringMatcher(MatchKind.REGEX, inner)


def _any(value: str, matchers: tuple[StringMatcher, ...]) -> str:
    return f"({' || '.join(cel.test(value, match) for match in matchers)})"
