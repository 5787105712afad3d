"""Handlers of a configuration: made where they are new, kept where nothing has changed, closed where they are gone."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import msgspec

from lateen.mesh.mixer import model
from lateen.mesh.mixer.charges import limit_for
from lateen.mesh.mixer.model import MixerRules
from lateen.mixer.adapter import Adapter, CheckAdapter, CheckResult, QuotaAdapter, QuotaArgs, QuotaResult, ReportAdapter
from lateen.mixer.adapters.counted import DEFAULT_BUCKETS, MetricKind, exponential, linear
from lateen.mixer.adapters.denier import Denier
from lateen.mixer.adapters.fluentd import Fluentd
from lateen.mixer.adapters.kubernetesenv import KubernetesEnv, Pods
from lateen.mixer.adapters.listchecker import ListChecker
from lateen.mixer.adapters.lists import STRINGS
from lateen.mixer.adapters.opa import Opa
from lateen.mixer.adapters.opentelemetry import OpenTelemetry, OverGrpc, OverHttp
from lateen.mixer.adapters.outside import Outside, config_of, tokens_of
from lateen.mixer.adapters.own import OwnAdapter
from lateen.mixer.adapters.prometheus import Prometheus
from lateen.mixer.adapters.quota import Override, QuotaCounter, QuotaLimit
from lateen.mixer.adapters.rbac import Rbac
from lateen.mixer.adapters.rotation import RotatedFile
from lateen.mixer.adapters.statsd import DogStatsd, Statsd, StatsdMetric
from lateen.mixer.adapters.stdio import DEFAULT_SEVERITIES, Sink, Stdio, Stream, plain_file
from lateen.mixer.adapters.zipkin import Zipkin
from lateen.mixer.counters import MemoryCounter
from lateen.mixer.handler import Handler
from lateen.mixer.redis_quota import RedisCounter
from lateen.mixer.templates import Instance
from lateen.mixer.windows import FixedWindow, RollingWindow, Window
from lateen.plan.mixer.pods import Pod
from lateen.resources.base import Spec
from lateen.resources.mixer.adapters import (
    Buckets,
    BypassParams,
    DenierParams,
    DogstatsdParams,
    ExpirationPolicy,
    FluentdParams,
    ListcheckerParams,
    MemquotaParams,
    OpaParams,
    OpenTelemetryParams,
    PrometheusMetric,
    PrometheusParams,
    RbacParams,
    RedisquotaLimit,
    RedisquotaParams,
    StatsdParams,
    Status,
    StdioParams,
    ZipkinParams,
)
from lateen.resources.mixer.outside import Connection, OutsideParams

DEADLINE_S = 0.5
SLOTS = 100


class Web(msgspec.Struct, frozen=True):
    """How adapters reach others: ``fetch`` reads a document, ``post`` sends a JSON body and gives the answer's.

    ``send`` is given a method, a URL, a body and headers.
    """

    fetch: Callable[[str], Awaitable[bytes]]
    post: Callable[[str, bytes], Awaitable[bytes]]
    send: Callable[[str, str, bytes, Mapping[str, str]], Awaitable[bytes]]


class Noop(CheckAdapter, QuotaAdapter, ReportAdapter):
    """Lets everything through, grants it, and takes note of nothing."""

    async def check(self, instance: Instance) -> CheckResult:
        return CheckResult()

    async def allot(self, instance: Instance, args: QuotaArgs) -> QuotaResult:
        return QuotaResult(args.amount)

    async def report(self, template: str, instances: Sequence[Instance]) -> None:
        return


class Around(msgspec.Struct, frozen=True):
    """What adapters are made of beside their parameters: the handler's name, the web, what the mesh knows just then."""

    name: str
    web: Web
    pods: Callable[[], Pods]
    grants: Callable[[], tuple[model.Grant, ...]]


def _denier(params: Spec, around: Around) -> Adapter:
    assert isinstance(params, DenierParams)
    status = params.status or Status()
    valid = 5.0 if params.valid_duration is None else float(params.valid_duration)
    return Denier(status.code, status.message, valid, params.valid_use_count or 1000)


def _listchecker(params: Spec, around: Around) -> Adapter:
    assert isinstance(params, ListcheckerParams)
    return ListChecker(
        params.overrides,
        params.entry_type or STRINGS,
        blacklist=params.blacklist,
        provider_url=params.provider_url,
        refresh=_seconds(params.refresh_interval, 60.0),
        ttl=_seconds(params.ttl, 300.0),
        valid=_seconds(params.caching_interval, 300.0),
        uses=params.caching_use_count or 10_000,
        fetch=around.web.fetch,
    )


def _opa(params: Spec, around: Around) -> Adapter:
    assert isinstance(params, OpaParams)
    folder = f"lateen/{around.name}"
    return Opa(params.url, params.check_method, around.web.send, policies=params.policy, folder=folder)


def _kubernetesenv(params: Spec, around: Around) -> Adapter:
    return KubernetesEnv(around.pods)


