"""The server that proxies ask about limits which they count together: Envoy's RateLimitService.

Comes in: descriptors of requests. Goes out: for each whether it is within its limit, how much is left and when there is
more; and one verdict on the whole. The limit stands in the descriptor itself, put there by the configuration of the
proxy: so the server needs to know no resources, and a proxy and the server never go by different versions of one.

What cannot be counted (no Redis, a descriptor that says no limit) is an error, upon which the proxy does what its rule
says for that case: refuse or let pass.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import grpc
import msgspec
from envoy.config.core.v3 import base_pb2
from envoy.service.ratelimit.v3 import rls_pb2
from google.protobuf import duration_pb2

from lateen.mixer.counters import Asked, Counter, CounterError
from lateen.mixer.quota_messages import Descriptor, Request
from lateen.mixer.seldom import Seldom
from lateen.mixer.windows import FixedWindow, Grant, RollingWindow, TokenBucket, Window, limit_of

METHOD = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
RULE = "rule"
WINDOW = "window"
TRIAL = "trial"
TRIED = "dry_run"
"""Where the answer says which rule on trial would have refused, for the access log."""
REFUSED_BY = "x-lateen-rate-limit"
LOG = logging.getLogger("lateen.mixer")
LONGEST_WAIT = 86_400.0 * 365
MAX_BODY = 8192

_Response = rls_pb2.RateLimitResponse
_OVER, _OK = _Response.OVER_LIMIT, _Response.OK


class QuotaTally(msgspec.Struct):
    """How many questions were granted, refused and not to be answered; ``tried``: what rules on trial would refuse."""

    granted: int = 0
    refused: int = 0
    tried: int = 0
    failed: int = 0


class QuotaServer:
    """Answers on a gRPC server that it is added to. One lives as long as its process."""

    def __init__(self, counter: Counter, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._counter = counter
        self._clock = clock
        self._seldom = Seldom(clock)
        self.tally = QuotaTally()

    def add_to(self, server: Any) -> None:
        """Answer on this ``grpc.aio`` server."""
        server.add_generic_rpc_handlers((_Handler(self),))

    async def move_to(self, counter: Counter) -> None:
        """Count elsewhere from now on."""
        old, self._counter = self._counter, counter
        await old.close()

    async def close(self) -> None:
        """Let go of the counter."""
        await self._counter.close()

    async def should_rate_limit(self, request: Any, context: Any) -> Any:
        """One question. Aborts with INVALID_ARGUMENT or UNAVAILABLE where there is no answer."""
        try:
            asked = [_asked(request, descriptor) for descriptor in request.descriptors]
            if not asked:
                raise ValueError("it has no descriptors")
        except ValueError as problem:
            self.tally.failed += 1
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"not to be counted: {problem}")
            raise
        try:
            grants = await self._counter.take([one for _, one in asked])
        except CounterError as problem:
            self._complain(str(problem))
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(problem))
            raise
        return self._answer([(about, one, grant) for (about, one), grant in zip(asked, grants, strict=True)])

    def _answer(self, counted: list[tuple[Mapping[str, str], Asked, Grant]]) -> Any:
        response = _Response(overall_code=_OK)
        refusing: tuple[str, Grant] | None = None
        for about, one, grant in counted:
            over = grant.granted < one.amount
            if over and TRIAL in about:
                self.tally.tried += 1
                response.dynamic_metadata[TRIED] = about[RULE]
                over = False
            response.statuses.add(
                code=_OVER if over else _OK,
                current_limit=_limit(about[RULE], one.window),
                limit_remaining=grant.left,
                duration_until_reset=_duration(grant.wait),
            )
            if over and (refusing is None or grant.wait > refusing[1].wait):
                refusing = (about[RULE], grant)
        if refusing is None:
            self.tally.granted += 1
            return response
        self.tally.refused += 1
        name, grant = refusing
        response.overall_code = _OVER
        wait = str(max(1, math.ceil(min(grant.wait, LONGEST_WAIT))))
        response.response_headers_to_add.extend(
            base_pb2.HeaderValue(key=key, value=value) for key, value in ((REFUSED_BY, name), ("retry-after", wait))
        )
        return response

    def _complain(self, problem: str) -> None:
        """Say it, but not for every request."""
        self.tally.failed += 1
        if self._seldom.may("uncounted"):
            LOG.warning("a limit could not be counted: %s", problem)


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, server: QuotaServer) -> None:
        self._method = grpc.unary_unary_rpc_method_handler(
            server.should_rate_limit, Request.FromString, _Response.SerializeToString
        )

    def service(self, details: Any) -> Any:
        return self._method if details.method == METHOD else None


def _asked(request: Any, descriptor: Any) -> tuple[Mapping[str, str], Asked]:
    """What a descriptor asks for, and about what. Raises ValueError."""
    return _read(request.domain, descriptor.SerializeToString(), request.hits_addend or 1)


@lru_cache(maxsize=4096)
def _read(domain: bytes, body: bytes, addend: int) -> tuple[Mapping[str, str], Asked]:
    """A descriptor, read once for all requests that make the same.

    Its key is the rule and a hash of what the rule counts by, which may be long, or nothing to leave about.
    """
    descriptor = Descriptor.FromString(body)
    entries = [(entry.key.decode(errors="replace"), entry.value) for entry in descriptor.entries]
    about = {name: value.decode(errors="replace") for name, value in entries}
    if RULE not in about or WINDOW not in about:
        raise ValueError("a descriptor names no rule or no window")
    if len(body) > MAX_BODY:
        raise ValueError("a descriptor is too long")
    counted = msgspec.msgpack.encode([domain, *(entry for entry in entries if entry[0] not in (WINDOW, TRIAL))])
    key = f"{about[RULE]}:{blake2b(counted, digest_size=16).hexdigest()}"
    amount = descriptor.hits_addend.value if descriptor.HasField("hits_addend") else addend
    return about, Asked(key, read_window(about[WINDOW]), amount)


def read_window(text: str) -> Window:
    """``bucket 20 100 60`` (burst, refill, interval), ``fixed 10 60``, ``rolling 10 60 1``. Raises ValueError."""
    kind, *figures = text.split(" ")
    try:
        first, *others = figures
        most, rest = int(first), [float(figure) for figure in others]
        if most < 1 or not all(0 < figure < math.inf for figure in rest) or (kind == "bucket" and rest[0] < 1):
            raise ValueError
        if kind == "bucket":
            refill, interval = rest
            return TokenBucket(most, int(refill), interval)
        if kind == "rolling":
            length, slot = rest
            return RollingWindow(most, length, slot)
        if kind == "fixed":
            (length,) = rest
            return FixedWindow(most, length)
    except ValueError:
        pass
    raise ValueError(f"{text!r} is no window")


def _duration(seconds: float) -> duration_pb2.Duration:
    return duration_pb2.Duration(seconds=math.ceil(min(seconds, LONGEST_WAIT)))


_UNITS = (
    (1.0, _Response.RateLimit.SECOND),
    (60.0, _Response.RateLimit.MINUTE),
    (3600.0, _Response.RateLimit.HOUR),
    (86_400.0, _Response.RateLimit.DAY),
)


@lru_cache(maxsize=1024)
def _limit(rule: str, window: Window) -> Any:
    """The limit as ``x-ratelimit-limit`` tells it; a length that is no unit is told without one. Not to be changed."""
    length = window.interval if isinstance(window, TokenBucket) else window.length
    return _Response.RateLimit(
        name=rule,
        requests_per_unit=window.refill if isinstance(window, TokenBucket) else limit_of(window),
        unit=dict(_UNITS).get(length, _Response.RateLimit.UNKNOWN),
    )
