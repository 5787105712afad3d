"""What routes do: forward, redirect, or answer at once.

Comes in: ``Forward``, ``Redirect``, ``DirectResponse``. Goes out: Envoy's route actions. The timeout is always written
out, 0 included: unset would be Envoy's 15 s. Where there is one, a shorter ``grpc-timeout`` of a gRPC client holds, and
the server is told of the shorter of both. Envoy calls that option deprecated, but the newer one turns ``timeout`` off.
"""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.extensions.retry.priority.previous_priorities.v3 import previous_priorities_config_pb2
from envoy.type.matcher.v3 import regex_pb2

from lateen.envoy import wire
from lateen.plan.hashing import HashOnCookie, HashOnHeader, HashOnQuery, HashPolicy
from lateen.plan.routes import (
    DirectResponse,
    Forward,
    HeaderOps,
    Mirror,
    PrefixRewrite,
    Redirect,
    RegexRewrite,
    RetryPolicy,
    WeightedCluster,
)

HOST_SELECTION_ATTEMPTS = 5
PRIORITY_UPDATE_FREQUENCY = 2

_Action = route_components_pb2.RouteAction
_Redirect = route_components_pb2.RedirectAction
_CODES = {
    301: _Redirect.MOVED_PERMANENTLY,
    302: _Redirect.FOUND,
    303: _Redirect.SEE_OTHER,
    307: _Redirect.TEMPORARY_REDIRECT,
    308: _Redirect.PERMANENT_REDIRECT,
}


def forward(action: Forward) -> Any:
    """The action that sends a request on. A single destination's header changes are left to its route."""
    message = _Action(timeout=wire.duration(action.timeout))
    if action.timeout:
        message.max_grpc_timeout.CopyFrom(message.timeout)
    if len(action.clusters) == 1:
        message.cluster = action.clusters[0].cluster
    else:
        message.weighted_clusters.clusters.extend(_weighted(target) for target in action.clusters)
    rewrite = action.path_rewrite
    if isinstance(rewrite, PrefixRewrite):
        message.prefix_rewrite = rewrite.value
    elif isinstance(rewrite, RegexRewrite):
        message.regex_rewrite.pattern.CopyFrom(regex_pb2.RegexMatcher(regex=rewrite.pattern))
        message.regex_rewrite.substitution = rewrite.substitution
    single = action.clusters[0].host_rewrite if len(action.clusters) == 1 else ""
    if single or action.host_rewrite:
        message.host_rewrite_literal = single or action.host_rewrite
    if action.retry is not None and action.retry.attempts > 0:
        message.retry_policy.CopyFrom(_retries(action.retry))
    message.request_mirror_policies.extend(_mirror(mirror) for mirror in action.mirrors)
    message.hash_policy.extend(_hash(policy) for policy in action.hash_policies)
    return message


def _weighted(target: WeightedCluster) -> Any:
    message = route_components_pb2.WeightedCluster.ClusterWeight(
        name=target.cluster,
        weight=wire.uint32(target.weight),
        request_headers_to_add=header_options(target.request_headers),
        request_headers_to_remove=target.request_headers.remove,
        response_headers_to_add=header_options(target.response_headers),
        response_headers_to_remove=target.response_headers.remove,
    )
    if target.host_rewrite:
        message.host_rewrite_literal = target.host_rewrite
    return message


def header_options(operations: HeaderOps) -> list[Any]:
    """Headers to set and to add, in that order."""
    option = base_pb2.HeaderValueOption
    return [
        option(header=base_pb2.HeaderValue(key=name, value=value), append_action=action)
        for action, entries in (
            (option.OVERWRITE_IF_EXISTS_OR_ADD, operations.set),
            (option.APPEND_IF_EXISTS_OR_ADD, operations.add),
        )
        for name, value in entries
    ]


def _retries(retry: RetryPolicy) -> Any:
    policy = route_components_pb2.RetryPolicy(
        retry_on=",".join(retry.retry_on),
        num_retries=wire.uint32(retry.attempts),
        retriable_status_codes=retry.retriable_status_codes,
        host_selection_retry_max_attempts=HOST_SELECTION_ATTEMPTS,
    )
    if retry.per_try_timeout is not None:
        policy.per_try_timeout.CopyFrom(wire.duration(retry.per_try_timeout))
    if retry.backoff is not None:
        policy.retry_back_off.base_interval.CopyFrom(wire.duration(retry.backoff))
    if retry.avoid_previous_hosts:
        policy.retry_host_predicate.add(
            name="envoy.retry_host_predicates.previous_hosts",
            typed_config=wire.pack(previous_hosts_pb2.PreviousHostsPredicate()),
        )
    if retry.previous_priorities:
        config = previous_priorities_config_pb2.PreviousPrioritiesConfig(update_frequency=PRIORITY_UPDATE_FREQUENCY)
        policy.retry_priority.name = "envoy.retry_priorities.previous_priorities"
        policy.retry_priority.typed_config.CopyFrom(wire.pack(config))
    return policy


def _mirror(mirror: Mirror) -> Any:
    return _Action.RequestMirrorPolicy(
        cluster=mirror.cluster,
        runtime_fraction=wire.runtime_fraction(mirror.percentage),
        trace_sampled=wire.boolean(False),
        disable_shadow_host_suffix_append=True,
    )


def _hash(policy: HashPolicy) -> Any:
    message = _Action.HashPolicy()
    if isinstance(policy, HashOnHeader):
        message.header.header_name = policy.name
    elif isinstance(policy, HashOnCookie):
        message.cookie.name = policy.name
        message.cookie.path = policy.path
        if policy.ttl is not None:
            message.cookie.ttl.CopyFrom(wire.duration(policy.ttl))
        for name, value in policy.attributes:
            message.cookie.attributes.add(name=name, value=value)
    elif isinstance(policy, HashOnQuery):
        message.query_parameter.name = policy.name
    else:
        message.connection_properties.source_ip = True
    return message


def redirect(action: Redirect) -> Any:
    """Raises ValueError for a status code that is no redirect of Envoy's."""
    if action.code not in _CODES:
        raise ValueError(f"no redirect with status {action.code}")
    message = _Redirect(
        response_code=_CODES[action.code],
        host_redirect=action.authority,
        port_redirect=action.port or 0,
    )
    if action.scheme:
        message.scheme_redirect = action.scheme
    if action.path:
        message.path_redirect = action.path
    elif action.prefix:
        message.prefix_rewrite = action.prefix
    return message


def direct_response(action: DirectResponse) -> Any:
    message = route_components_pb2.DirectResponseAction(status=action.status)
    if action.body:
        message.body.inline_bytes = action.body
    return message
