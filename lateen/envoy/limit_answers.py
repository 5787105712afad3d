"""What refusals by limits look like: headers, and the connection manager's part of the answer.

Comes in: ``LimitRule`` values. Goes out: headers, and mappers of answers that the proxy itself gives. A mapper knows a
refusal by the header with the rule's name. It stands in the listener: a change of it holds once old connections have
drained.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from lateen.envoy import wire
from lateen.plan.limits.model import LimitRule

REFUSED_BY = "x-lateen-rate-limit"
DEFAULT_STATUS = 429

_EXPRESSION = "envoy.access_loggers.extension_filters.cel"
_OVERWRITE = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


def refusal_headers(rule: LimitRule, *, left: bool = True) -> tuple[tuple[str, str], ...]:
    """What a refusal is told with, beside status and body; ``left``: what is left, where Envoy does not say it."""
    least = min(charge.amount for charge in rule.charged)
    wait = str(max(1, math.ceil(least * rule.interval / rule.requests)))
    state = (("x-ratelimit-limit", str(rule.burst)), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", wait))
    return ((REFUSED_BY, rule.name), ("retry-after", wait), *(state if left else ()), *rule.headers)


def options(headers: Iterable[tuple[str, str]]) -> list[Any]:
    """Sets headers to texts, every character of which stands for itself."""
    return [
        base_pb2.HeaderValueOption(
            header=base_pb2.HeaderValue(key=name, value=value.replace("%", "%%")), append_action=_OVERWRITE
        )
        for name, value in headers
    ]


def mappers(rules: Sequence[LimitRule]) -> list[Any]:
    """For each rule what its own filter does not say: the body; of shared ones, status and headers too."""
    return [_mapper(rule) for rule in rules if not rule.on_trial and (rule.body or _is_special(rule))]


def _is_special(rule: LimitRule) -> bool:
    return rule.shared and (rule.status != DEFAULT_STATUS or bool(rule.headers))


def _mapper(rule: LimitRule) -> Any:
    header, name = json.dumps(REFUSED_BY), json.dumps(rule.name)
    refused = cel_pb2.ExpressionFilter(
        expression=f"{header} in response.headers && response.headers[{header}] == {name}"
    )
    mapper = http_connection_manager_pb2.ResponseMapper()
    mapper.filter.extension_filter.name = _EXPRESSION
    mapper.filter.extension_filter.typed_config.CopyFrom(wire.pack(refused))
    if rule.shared:
        mapper.status_code.value = rule.status
        mapper.headers_to_add.extend(options(rule.headers))
    if rule.body:
        mapper.body.inline_string = rule.body
        kind = dict(rule.headers).get("content-type")
        if kind:
            mapper.body_format_override.text_format_source.inline_string = "%LOCAL_REPLY_BODY%"
            mapper.body_format_override.content_type = kind
    return mapper
