"""Active health checks: an annotation of ours beside a DestinationRule.

    metadata:
      annotations:
        lateen.io/health-check: "{http: {path: /healthz}, interval: 5s, timeout: 1s}"

Comes in: a DestinationRule. Goes out: a ``HealthCheck``, or what is wrong with it. Every member of the rule's pools is
asked at the interval; one that fails ``unhealthyThreshold`` times in a row gets no requests until it has answered
``healthyThreshold`` times. Istio has no field for this, so that other meshes pass it over.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from lateen.resources.base import Duration, Spec, Uint32
from lateen.resources.resource import Resource
from lateen.resources.yaml_reader import JSON_SCALARS, YamlProblem, read_yaml

ANNOTATION = "lateen.io/health-check"
DEFAULT_INTERVAL = Duration(10)
DEFAULT_TIMEOUT = Duration(2)
DEFAULT_THRESHOLD = 2


class HttpCheck(Spec, frozen=True):
    """A GET; healthy is a status of ``expectedStatuses``, or 200 to 399 where none is given."""

    path: str = "/"
    host: str | None = None
    expected_statuses: tuple[Uint32, ...] = ()


class GrpcCheck(Spec, frozen=True):
    """The standard health protocol of gRPC."""

    service: str = ""


class TcpCheck(Spec, frozen=True):
    """A connection that opens."""


class HealthCheck(Spec, frozen=True):
    """One of http, grpc and tcp. ``jitterPercent`` spreads the checks over a part of the interval."""

    http: HttpCheck | None = None
    grpc: GrpcCheck | None = None
    tcp: TcpCheck | None = None
    interval: Duration = DEFAULT_INTERVAL
    timeout: Duration = DEFAULT_TIMEOUT
    jitter_percent: Uint32 = 10
    unhealthy_threshold: Uint32 = DEFAULT_THRESHOLD
    healthy_threshold: Uint32 = DEFAULT_THRESHOLD


class BadHealthCheck(Exception):
    """The annotation says nothing usable; ``reason`` tells why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def health_check_of(resource: Resource) -> HealthCheck | None:
    """The health check of a rule that has passed its checks; None where it has none."""
    text = resource.annotations.get(ANNOTATION)
    return parse_health_check(text) if text is not None else None


@lru_cache(maxsize=1024)
def parse_health_check(text: str) -> HealthCheck:
    """Read the annotation. Raises BadHealthCheck."""
    from lateen.resources.decode import read_scalar

    try:
        value: Any = read_yaml(text.encode(), JSON_SCALARS).value
        check = msgspec.convert(value, HealthCheck, dec_hook=read_scalar, str_keys=True)
    except YamlProblem as problem:
        raise BadHealthCheck(problem.message) from problem
    except msgspec.ValidationError as problem:
        raise BadHealthCheck(str(problem)) from problem
    kinds = [kind for kind in (check.http, check.grpc, check.tcp) if kind is not None]
    if len(kinds) != 1:
        raise BadHealthCheck("it needs exactly one of http, grpc and tcp")
    if check.interval <= 0 or check.timeout <= 0:
        raise BadHealthCheck("interval and timeout are more than 0")
    if not check.unhealthy_threshold or not check.healthy_threshold:
        raise BadHealthCheck("thresholds are 1 or more")
    if check.jitter_percent > 100:
        raise BadHealthCheck("jitterPercent is 0 to 100")
    if check.http is not None and not check.http.path.startswith("/"):
        raise BadHealthCheck("http.path begins with /")
    if check.http is not None and any(not 100 <= status <= 599 for status in check.http.expected_statuses):
        raise BadHealthCheck("expectedStatuses are 100 to 599")
    return check
