"""Injected faults of one route: delays and aborts, for a share of its requests.

Comes in: ``Fault``. Goes out: the fault filter's configuration for that route.
"""

from __future__ import annotations

from typing import Any

from envoy.extensions.filters.common.fault.v3 import fault_pb2 as common_fault_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2

from lateen.envoy import wire
from lateen.plan.routes import Fault

FAULT_FILTER = "envoy.filters.http.fault"


def route_fault(fault: Fault) -> Any:
    """The message for ``typed_per_filter_config``. Raises ValueError for an abort without exactly one code."""
    message = fault_pb2.HTTPFault()
    if fault.delay is not None:
        message.delay.CopyFrom(
            common_fault_pb2.FaultDelay(
                fixed_delay=wire.duration(fault.delay.seconds), percentage=wire.fraction(fault.delay.percentage)
            )
        )
    if fault.abort is not None:
        abort = fault.abort
        if (abort.http_status is None) == (abort.grpc_status is None):
            raise ValueError("an abort has either an HTTP status or a gRPC status")
        message.abort.percentage.CopyFrom(wire.fraction(abort.percentage))
        if abort.http_status is not None:
            message.abort.http_status = abort.http_status
        else:
            message.abort.grpc_status = abort.grpc_status or 0
    return message