def _rbac(params: Spec, around: Around) -> Adapter:
    assert isinstance(params, RbacParams)
    return Rbac(around.grants, valid=_seconds(params.cache_duration, 60.0))


def _bypass(params: Spec, around: Around) -> Adapter:
    assert isinstance(params, BypassParams)
    return Outside(Connection(params.backend_address), lambda: None)


def _outside(params: OutsideParams, around: Around) -> Adapter:
    return Outside(params.connection, partial(config_of, params), tokens_of(params.connection, around.web.send))


def _stdio(params: Spec, around: Around) -> Adapter:
    assert isinstance(params, StdioParams)
    return Stdio(
        _sink(params),
        severities={**DEFAULT_SEVERITIES, **params.severity_levels},
        metric_level=params.metric_level or "INFO",
        least=params.output_level or "INFO",
        as_json=params.output_as_json,
    )


def _sink(params: StdioParams) -> Sink:
    if params.log_stream == "FILE":
        return plain_file(Path(params.output_path))
    if params.log_stream == "ROTATED_FILE":
        return RotatedFile(
            Path(params.output_path),
            megabytes=100 if params.max_megabytes_before_rotation is None else params.max_megabytes_before_rotation,
            days=30 if params.max_days_before_rotation is None else params.max_days_before_rotation,
            files=1000 if params.max_rotated_files is None else params.max_rotated_files,
        )
    return Stream(sys.stderr.buffer if params.log_stream == "STDERR" else sys.stdout.buffer)


def _statsd(params: Spec, around: Around) -> Adapter:
    assert isinstance(params, StatsdParams)
    metrics = {
        name: StatsdMetric(metric.type or "COUNTER", metric.name_template) for name, metric in params.metrics.items()
    }
    return Statsd(
        params.address or "localhost:8125",
        metrics,
        prefix=params.prefix,
        flush=_seconds(params.flush_duration, 0.3),
        packet=params.flush_bytes or 512,
        rate=1.0 if params.sampling_rate is None else params.sampling_rate,
        name=around.name,
    )


def _dogstatsd(params: Spec, around: Around) -> Adapter:
    assert isinstance(params, DogstatsdParams)
    metrics = {
        name: StatsdMetric(metric.type or "COUNTER", metric.name, metric.tags)
        for name, metric in params.metrics.items()
    }
    return DogStatsd(
        params.address or "localhost:8125",
        metrics,
        prefix="istio." if params.prefix is None else params.prefix,
        tags=params.global_tags,
        buffer=params.buffer_length,
        rate=1.0 if params.sample_rate is None else params.sample_rate,
        name=around.name,
    )


def _prometheus(params: Spec, around: Around) -> Adapter:
    assert isinstance(params, PrometheusParams)
    return Prometheus(_metrics(params.metrics), expiry=_expiry(params.metrics_expiration_policy))


def _opentelemetry(params: Spec, around: Around) -> Adapter:
    assert isinstance(params, OpenTelemetryParams)
    scheme, _, address = (params.url or "http://localhost:4318").partition("://")
    to: OverHttp | OverGrpc
    if scheme in ("grpc", "grpcs"):
        to = OverGrpc(address, params.headers, secure=scheme == "grpcs")
    else:
        to = OverHttp(f"{scheme}://{address}", params.headers, around.web.send)
    return OpenTelemetry(
        to,
        _metrics(params.metrics),
        resource={"service.name": "lateen-mixer", **params.resource_attributes},
        interval=_seconds(params.push_interval, 10.0),
        expiry=_expiry(params.metrics_expiration_policy),
        probability=1.0 if params.sample_probability is None else params.sample_probability,
        name=around.name,
    )


def _expiry(policy: ExpirationPolicy | None) -> float | None:
    expiry = policy.metrics_expiry_duration if policy is not None else None
    return None if expiry is None else float(expiry)


def _metrics(metrics: Sequence[PrometheusMetric]) -> list[MetricKind]:
    return [
        MetricKind(
            metric.name,
            metric.instance_name,
            metric.kind,
            metric.description,
            metric.namespace or "istio",
            metric.label_names,
            _buckets(metric.buckets),
        )
        for metric in metrics
    ]


def _buckets(said: Buckets | None) -> tuple[float, ...]:
    if said is not None and said.linear_buckets is not None:
        shape = said.linear_buckets
        return linear(shape.num_finite_buckets, shape.width, shape.offset)
    if said is not None and said.exponential_buckets is not None:
        growing = said.exponential_buckets
        return exponential(growing.num_finite_buckets, growing.growth_factor, growing.scale)
    if said is not None and said.explicit_buckets is not None:
        return tuple(sorted(said.explicit_buckets.bounds))
    return DEFAULT_BUCKETS


