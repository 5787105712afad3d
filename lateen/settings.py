"""Settings: every option of the mesh, as one frozen value that is passed down.

Nothing else in the package reads the environment; the command line builds this once.
"""

from __future__ import annotations

import msgspec


class Settings(msgspec.Struct, frozen=True):
    """Mesh-wide options that the pure stages need. Durations are in seconds.

    ``scope_gateways``: a Gateway selects workloads of its own namespace alone (``PILOT_SCOPE_GATEWAY_TO_NAMESPACE``).
    ``outbound_policy``: ALLOW_ANY, REGISTRY_ONLY or ALLOW_ANY_DYNAMIC_DNS. ``protocol_detection_timeout``: how long a
    port of unknown protocol waits for the client's first bytes before it counts as TCP; 0 waits for ever.
    ``http10``: HTTP/1.0 is accepted.
    """

    trust_domain: str = "cluster.local"
    domain: str = "cluster.local"
    root_namespace: str = "istio-system"
    connect_timeout: float = 10.0
    default_mtls: str = "STRICT"
    outbound_policy: str = "ALLOW_ANY"
    protocol_detection_timeout: float = 0.0
    http10: bool = False
    service_network: str = "240.240.0.0/16"
    pod_network: str = "240.241.0.0/16"
    scope_gateways: bool = False
