"""What connections of one proxy have passed on, by labels, while they go on: Envoy's counters know it at their end.

Comes in: what a proxy tells its agent of connections, by Envoy's access-log service: the metric as the log's name, its
labels as tags. Goes out: Prometheus text, named as Envoy would. As in the proxy, series are bounded, and those for
which nothing is counted are dropped after a while.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from envoy.service.accesslog.v3 import als_pb2

from lateen.values.packed_labels import whole
from lateen.xds.connections import Connections

SERVICE = "envoy.service.accesslog.v3.AccessLogService"
PREFIX = "envoy_istio_"
RECEIVED = "received"
MOST_SERIES = 4_000
KEPT_S = 3_600.0
_Key = tuple[str, tuple[tuple[str, str], ...]]


class ConnectionLog:
    """The counts of one proxy. ``clock`` tells seconds since 1970."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._connections = Connections(clock())
        self._series: OrderedDict[_Key, tuple[int, float]] = OrderedDict()

    def handler(self) -> grpc.GenericRpcHandler:
        """What a gRPC server is given."""
        take = grpc.stream_unary_rpc_method_handler(
            self._take,
            als_pb2.StreamAccessLogsMessage.FromString,
            als_pb2.StreamAccessLogsResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"StreamAccessLogs": take})

    async def _take(self, messages: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        metric = ""
        async for message in messages:
            if message.HasField("identifier"):
                metric = message.identifier.log_name
            for entry in message.tcp_logs.log_entry:
                self.count(metric, entry)
        return als_pb2.StreamAccessLogsResponse()

    def count(self, metric: str, entry: Any) -> None:
        """Add what is new in one entry."""
        received, sent = self._connections.spent(metric, entry)
        key = (metric, tuple(sorted(entry.common_properties.custom_tags.items())))
        before, _ = self._series.pop(key, (0, 0.0))
        if before or len(self._series) < MOST_SERIES:
            self._series[key] = (before + (received if RECEIVED in metric else sent), self._clock())

    def text(self) -> bytes:
        """All series."""
        oldest = self._clock() - KEPT_S
        while self._series and next(iter(self._series.values()))[1] < oldest:
            self._series.popitem(last=False)
        families: dict[str, list[str]] = {}
        for (metric, labels), (value, _) in self._series.items():
            told = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels)
            families.setdefault(f"{PREFIX}{metric}", []).append(f"{{{told}}} {value}\n")
        text = "".join(
            f"# TYPE {name} counter\n" + "".join(name + line for line in lines) for name, lines in families.items()
        ).encode()
        return whole(text)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
