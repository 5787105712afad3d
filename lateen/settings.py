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
    What a MeshConfig says takes the place of these (``mesh/mesh_config.py``): read them from ``snapshot.settings``.
    ``inbound_policy``: LOCALHOST (the application is reached at 127.0.0.1) or PASSTHROUGH (at the workload's address).
    ``dns_refresh`` None: Envoy's default. ``*_export_to`` hold where a resource says nothing.
    ``ingress_mode``: which Ingress resources are taken, OFF, DEFAULT or STRICT; ``ingress_class`` is their class and
    ``ingress_gateway`` the value of the label ``istio`` of the gateways that serve them.
    ``federated_domains`` are trust domains of other meshes, whose workloads may call servers of this one.
    ``mixer_socket``: where proxies reach the mixer.
    ``several_authorizers``: policies of action CUSTOM that hold for a workload may name several providers, all of which
    have to agree (``PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS``).
    ``host_ownership``: a VirtualService for a service of another namespace holds for clients of its own alone.
    ``trust_domain_is_fixed``: certificates of the trust domain are in use, so that it cannot be another.
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
    several_authorizers: bool = True
    inbound_policy: str = "LOCALHOST"
    auto_mtls: bool = True
    h2_upgrade: bool = False
    dns_refresh: float | None = None
    path_normalization: str = "MERGE_SLASHES"
    trust_domain_aliases: tuple[str, ...] = ()
    federated_domains: tuple[str, ...] = ()
    service_export_to: tuple[str, ...] = ("*",)
    virtual_service_export_to: tuple[str, ...] = ("*",)
    destination_rule_export_to: tuple[str, ...] = ("*",)
    host_ownership: bool = False
    trust_domain_is_fixed: bool = False
    ingress_mode: str = "STRICT"
    ingress_class: str = "istio"
    ingress_gateway: str = "ingressgateway"
    mixer_socket: str = "/var/run/lateen/mixer.sock"

    @property
    def client_trust_domains(self) -> tuple[str, ...]:
        """The trust domains whose workloads may call: the mesh's own and those of meshes that it trusts."""
        return tuple(dict.fromkeys((*self.trust_domains, *self.federated_domains)))

    @property
    def trust_domains(self) -> tuple[str, ...]:
        """The mesh's trust domain and its further names."""
        return tuple(dict.fromkeys((self.trust_domain, *self.trust_domain_aliases)))
