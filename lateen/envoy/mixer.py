"""The filters by which a proxy asks the mixer, and those by which it needs not.

Comes in: ``MixerDenial`` and ``MixerCheck``. Goes out: for requests a filter that refuses by itself, one that looks for
a kept answer and one that asks, all of which the route table switches on; for connections a filter that asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import base_pb2, config_source_pb2, grpc_service_pb2
from envoy.config.rbac.v3 import rbac_pb2
from envoy.data.accesslog.v3.accesslog_pb2 import AccessLogType
from envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2
from envoy.extensions.access_loggers.grpc.v3 import als_pb2 as als_config_pb2
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2
from envoy.extensions.filters.http.lua.v3 import lua_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.network.ext_authz.v3 import ext_authz_pb2 as network_ext_authz_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as manager_pb2
from envoy.type.matcher.v3 import metadata_pb2
from envoy.type.v3 import http_status_pb2

from lateen.envoy import check_cache, wire
from lateen.envoy.access_logs import CEL_FILTER, HTTP_LOGGER, TCP_LOGGER
from lateen.envoy.peer import CALLER_STATE
from lateen.envoy.rbac import principal_of
from lateen.plan.mixer.model import MIXER_CLUSTER, MixerCheck, MixerDenial, MixerReport

DENIAL_FILTER = "envoy.filters.http.rbac.mixer"
RBAC_DETAILS = "rbac_access_denied_matched_policy"
DENIAL = "mixer-"
"""What names of denials begin with."""
NOTES = "lateen_mixer_"
CACHE_FILTER = "envoy.filters.http.lua.check_cache"
CHECK_FILTER = "envoy.filters.http.ext_authz.mixer"
NETWORK_FILTER = "envoy.filters.network.ext_authz"
AWAY_STATUS = 503
REPORT_INTERVAL_S = 1.0
REPORT_BYTES = 65536
CONNECTION_INTERVAL_S = 10.0
"""How often a connection that goes on is reported."""
RETRY_ON = "connect-failure,refused-stream,reset,unavailable"


def denial_rules(denials: Sequence[MixerDenial]) -> Any:
    """What the route table says to the filter that refuses; the first by name counts."""
    policies = {
        denial.name: rbac_pb2.Policy(
            permissions=[rbac_pb2.Permission(any=True)], principals=[principal_of(denial.condition)]
        )
        for denial in denials
    }
    rules = rbac_pb2.RBAC(action=rbac_pb2.RBAC.DENY, policies=policies)
    return http_rbac_pb2.RBACPerRoute(rbac=http_rbac_pb2.RBAC(rules=rules, rules_stat_prefix=NOTES))


def local_replies(denials: Sequence[MixerDenial]) -> list[Any]:
    """The answers to what is refused so, each with its own status and text."""
    found = {denial.reply: denial for denial in denials}
    return [_reply(denial) for _, denial in sorted(found.items())]


def _reply(denial: MixerDenial) -> Any:
    matched = f"{RBAC_DETAILS}[{DENIAL}{denial.reply}:"
    wanted = cel_pb2.ExpressionFilter(expression=f"response.code_details.startsWith('{matched}')")
    mapper = manager_pb2.ResponseMapper(
        filter=accesslog_pb2.AccessLogFilter(
            extension_filter=accesslog_pb2.ExtensionFilter(name=CEL_FILTER, typed_config=wire.pack(wanted))
        ),
        body=base_pb2.DataSource(inline_string=denial.body),
    )
    mapper.status_code.value = denial.status
    return mapper


def report_loggers(report: MixerReport | None) -> list[Any]:
    """What tells the mixer of requests that are over, in batches."""
    if report is None:
        return []
    config = als_config_pb2.HttpGrpcAccessLogConfig(
        common_config=_reporting(report),
        additional_request_headers_to_log=report.request_headers,
        additional_response_headers_to_log=report.response_headers,
        additional_response_trailers_to_log=["grpc-status", "grpc-message"],
    )
    return [accesslog_pb2.AccessLog(name=HTTP_LOGGER, typed_config=wire.pack(config))]


def connection_loggers(report: MixerReport | None) -> list[Any]:
    """What tells the mixer of connections, as they open, again and again while they go on, and once they are over."""
    if report is None:
        return []
    config = als_config_pb2.TcpGrpcAccessLogConfig(common_config=_reporting(report))
    kinds = (AccessLogType.TcpUpstreamConnected, AccessLogType.TcpPeriodic, AccessLogType.TcpConnectionEnd)
    types = accesslog_pb2.LogTypeFilter(types=kinds)
    wanted = accesslog_pb2.AccessLogFilter(log_type_filter=types)
    return [accesslog_pb2.AccessLog(name=TCP_LOGGER, filter=wanted, typed_config=wire.pack(config))]


def _reporting(report: MixerReport) -> Any:
    service = grpc_service_pb2.GrpcService(timeout=wire.duration(5))
    service.envoy_grpc.cluster_name = MIXER_CLUSTER
    common = als_config_pb2.CommonGrpcAccessLogConfig(
        log_name=f"{report.proxy}|{report.port}",
        grpc_service=service,
        transport_api_version=config_source_pb2.V3,
        buffer_flush_interval=wire.duration(REPORT_INTERVAL_S),
        filter_state_objects_to_log=[CALLER_STATE],
    )
    common.buffer_size_bytes.value = REPORT_BYTES
    return common


def cache_filter() -> Any:
    """Looks for a kept answer, and keeps those that come."""
    return lua_pb2.Lua(default_source_code=base_pb2.DataSource(inline_string=check_cache.SOURCE))


def check_filter(check: MixerCheck) -> Any:
    """Asks where no kept answer was found."""
    return ext_authz_pb2.ExtAuthz(
        transport_api_version=config_source_pb2.V3,
        grpc_service=_mixer(check),
        failure_mode_allow=check.fail_open,
        status_on_error=http_status_pb2.HttpStatus(code=AWAY_STATUS),
        filter_enabled_metadata=_where_asked(),
        metadata_context_namespaces=[check_cache.NOTES, check_cache.TOKENS],
    )


def by_route(check: MixerCheck) -> dict[str, Any]:
    """What the route table says to these filters: which rules hold, where the request is, and what it does itself.

    Answers that were kept before it did as much have operations of rules that would be done twice; those of when it did
    more were given without a charge that is the mixer's again.
    """
    counted = (f"counted:{name}" for name in check.counted)
    generation = wire.text_struct((("generation", " ".join((check.generation, *check.changed, *counted))),))
    asking = ext_authz_pb2.ExtAuthzPerRoute()
    for name, value in (*place(check), ("changed", ",".join(check.changed)), ("counted", ",".join(check.counted))):
        asking.check_settings.context_extensions[name] = value
    return {CACHE_FILTER: lua_pb2.LuaPerRoute(filter_context=generation), CHECK_FILTER: asking}


def place(check: MixerCheck) -> tuple[tuple[str, str], ...]:
    """How the mixer is told which constant attributes hold for a request."""
    return (("port", str(check.port)), ("proxy", check.proxy))


def network_filter(check: MixerCheck) -> Any:
    """Asks about a connection, once its first bytes are there."""
    return network_ext_authz_pb2.ExtAuthz(
        stat_prefix="mixer.",
        transport_api_version=config_source_pb2.V3,
        failure_mode_allow=check.fail_open,
        grpc_service=_mixer(check),
        bootstrap_metadata_labels_key="",
    )


def _mixer(check: MixerCheck) -> Any:
    service = grpc_service_pb2.GrpcService(timeout=wire.duration(check.timeout))
    service.envoy_grpc.cluster_name = MIXER_CLUSTER
    service.envoy_grpc.authority = "mixer"
    for name, value in place(check):
        service.initial_metadata.add(key=f"lateen-{name}", value=value)
    if check.retries:
        service.initial_metadata.add(key="lateen-asked", value="%UNIQUE_ID%")
        least, most = check.waits
        service.retry_policy.retry_on = RETRY_ON
        service.retry_policy.num_retries.value = check.retries
        service.retry_policy.retry_back_off.base_interval.CopyFrom(wire.duration(least))
        service.retry_policy.retry_back_off.max_interval.CopyFrom(wire.duration(most))
    return service


def _where_asked() -> Any:
    message = metadata_pb2.MetadataMatcher(filter=check_cache.NOTES)
    message.path.add(key=check_cache.ASK)
    message.value.present_match = True
    return message
