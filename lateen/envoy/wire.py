"""Small makers of protobuf values that every module of this room needs.

Comes in: plain Python values. Goes out: wrapped, packed and serialised messages, always in the same bytes for the
same content (maps are sorted), because a resource's version is a hash of its bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

from envoy.config.core.v3 import address_pb2, base_pb2, config_source_pb2, grpc_service_pb2
from envoy.type.matcher.v3 import regex_pb2, string_pb2
from envoy.type.v3 import percent_pb2
from google.protobuf import any_pb2, duration_pb2, struct_pb2, wrappers_pb2

from lateen.envoy.resources import EnvoyResource
from lateen.plan.matching import MatchKind, StringMatcher
from lateen.plan.proxy import Bind
from lateen.values.names import Origin

MILLION = 1_000_000
UNLIMITED = 4_294_967_295
METADATA_NAMESPACE = "lateen"
TOLD = "told"
"""Where that metadata has all names in one text, for metrics."""
FIRST_RETRY = 0.2
LAST_RETRY = 5.0


def serialise(message: Any) -> bytes:
    """The bytes of a message; equal messages give equal bytes."""
    body: bytes = message.SerializeToString(deterministic=True)
    return body


def version_of(body: bytes) -> str:
    """The version of a resource: a hash of what it says, so that equal content is never sent twice."""
    return blake2b(body, digest_size=16).hexdigest()


def resource(
    name: str, message: Any, origin: Origin | None = None, references: Iterable[tuple[str, str]] = ()
) -> EnvoyResource:
    """The message as it is sent, with its version; repeated references are kept once."""
    body = serialise(message)
    return EnvoyResource(name, version_of(body), body, origin, tuple(dict.fromkeys(references)))


def pack(message: Any) -> any_pb2.Any:
    """The message as an ``Any``."""
    return any_pb2.Any(
        type_url=f"type.googleapis.com/{message.DESCRIPTOR.full_name}",
        value=serialise(message),
    )


def duration(seconds: float) -> duration_pb2.Duration:
    """Seconds as Envoy writes them, to the microsecond."""
    whole, micros = divmod(round(seconds * MILLION), MILLION)
    return duration_pb2.Duration(seconds=whole, nanos=micros * 1000)


def uint32(value: int) -> wrappers_pb2.UInt32Value:
    return wrappers_pb2.UInt32Value(value=value)


def uint64(value: int) -> wrappers_pb2.UInt64Value:
    return wrappers_pb2.UInt64Value(value=value)


def boolean(value: bool) -> wrappers_pb2.BoolValue:
    return wrappers_pb2.BoolValue(value=value)


def fraction(percentage: float) -> Any:
    """A percentage (0 to 100) as Envoy's fraction, to a ten-thousandth of a percent."""
    return percent_pb2.FractionalPercent(
        numerator=round(percentage * MILLION / 100), denominator=percent_pb2.FractionalPercent.MILLION
    )


def runtime_fraction(percentage: float) -> Any:
    return base_pb2.RuntimeFractionalPercent(default_value=fraction(percentage))


def socket_address(address: str, port: int, netns: str = "") -> Any:
    """An address as Envoy writes it: ``unix:///path`` becomes a pipe, ``netns`` is a network namespace's file."""
    if address.startswith("unix://"):
        return address_pb2.Address(pipe=address_pb2.Pipe(path=address.removeprefix("unix://")))
    return address_pb2.Address(
        socket_address=address_pb2.SocketAddress(address=address, port_value=port, network_namespace_filepath=netns)
    )


def source_binding(source: Bind) -> Any:
    """Where connections leave from; without an address, from wherever the machine would."""
    if not source.address:
        return address_pb2.BindConfig()
    return address_pb2.BindConfig(
        source_address=address_pb2.SocketAddress(
            address=source.address, port_value=source.port, network_namespace_filepath=source.netns
        )
    )


def cidr_range(cidr: str) -> Any:
    """``10.0.0.0/8`` as Envoy writes it; an address alone is a block of one."""
    address, _, length = cidr.partition("/")
    whole = 128 if ":" in address else 32
    return address_pb2.CidrRange(address_prefix=address, prefix_len=uint32(int(length) if length else whole))


def text_struct(entries: Iterable[tuple[str, str]]) -> struct_pb2.Struct:
    return struct_pb2.Struct(fields={name: struct_pb2.Value(string_value=value) for name, value in entries})


def string_matcher(match: StringMatcher) -> Any:
    """A condition on one string. PRESENT has no matcher of its own: callers say it in their own terms."""
    fold = match.ignore_case
    if match.kind is MatchKind.EXACT:
        return string_pb2.StringMatcher(exact=match.value, ignore_case=fold)
    if match.kind is MatchKind.PREFIX:
        return string_pb2.StringMatcher(prefix=match.value, ignore_case=fold)
    if match.kind is MatchKind.SUFFIX:
        return string_pb2.StringMatcher(suffix=match.value, ignore_case=fold)
    if match.kind is MatchKind.CONTAINS:
        return string_pb2.StringMatcher(contains=match.value, ignore_case=fold)
    if match.kind is MatchKind.REGEX:
        return string_pb2.StringMatcher(safe_regex=regex(match))
    return string_pb2.StringMatcher(safe_regex=regex_pb2.RegexMatcher(regex=".+"))


def regex(match: StringMatcher) -> Any:
    """The RE2 pattern of a REGEX matcher; Envoy always matches the whole string."""
    pattern = f"(?i:{match.value})" if match.ignore_case else match.value
    return regex_pb2.RegexMatcher(regex=pattern)


def over_ads() -> Any:
    """This resource comes on the control plane's stream.

    No time limit on the first answer: what is asked for warms until it is there, and the last good configuration
    goes on serving meanwhile. A limit would bring up listeners without routes and clusters without endpoints.
    """
    return config_source_pb2.ConfigSource(
        ads=config_source_pb2.AggregatedConfigSource(),
        resource_api_version=config_source_pb2.V3,
        initial_fetch_timeout=duration_pb2.Duration(),
    )


def local_grpc(cluster: str) -> Any:
    """A gRPC server on this machine. A lost stream is tried again for ever, after 0.2 s at first and 5 s at most."""
    again = base_pb2.RetryPolicy()
    again.retry_back_off.base_interval.CopyFrom(duration(FIRST_RETRY))
    again.retry_back_off.max_interval.CopyFrom(duration(LAST_RETRY))
    return grpc_service_pb2.GrpcService(
        envoy_grpc=grpc_service_pb2.GrpcService.EnvoyGrpc(
            cluster_name=cluster, retry_policy=again, skip_envoy_headers=True
        ),
    )


def over_agent(cluster: str) -> Any:
    """This secret comes from the workload's own agent."""
    return config_source_pb2.ConfigSource(
        api_config_source=config_source_pb2.ApiConfigSource(
            api_type=config_source_pb2.ApiConfigSource.GRPC,
            transport_api_version=config_source_pb2.V3,
            grpc_services=[local_grpc(cluster)],
            set_node_on_first_message_only=True,
        ),
        resource_api_version=config_source_pb2.V3,
        initial_fetch_timeout=duration_pb2.Duration(),
    )
