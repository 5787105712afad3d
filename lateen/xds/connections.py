"""How many bytes connections have passed on since they were last reported.

Comes in: an entry of Envoy's access-log service, which has what a connection has come to in all. Goes out: what is new
in it, so that reports of one connection may be added up. What is kept of connections is bounded; of one that began
before it was kept, and was never seen, what went before is taken as reported.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from envoy.data.accesslog.v3.accesslog_pb2 import AccessLogType

MOST = 100_000
GRACE_S = 15.0
"""Connections that began shortly before are new: rules reach proxies while the mixer starts."""
_Total = tuple[int, int]


class Connections:
    """``began``: since when (seconds since 1970) connections are kept."""

    def __init__(self, began: float, most: int = MOST) -> None:
        self._began = began - GRACE_S
        self._most = most
        self._known: OrderedDict[tuple[str, str], _Total] = OrderedDict()

    def spent(self, proxy: str, entry: Any) -> _Total:
        """Bytes received and sent since the last entry of this connection; none as it opens."""
        common, passed = entry.common_properties, entry.connection_properties
        key = (proxy, common.stream_id)
        opens = common.access_log_type == AccessLogType.TcpUpstreamConnected
        total = (0, 0) if opens else (passed.received_bytes, passed.sent_bytes)
        before = self._known.pop(key, None)
        if before is None:
            before = (0, 0) if common.start_time.ToNanoseconds() / 1e9 >= self._began else total
        if common.access_log_type != AccessLogType.TcpConnectionEnd:
            self._known[key] = total
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        return total[0] - before[0], total[1] - before[1]
