"""The adapters that handlers may name: their parameters, the templates that they take, and which of them run.

``ADAPTERS`` is the one table of them. Defaults are the old adapters' own.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from lateen.resources.base import Duration, Spec, Uint32, numbered

ALL_TEMPLATES = frozenset(
    {
        "apikey",
        "authorization",
        "checknothing",
        "edge",
        "kubernetes",
        "listentry",
        "logentry",
        "metric",
        "quota",
        "reportnothing",
        "tracespan",
    }
)


EntryType = Annotated[
    Literal["STRINGS", "CASE_INSENSITIVE_STRINGS", "IP_ADDRESSES", "REGEX"],
    numbered("STRINGS", "CASE_INSENSITIVE_STRINGS", "IP_ADDRESSES", "REGEX"),
]
Algorithm = Annotated[Literal["FIXED_WINDOW", "ROLLING_WINDOW"], numbered("FIXED_WINDOW", "ROLLING_WINDOW")]
LogStream = Annotated[
    Literal["STDOUT", "STDERR", "FILE", "ROTATED_FILE"], numbered("STDOUT", "STDERR", "FILE", "ROTATED_FILE")
]
Level = Annotated[Literal["INFO", "WARNING", "ERROR"], numbered("INFO", "WARNING", "ERROR")]
MetricType = Annotated[
    Literal["COUNTER", "GAUGE", "DISTRIBUTION"], numbered("COUNTER", "GAUGE", "DISTRIBUTION", first=1)
]
MetricKind = Annotated[
    Literal["GAUGE", "COUNTER", "DISTRIBUTION"], numbered("GAUGE", "COUNTER", "DISTRIBUTION", first=1)
]


class Status(Spec, frozen=True):
    """google.rpc.Status."""

    code: int = 0
    message: str = ""


class DenierParams(Spec, frozen=True):
    status: Status | None = None
    valid_duration: Duration | None = None
    valid_use_count: int | None = None


class ListcheckerParams(Spec, frozen=True):
    provider_url: str = ""
    refresh_interval: Duration | None = None
    ttl: Duration | None = None
    caching_interval: Duration | None = None
    caching_use_count: int | None = None
    overrides: tuple[str, ...] = ()
    entry_type: EntryType | None = None
    blacklist: bool = False


NEEDS_ABSENT = "the instance needs an attribute that is absent"
"""What is said against a request that an instance cannot be made of."""
LISTED = "the value is in the list"
NOT_LISTED = "the value is not in the list"


class NoopParams(Spec, frozen=True):
    """None."""


class OpaParams(Spec, frozen=True):
    """``policy`` is rego, which is loaded into the OPA that answers at ``url``."""

    policy: tuple[str, ...] = ()
    check_method: str = ""
    fail_close: bool = False
    url: str = ""


class QuotaOverride(Spec, frozen=True):
    dimensions: dict[str, str] = {}
    max_amount: int = 0
    valid_duration: Duration | None = None


class MemquotaLimit(Spec, frozen=True):
    name: str = ""
    max_amount: int = 0
    valid_duration: Duration | None = None
    overrides: tuple[QuotaOverride, ...] = ()


class MemquotaParams(Spec, frozen=True):
    quotas: tuple[MemquotaLimit, ...] = ()
    min_deduplication_duration: Duration | None = None


class RedisquotaLimit(Spec, frozen=True):
    name: str = ""
    max_amount: int = 0
    valid_duration: Duration | None = None
    bucket_duration: Duration | None = None
    rate_limit_algorithm: Algorithm | None = None
    overrides: tuple[QuotaOverride, ...] = ()


class RedisquotaParams(Spec, frozen=True):
    quotas: tuple[RedisquotaLimit, ...] = ()
    redis_server_url: str = ""
    connection_pool_size: Uint32 | None = None


class StdioParams(Spec, frozen=True):
    log_stream: LogStream | None = None
    severity_levels: dict[str, Level] = {}
    metric_level: Level | None = None
    output_as_json: bool = False
    output_level: Level | None = None
    output_path: str = ""
    max_megabytes_before_rotation: Uint32 | None = None
    max_days_before_rotation: Uint32 | None = None
    max_rotated_files: Uint32 | None = None


class StatsdMetricParams(Spec, frozen=True):
    type: MetricType | None = None
    name_template: str = ""


class StatsdParams(Spec, frozen=True):
    address: str = ""
    prefix: str = ""
    flush_duration: Duration | None = None
    flush_bytes: Uint32 | None = None
    sampling_rate: float | None = None
    metrics: dict[str, StatsdMetricParams] = {}


class DogstatsdMetricParams(Spec, frozen=True):
    name: str = ""
    type: MetricType | None = None
    tags: dict[str, str] = {}


class DogstatsdParams(Spec, frozen=True):
    address: str = ""
    prefix: str | None = None
    buffer_length: Uint32 = 0
    global_tags: dict[str, str] = {}
    sample_rate: float | None = None
    metrics: dict[str, DogstatsdMetricParams] = {}


class FluentdParams(Spec, frozen=True):
    address: str = ""
    integer_duration: bool = False
    instance_buffer_size: Uint32 | None = None
    max_batch_size_bytes: Uint32 | None = None
    push_interval_duration: Duration | None = None
    push_timeout_duration: Duration | None = None


class LinearBuckets(Spec, frozen=True):
    num_finite_buckets: Uint32 = 0
    width: float = 0.0
    offset: float = 0.0


class ExponentialBuckets(Spec, frozen=True):
    num_finite_buckets: Uint32 = 0
    growth_factor: float = 0.0
    scale: float = 0.0


class ExplicitBuckets(Spec, frozen=True):
    bounds: tuple[float, ...] = ()


class Buckets(Spec, frozen=True):
    """One of the three."""

    linear_buckets: LinearBuckets | None = None
    exponential_buckets: ExponentialBuckets | None = None
    explicit_buckets: ExplicitBuckets | None = None


class PrometheusMetric(Spec, frozen=True):
    kind: MetricKind
    namespace: str = ""
    name: str = ""
    instance_name: str = ""
    description: str = ""
    buckets: Buckets | None = None
    label_names: tuple[str, ...] = ()


class ExpirationPolicy(Spec, frozen=True):
    metrics_expiry_duration: Duration | None = None
    expiry_check_interval_duration: Duration | None = None


class PrometheusParams(Spec, frozen=True):
    metrics: tuple[PrometheusMetric, ...] = ()
    metrics_expiration_policy: ExpirationPolicy | None = None


class ZipkinParams(Spec, frozen=True):
    url: str = ""
    sample_probability: float = 0.0


class OpenTelemetryParams(Spec, frozen=True):
    """Lateen's own. ``url`` is http://, https://, grpc:// or grpcs://, and the collector's address."""

    url: str = ""
    headers: dict[str, str] = {}
    resource_attributes: dict[str, str] = {}
    push_interval: Duration | None = None
    sample_probability: float | None = None
    metrics: tuple[PrometheusMetric, ...] = ()
    metrics_expiration_policy: ExpirationPolicy | None = None


class BypassParams(Spec, frozen=True):
    """An adapter outside Mixer, by its address alone."""

    backend_address: str = ""
    params: dict[str, Any] | None = None
    session_based: bool = False


class RbacParams(Spec, frozen=True):
    """Roles are those that the mesh has."""

    config_store_url: str = ""
    cache_duration: Duration | None = None


NO_ROLE = "no role allows it"
"""What ``rbac`` says against a request."""


class KubernetesenvParams(Spec, frozen=True):
    """What is known of workloads, the mesh knows: none of them has an effect here."""

    kubeconfig_path: str = ""
    cache_refresh_duration: Duration | None = None
    cluster_registries_namespace: str = ""


class UnreadParams(msgspec.Struct, frozen=True):
    """Of an adapter that Lateen does not have."""


class AdapterKind(msgspec.Struct, frozen=True):
    """One adapter. ``params`` None: Lateen does not have it, and ``remedy`` says what does its job.

    ``required``: parameters that have to be given.
    """

    name: str
    params: type[Spec] | None
    templates: frozenset[str]
    remedy: str = ""
    required: frozenset[str] = frozenset()


_OUTSIDE = "run it outside (a resource of kind adapter, and a handler with connection), or use opentelemetry"
_COLLECTED = "use opentelemetry, with a collector that sends there, or scrape /metrics"


def _gone(name: str, remedy: str) -> AdapterKind:
    return AdapterKind(name, None, ALL_TEMPLATES, remedy)


ADAPTERS: dict[str, AdapterKind] = {
    kind.name: kind
    for kind in (
        AdapterKind("denier", DenierParams, frozenset({"checknothing", "listentry", "quota"})),
        AdapterKind("listchecker", ListcheckerParams, frozenset({"listentry"})),
        AdapterKind("noop", NoopParams, ALL_TEMPLATES),
        AdapterKind("opa", OpaParams, frozenset({"authorization"})),
        AdapterKind("rbac", RbacParams, frozenset({"authorization"})),
        AdapterKind("prometheus", PrometheusParams, frozenset({"metric"})),
        AdapterKind("stdio", StdioParams, frozenset({"logentry", "metric"})),
        AdapterKind("statsd", StatsdParams, frozenset({"metric"})),
        AdapterKind("dogstatsd", DogstatsdParams, frozenset({"metric"})),
        AdapterKind("fluentd", FluentdParams, frozenset({"logentry"})),
        AdapterKind("zipkin", ZipkinParams, frozenset({"tracespan"})),
        AdapterKind("opentelemetry", OpenTelemetryParams, frozenset({"logentry", "metric", "tracespan"})),
        AdapterKind("kubernetesenv", KubernetesenvParams, frozenset({"kubernetes"})),
        AdapterKind("memquota", MemquotaParams, frozenset({"quota"})),
        AdapterKind("redisquota", RedisquotaParams, frozenset({"quota"})),
        AdapterKind("bypass", BypassParams, ALL_TEMPLATES - {"kubernetes"}),
        _gone("stackdriver", _COLLECTED),
        _gone("cloudwatch", _COLLECTED),
        _gone("circonus", _COLLECTED),
        _gone("solarwinds", _COLLECTED),
        _gone("signalfx", _COLLECTED),
        _gone("servicecontrol", "use an HTTPAPISpec with a listchecker of keys, memquota, and opentelemetry"),
        _gone("newrelic", _OUTSIDE),
        _gone("apigee", "run it outside: a resource of kind adapter, and a handler with connection"),
        _gone("wavefront", _OUTSIDE),
    )
}
OTHER_NAMES = {"list": "listchecker"}
"""Names that handlers of some versions used."""


OWN: dict[str, AdapterKind] = {}
"""Those that are installed beside Lateen, as this process knows them (``lateen.resources.mixer.own``)."""


def adapter_named(name: str) -> AdapterKind | None:
    """The adapter that ``compiledAdapter`` (or ``adapter``) names; None if nobody knows it."""
    return ADAPTERS.get(OTHER_NAMES.get(name, name)) or OWN.get(name)
