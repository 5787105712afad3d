"""What Telemetry resources say of traces, for one side of one workload.

Comes in: the snapshot, a workload's namespace and labels. Goes out: ``TracingPolicy``. Field by field the level nearest
to the workload holds; tags are replaced as a whole. Below all levels stands what the MeshConfig says.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from lateen.mesh.model import Labels, MeshSnapshot
from lateen.mesh.telemetry_policy import holding, is_for
from lateen.resources.mesh_config import MeshConfigSpec
from lateen.resources.proxy_config import ProxyTracing
from lateen.resources.telemetry import CustomTag

DEFAULT_SAMPLING = 1.0


class TracingPolicy(msgspec.Struct, frozen=True):
    """``provider`` empty: nothing is traced. ``sampling`` is a percentage of the requests with which a trace begins.

    ``reports`` False: spans are made, passed on in headers, and told to nobody. ``propagates`` False: headers are left
    as they are. ``by_request_id``: X-Request-Id carries the decision. ``own_tags``: Istio's tags are set.
    """

    provider: str = ""
    sampling: float = DEFAULT_SAMPLING
    reports: bool = True
    tags: Mapping[str, CustomTag] = {}
    by_request_id: bool = True
    own_tags: bool = True
    propagates: bool = True


def tracing_policy(snapshot: MeshSnapshot, namespace: str, labels: Labels, mode: str) -> TracingPolicy:
    """How requests of one side are traced."""
    policy = _of_mesh(snapshot.mesh_config)
    for resource in holding(snapshot, namespace, labels):
        for tracing in resource.spec.tracing:
            if tracing.match is not None and not is_for(tracing.match.mode, mode):
                continue
            said = {
                "provider": next((provider.name for provider in tracing.providers), None),
                "sampling": tracing.random_sampling_percentage,
                "reports": _not(tracing.disable_span_reporting),
                "tags": tracing.custom_tags or None,
                "by_request_id": tracing.use_request_id_for_trace_sampling,
                "own_tags": tracing.enable_istio_tags,
                "propagates": _not(tracing.disable_context_propagation),
            }
            policy = msgspec.structs.replace(
                policy, **{name: value for name, value in said.items() if value is not None}
            )
    return policy


def _of_mesh(config: MeshConfigSpec) -> TracingPolicy:
    """``enableTracing`` false leaves out the default provider; a Telemetry may name one all the same."""
    said = (config.default_config.tracing if config.default_config is not None else None) or ProxyTracing()
    named = config.default_providers.tracing if config.default_providers is not None else ()
    return TracingPolicy(
        provider=named[0] if named and config.enable_tracing is not False else "",
        sampling=DEFAULT_SAMPLING if said.sampling is None else said.sampling,
        tags=said.custom_tags,
        own_tags=said.enable_istio_tags is not False,
    )


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value
