"""Parameters of Mixer's adapters: what each of them cannot take."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import msgspec
import re2

from lateen.expressions.functions import Unusable, compile_pattern, to_ip
from lateen.resources.base import Spec
from lateen.resources.checks import Report
from lateen.resources.checks.mixer_outside import NO_SESSIONS, check_target
from lateen.resources.mixer.adapters import (
    Buckets,
    BypassParams,
    DenierParams,
    DogstatsdParams,
    ExplicitBuckets,
    ExponentialBuckets,
    FluentdParams,
    KubernetesenvParams,
    LinearBuckets,
    ListcheckerParams,
    MemquotaLimit,
    MemquotaParams,
    OpaParams,
    OpenTelemetryParams,
    PrometheusParams,
    RbacParams,
    RedisquotaLimit,
    RedisquotaParams,
    StatsdParams,
    StdioParams,
    ZipkinParams,
)
from lateen.values.network import is_header_name, split_host_port
from lateen.values.prometheus_label import as_label, label_problem
from lateen.values.web_address import url_problem

HIGHEST_CODE = 16
LONGEST_DATAGRAM = 65_507
_PLACEHOLDER = re2.compile(r"\{\{\s*\.[A-Za-z0-9_]+\s*\}\}")
MOST_BUCKETS = 200


def _denier(report: Report, place: str, params: DenierParams) -> None:
    if params.status is not None and not 0 <= params.status.code <= HIGHEST_CODE:
        message = f"{params.status.code} is no code of google.rpc.Code"
        report.error(f"{place}.status.code", message, f"write a number up to {HIGHEST_CODE}")
    _check_cached(report, place, params.valid_duration, params.valid_use_count, ("validDuration", "validUseCount"))


def _check_cached(report: Report, place: str, valid: float | None, uses: int | None, names: tuple[str, str]) -> None:
    if valid is not None and valid < 0:
        report.error(f"{place}.{names[0]}", "the duration is below 0", "write 0s to keep nothing")
    if uses is not None and uses < 0:
        report.error(f"{place}.{names[1]}", "the count is below 0", "write 0 for the default")


def _listchecker(report: Report, place: str, params: ListcheckerParams) -> None:
    if params.provider_url:
        problem = url_problem(params.provider_url)
        if problem:
            report.error(f"{place}.providerUrl", f"{params.provider_url[:100]!r} {problem}", "write https://...")
    for field, written in (("refresh_interval", "refreshInterval"), ("ttl", "ttl")):
        length = getattr(params, field)
        if length is not None and length < 1:
            report.error(f"{place}.{written}", "it is shorter than a second", "write 1s or more")
    _check_cached(
        report, place, params.caching_interval, params.caching_use_count, ("cachingInterval", "cachingUseCount")
    )
    judge = _ENTRIES.get(params.entry_type or "STRINGS")
    if judge is None:
        return
    for index, entry in enumerate(params.overrides):
        try:
            judge(entry)
        except Unusable as problem:
            report.error(f"{place}.overrides[{index}]", str(problem), "correct it")


def _block(text: str) -> object:
    address, slash, length = text.partition("/")
    found = to_ip(address)
    if slash and not (length.isdigit() and int(length) <= found.max_prefixlen):
        raise Unusable(f"{text!r} is no block of addresses")
    return found


_ENTRIES: dict[str, Callable[[str], object]] = {"IP_ADDRESSES": _block, "REGEX": compile_pattern}


def _opa(report: Report, place: str, params: OpaParams) -> None:
    for index, text in enumerate(params.policy):
        if not text.strip():
            report.error(f"{place}.policy[{index}]", "the policy is empty", "leave it out")
    if not params.check_method.startswith("data."):
        report.error(f"{place}.checkMethod", "no rule is named", "write data.PACKAGE.RULE", "missing-field")
    problem = url_problem(params.url) if params.url else "is missing"
    if problem:
        report.error(f"{place}.url", f"the address of OPA {problem}", "write http://127.0.0.1:8181")


def _stdio(report: Report, place: str, params: StdioParams) -> None:
    to_file = params.log_stream in ("FILE", "ROTATED_FILE")
    if to_file is not bool(params.output_path):
        message = "outputPath and a logStream of FILE or ROTATED_FILE belong together"
        report.error(f"{place}.outputPath", message, "give both, or neither")
    elif to_file and not params.output_path.startswith("/"):
        report.error(f"{place}.outputPath", f"{params.output_path!r} is no absolute path", "write /path/to/file")


def _to_address(report: Report, place: str, params: StatsdParams | DogstatsdParams | FluentdParams) -> None:
    port = params.address.rpartition(":")[2]
    if params.address and not (":" in params.address and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        report.error(f"{place}.address", f"{params.address!r} is not HOST:PORT", "write localhost:8125")
    if isinstance(params, StatsdParams):
        for name, metric in params.metrics.items():
            if "{{" in _PLACEHOLDER.sub("", metric.name_template):
                message = "names take {{.DIMENSION}}, and no other actions of templates"
                report.error(f"{place}.metrics.{name}.nameTemplate", message, "write {{.DIMENSION}} alone")
    share = params.sampling_rate if isinstance(params, StatsdParams) else None
    share = params.sample_rate if isinstance(params, DogstatsdParams) else share
    if share is not None and not 0 <= share <= 1:
        report.error(place, f"the share {share} is not between 0 and 1", "write a number such as 0.1")
    elif share == 0:
        report.warn(place, "the share is 0, so nothing is sent", "write 1, or a share such as 0.1")
    for name, written in (
        ("flush_duration", "flushDuration"),
        ("push_interval_duration", "pushIntervalDuration"),
        ("push_timeout_duration", "pushTimeoutDuration"),
    ):
        length = getattr(params, name, None)
        if length is not None and length < 0:
            report.error(f"{place}.{written}", "the duration is below 0", "write one such as 1s")
    if isinstance(params, StatsdParams) and (params.flush_bytes or 0) > LONGEST_DATAGRAM:
        message = f"no datagram has more than {LONGEST_DATAGRAM} bytes"
        report.error(f"{place}.flushBytes", message, "write 1400, or fewer")


def _prometheus(report: Report, place: str, params: PrometheusParams | OpenTelemetryParams) -> None:
    for index, metric in enumerate(params.metrics):
        field = f"{place}.metrics[{index}]"
        for name, value in (("name", metric.name), ("instanceName", metric.instance_name)):
            if not value:
                report.error(field, f"the metric has no {name}", f"give {name}", "missing-field")
        shapes = metric.buckets
        given = [one for one in _shapes(shapes) if one is not None] if shapes is not None else []
        if shapes is not None and len(given) != 1:
            report.error(f"{field}.buckets", "buckets have one shape", "give linear, exponential or explicit buckets")
        if shapes is not None and metric.kind != "DISTRIBUTION":
            message = f"a {metric.kind} has no buckets, so these have no effect"
            report.warn(f"{field}.buckets", message, "leave them out, or write kind: DISTRIBUTION")
        if any(not _rises(one) for one in given):
            report.error(f"{field}.buckets", "the bounds of buckets do not rise", "give each bound once, in order")
        labels = [as_label(name) for name in metric.label_names]
        if len(set(labels)) < len(labels):
            report.error(f"{field}.labelNames", "two labels have one name for Prometheus", "leave one out")
        taken = ("le",) if metric.kind == "DISTRIBUTION" else ()
        for number, label in enumerate(labels if isinstance(params, PrometheusParams) else ()):
            problem = label_problem(label, taken)
            if problem:
                report.error(f"{field}.labelNames[{number}]", f"{label} {problem}", "give it another name")
        if any(getattr(one, "num_finite_buckets", 0) > MOST_BUCKETS for one in given):
            report.error(f"{field}.buckets", f"there are more than {MOST_BUCKETS} buckets", "give fewer")
    policy = params.metrics_expiration_policy
    if policy is not None and not policy.metrics_expiry_duration:
        report.error(f"{place}.metricsExpirationPolicy", "it says no time", "give metricsExpiryDuration")
    elif policy is not None and policy.metrics_expiry_duration is not None and policy.metrics_expiry_duration < 0:
        field = f"{place}.metricsExpirationPolicy.metricsExpiryDuration"
        report.error(field, "the duration is below 0", "write one such as 10m")
    if policy is not None and policy.expiry_check_interval_duration is not None:
        message = "series are looked through whenever they are sent or scraped, so this has no effect"
        report.warn(f"{place}.metricsExpirationPolicy.expiryCheckIntervalDuration", message, "leave it out")


def _rises(shape: Spec) -> bool:
    if isinstance(shape, LinearBuckets):
        return shape.width > 0
    if isinstance(shape, ExponentialBuckets):
        return shape.growth_factor > 1 and shape.scale > 0
    bounds = shape.bounds if isinstance(shape, ExplicitBuckets) else ()
    return bool(bounds) and all(one < other for one, other in itertools.pairwise(bounds))


def _shapes(said: Buckets) -> tuple[Spec | None, ...]:
    return said.linear_buckets, said.exponential_buckets, said.explicit_buckets


def _bypass(report: Report, place: str, params: BypassParams) -> None:
    if not params.backend_address:
        report.error(place, "no address is given", "give backendAddress", "missing-field")
    else:
        check_target(report, f"{place}.backendAddress", params.backend_address)
    if params.params is not None:
        message = "what type these are, only the descriptor of an adapter says"
        remedy = "write a resource of kind adapter with its config, and a handler with connection"
        report.error(f"{place}.params", message, remedy, "unsupported-field")
    if params.session_based:
        report.error(f"{place}.sessionBased", *NO_SESSIONS, "unsupported-field")


def _kubernetesenv(report: Report, place: str, params: KubernetesenvParams) -> None:
    for field in msgspec.structs.fields(type(params)):
        if getattr(params, field.name) != field.default:
            message = "what is known of workloads, the mesh itself knows, so this has no effect"
            report.warn(f"{place}.{field.encode_name}", message, "leave it out")


def _rbac(report: Report, place: str, params: RbacParams) -> None:
    if params.config_store_url and params.config_store_url.rstrip("/") != "k8s:":
        message = "roles are those of the mesh, wherever this leads"
        report.warn(f"{place}.configStoreUrl", message, "leave it out, and give ServiceRoles to the mesh")
    if params.cache_duration is not None and params.cache_duration < 0:
        report.error(f"{place}.cacheDuration", "the duration is below 0", "write 0s to keep nothing")


def _opentelemetry(report: Report, place: str, params: OpenTelemetryParams) -> None:
    scheme, separator, rest = params.url.partition("://")
    if scheme in ("grpc", "grpcs") and separator:
        problem = "" if split_host_port(rest) is not None else "is not grpc://HOST:PORT"
    else:
        problem = url_problem(params.url) if params.url else ""
    if problem:
        message = f"the address of the collector {problem}"
        report.error(f"{place}.url", message, "write http://HOST:4318 or grpc://HOST:4317")
    for name, value in params.headers.items():
        if not is_header_name(name) or not value.isprintable():
            report.error(f"{place}.headers.{name}", f"{name!r} cannot be sent as a header", "correct it")
    if params.push_interval is not None and params.push_interval < 1:
        report.error(f"{place}.pushInterval", "it is shorter than a second", "write 1s or more")
    share = params.sample_probability
    if share is not None and not 0 <= share <= 1:
        report.error(f"{place}.sampleProbability", f"{share} is not between 0 and 1", "write 1")
    _prometheus(report, place, params)


def _zipkin(report: Report, place: str, params: ZipkinParams) -> None:
    problem = url_problem(params.url) if params.url else "is missing"
    if problem:
        report.error(f"{place}.url", f"the address of Zipkin {problem}", "write http://127.0.0.1:9411/api/v2/spans")
    if not 0 <= params.sample_probability <= 1:
        report.error(f"{place}.sampleProbability", f"{params.sample_probability} is not between 0 and 1", "write 1")
    elif not params.sample_probability:
        report.warn(f"{place}.sampleProbability", "it is 0, so no span is sent", "write 1, or a share such as 0.01")


def _quota(report: Report, place: str, params: MemquotaParams | RedisquotaParams) -> None:
    if not params.quotas:
        report.error(place, "there are no quotas", "give quotas", "missing-field")
    limits: tuple[MemquotaLimit | RedisquotaLimit, ...] = params.quotas
    for index, limit in enumerate(limits):
        field = f"{place}.quotas[{index}]"
        if not limit.name:
            report.error(field, "the quota has no name", "give the name of an instance", "missing-field")
        if limit.max_amount <= 0:
            report.error(f"{field}.maxAmount", f"{limit.max_amount} is not above 0", "write 1 or more")
        if limit.valid_duration is not None and limit.valid_duration < 0:
            report.error(f"{field}.validDuration", "the duration is below 0", "write one such as 1s")
        for number, override in enumerate(limit.overrides):
            below = f"{field}.overrides[{number}]"
            if not override.dimensions:
                report.error(below, "the override is for no dimensions", "give dimensions", "missing-field")
            if override.max_amount <= 0:
                report.error(f"{below}.maxAmount", f"{override.max_amount} is not above 0", "write 1 or more")
    if isinstance(params, RedisquotaParams):
        _redisquota(report, place, params)
    elif params.min_deduplication_duration is not None:
        message = "each request is charged once, so that there is nothing to find twice"
        report.warn(f"{place}.minDeduplicationDuration", message, "leave it out")


def _redisquota(report: Report, place: str, params: RedisquotaParams) -> None:
    for index, limit in enumerate(params.quotas):
        field, length, slot = f"{place}.quotas[{index}]", limit.valid_duration or 0.0, limit.bucket_duration or 0.0
        if not length:
            report.error(f"{field}.validDuration", "the duration is 0", "write one such as 1s", "missing-field")
        if limit.rate_limit_algorithm == "ROLLING_WINDOW" and not 0 < slot < length:
            message = "a rolling window needs a bucketDuration that is shorter than validDuration"
            report.error(f"{field}.bucketDuration", message, "write a tenth of validDuration")
        for number, override in enumerate(limit.overrides):
            if override.valid_duration is not None:
                below = f"{field}.overrides[{number}].validDuration"
                report.error(below, "the time of a quota holds for its overrides too", "leave it out")
    url = params.redis_server_url
    if url and "://" not in url and split_host_port(url) is None:
        report.error(f"{place}.redisServerUrl", f"{url!r} is no address", "write HOST:PORT or redis://...")
    elif "://" in url and not url.startswith(("redis://", "rediss://", "unix://")):
        report.error(
            f"{place}.redisServerUrl", f"{url!r} is no address of a Redis", "write redis://, rediss:// or unix://"
        )


PARAMS: dict[str, Callable[[Report, str, Spec], None]] = {
    "denier": _denier,  # type: ignore[dict-item]
    "listchecker": _listchecker,  # type: ignore[dict-item]
    "opa": _opa,  # type: ignore[dict-item]
    "opentelemetry": _opentelemetry,  # type: ignore[dict-item]
    "prometheus": _prometheus,  # type: ignore[dict-item]
    "stdio": _stdio,  # type: ignore[dict-item]
    "statsd": _to_address,  # type: ignore[dict-item]
    "dogstatsd": _to_address,  # type: ignore[dict-item]
    "fluentd": _to_address,  # type: ignore[dict-item]
    "bypass": _bypass,  # type: ignore[dict-item]
    "kubernetesenv": _kubernetesenv,  # type: ignore[dict-item]
    "rbac": _rbac,  # type: ignore[dict-item]
    "zipkin": _zipkin,  # type: ignore[dict-item]
    "memquota": _quota,  # type: ignore[dict-item]
    "redisquota": _quota,  # type: ignore[dict-item]
}
