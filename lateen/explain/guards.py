"""What the filters that guard a chain make of a request: RBAC and tokens, as Envoy is configured.

Comes in: messages of Envoy's filters and ``Facts``. Goes out: which rules refuse. Nothing is known here of where the
messages came from, so that what the walk says can be held against the rules as they were planned.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from envoy.config.rbac.v3 import rbac_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_pb2
from envoy.extensions.path.match.uri_template.v3 import uri_template_match_pb2

from lateen.explain.access import template_holds
from lateen.explain.facts import Facts
from lateen.explain.routes import header_matches, text_matches

_Action = rbac_pb2.RBAC


class Guarded(msgspec.Struct, frozen=True):
    """What one filter's rules say: whether the request goes on, and the name of the policy that matched, if any did."""

    passes: bool
    policy: str = ""


Guard = tuple[str, Any]
"""The name of a filter and the rules that it enforces."""


def http_guards(manager: Any, table: Any) -> Iterator[Guard]:
    """The filters of a connection manager that enforce rules, in order; a route table may say which."""
    for found in manager.http_filters:
        if not found.typed_config.Is(http_rbac_pb2.RBAC.DESCRIPTOR):
            continue
        config = None if found.disabled else http_rbac_pb2.RBAC.FromString(found.typed_config.value)
        if found.name in table.typed_per_filter_config:
            own = table.typed_per_filter_config[found.name]
            config = http_rbac_pb2.RBACPerRoute.FromString(own.value).rbac
        if config is not None and config.HasField("rules"):
            yield found.name, config.rules


def network_guards(filters: Iterable[Any]) -> Iterator[Guard]:
    """The network filters of a chain that enforce rules, in order."""
    for found in filters:
        if found.typed_config.Is(network_rbac_pb2.RBAC.DESCRIPTOR):
            config = network_rbac_pb2.RBAC.FromString(found.typed_config.value)
            if config.HasField("rules"):
                yield found.name, config.rules


def guard(rules: Any, facts: Facts) -> Guarded:
    """Judge by a set of rules: an ``RBAC`` message of a filter's ``rules`` or ``shadow_rules``."""
    matched = next((name for name in sorted(rules.policies) if _policy(rules.policies[name], facts)), "")
    if rules.action == _Action.ALLOW:
        return Guarded(bool(matched), matched)
    return Guarded(rules.action == _Action.LOG or not matched, matched)


def _policy(policy: Any, facts: Facts) -> bool:
    """Whether a policy matches; one with a condition is for connections from before a change alone."""
    if policy.HasField("condition"):
        return False
    return any(_holds(rule, facts) for rule in policy.permissions) and any(
        _holds(id_, facts) for id_ in policy.principals
    )


def _holds(message: Any, facts: Facts) -> bool:
    """A permission or a principal: both have most of their kinds in common."""
    kind = message.WhichOneof("rule" if isinstance(message, rbac_pb2.Permission) else "identifier")
    value = getattr(message, kind)
    match kind:
        case "any":
            return True
        case "and_rules" | "or_rules":
            return (all if kind == "and_rules" else any)(_holds(one, facts) for one in value.rules)
        case "and_ids" | "or_ids":
            return (all if kind == "and_ids" else any)(_holds(one, facts) for one in value.ids)
        case "not_rule" | "not_id":
            return not _holds(value, facts)
        case "authenticated":
            return bool(facts.identity) and text_matches(value.principal_name, facts.identity)
        case "direct_remote_ip" | "remote_ip" | "destination_ip":
            address = {"direct_remote_ip": facts.source, "remote_ip": facts.remote}.get(kind, facts.address)
            return _lies_in(address, value)
        case "destination_port":
            return bool(facts.port == value)
        case "requested_server_name":
            return text_matches(value, facts.server_name)
        case "sourced_metadata":
            return _metadata(value.metadata_matcher, facts)
        case "header":
            return facts.request is not None and _header(value, facts)
        case "url_path":
            return facts.request is not None and text_matches(value.path, facts.request.path)
        case "uri_template":
            template = uri_template_match_pb2.UriTemplateMatchConfig.FromString(value.typed_config.value)
            return facts.request is not None and template_holds(template.path_template, facts.request.path)
    raise ValueError(f"rules of kind {kind} are not made here")


def _header(found: Any, facts: Facts) -> bool:
    """Rules look at each value of a header by itself, where routes look at all of them joined."""
    values = facts.header(found.name)
    return any(header_matches(found, {found.name: value}) for value in values) if values else header_matches(found, {})


def _metadata(matcher: Any, facts: Facts) -> bool:
    value = facts.metadata(matcher.filter, (step.key for step in matcher.path))
    return bool(_value(matcher.value, value) != matcher.invert)


def _value(matcher: Any, value: Any) -> bool:
    kind = matcher.WhichOneof("match_pattern")
    if kind == "string_match":
        return isinstance(value, str) and text_matches(matcher.string_match, value)
    if kind == "list_match":
        entries = value if isinstance(value, list | tuple) else ()
        return any(_value(matcher.list_match.one_of, entry) for entry in entries)
    if kind == "or_match":
        return any(_value(one, value) for one in matcher.or_match.value_matchers)
    return bool(kind == "present_match" and value is not None)


def _lies_in(address: str, block: Any) -> bool:
    network = ipaddress.ip_network(f"{block.address_prefix}/{block.prefix_len.value}", strict=False)
    found = ipaddress.ip_address(address)
    return found.version == network.version and found in network