def _fluentd(params: Spec, around: Around) -> Adapter:
    assert isinstance(params, FluentdParams)
    return Fluentd(
        params.address or "localhost:24224",
        integer_duration=params.integer_duration,
        buffer=params.instance_buffer_size or 1024,
        batch=params.max_batch_size_bytes or 8 << 20,
        push_interval=_seconds(params.push_interval_duration, 60.0),
        push_timeout=_seconds(params.push_timeout_duration, 60.0),
        name=around.name,
    )


def _zipkin(params: Spec, around: Around) -> Adapter:
    assert isinstance(params, ZipkinParams)
    return Zipkin(params.url, around.web.post, probability=params.sample_probability, name=around.name)


def _memquota(params: Spec, around: Around) -> Adapter:
    """Rolling windows that are counted by hundredths of their length; without a duration, nothing comes back."""
    assert isinstance(params, MemquotaParams)

    def window(most: int, duration: float | None) -> Window:
        length = float(duration or 0.0)
        return RollingWindow(most, length, length / SLOTS) if length else FixedWindow(most, 0.0)

    def limit(name: str) -> QuotaLimit | None:
        said = limit_for(params, name)
        if said is None:
            return None
        overrides = tuple(
            Override(one.dimensions, window(one.max_amount, one.valid_duration or said.valid_duration))
            for one in said.overrides
        )
        return QuotaLimit(window(said.max_amount, said.valid_duration), overrides)

    return QuotaCounter("memquota", cache(limit), MemoryCounter())


def _redisquota(params: Spec, around: Around) -> Adapter:
    assert isinstance(params, RedisquotaParams)

    def limit(name: str) -> QuotaLimit | None:
        said = limit_for(params, name)
        if not isinstance(said, RedisquotaLimit):
            return None

        def window(most: int) -> Window:
            length = float(said.valid_duration or 0.0)
            if said.rate_limit_algorithm == "ROLLING_WINDOW":
                return RollingWindow(most, length, float(said.bucket_duration or length))
            return FixedWindow(most, length)

        overrides = tuple(Override(one.dimensions, window(one.max_amount)) for one in said.overrides)
        return QuotaLimit(window(said.max_amount), overrides)

    url = params.redis_server_url or "localhost:6379"
    counter = RedisCounter(
        url if "://" in url else f"redis://{url}", connections=params.connection_pool_size or 10, prefix="lateen:quota:"
    )
    return QuotaCounter("redisquota", cache(limit), counter)


def _seconds(given: float | None, default: float) -> float:
    return default if given is None else float(given)


MAKERS: Mapping[str, Callable[[Spec, Around], Adapter]] = {
    "bypass": _bypass,
    "denier": _denier,
    "kubernetesenv": _kubernetesenv,
    "listchecker": _listchecker,
    "noop": lambda params, around: Noop(),
    "opa": _opa,
    "rbac": _rbac,
    "opentelemetry": _opentelemetry,
    "prometheus": _prometheus,
    "stdio": _stdio,
    "statsd": _statsd,
    "dogstatsd": _dogstatsd,
    "fluentd": _fluentd,
    "zipkin": _zipkin,
    "memquota": _memquota,
    "redisquota": _redisquota,
}


def _deadline(params: Spec) -> float:
    return _seconds(params.connection.timeout, DEADLINE_S) if isinstance(params, OutsideParams) else DEADLINE_S


class Handlers:
    """The handlers at work, by name."""

    def __init__(self, web: Web) -> None:
        self._web = web
        self._pods = Pods()
        self._grants: tuple[model.Grant, ...] = ()
        self._running: dict[str, tuple[model.Handler, bool, Handler]] = {}

    @property
    def running(self) -> Mapping[str, Handler]:
        return {name: handler for name, (_, _, handler) in self._running.items()}

    def _made(self, config: model.Handler) -> Adapter:
        around = Around(config.name, self._web, lambda: self._pods, lambda: self._grants)
        if isinstance(config.params, OutsideParams):
            return _outside(config.params, around)
        make = MAKERS.get(config.adapter)
        if make is not None:
            return make(config.params, around)
        given = {name: value for name, value in msgspec.structs.asdict(config.params).items() if value is not None}
        return OwnAdapter(config.adapter, given)

    async def follow(self, rules: MixerRules, *, fail_open: bool, pods: Sequence[Pod] = ()) -> list[Handler]:
        """Bring the handlers up to what rules name. Returns those that are to be closed once nobody calls them."""
        self._pods, self._grants = Pods(pods), rules.grants
        wanted = {action.handler.name: action.handler for rule in rules.rules for action in rule.actions}
        before, self._running = self._running, {}
        for name, config in wanted.items():
            known = before.get(name)
            if known is not None and known[0] == config and known[1] is fail_open:
                self._running[name] = before.pop(name)
                continue
            lenient = isinstance(config.params, OpaParams) and not config.params.fail_close
            adapter = self._made(config)
            handler = Handler(name, adapter, deadline=_deadline(config.params), fail_open=fail_open, lenient=lenient)
            self._running[name] = (config, fail_open, handler)
        return [handler for _, _, handler in before.values()]
