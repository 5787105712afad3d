"""Who a plan is for, and where its sockets stand: the network namespaces and addresses that both directions use."""

from __future__ import annotations

import enum

import msgspec

ANY = "0.0.0.0"  # noqa: S104 - stands inside the workload's own network


class ProxyType(enum.Enum):
    SIDECAR = "sidecar"
    GATEWAY = "gateway"


class NamespacesNetwork(msgspec.Struct, frozen=True, tag="namespaces"):
    """Proxies stand in the machine's namespace and open sockets in these, named by file."""

    workload_netns: str = ""
    mesh_netns: str = ""


class LoopbackNetwork(msgspec.Struct, frozen=True, tag="loopback"):
    """No namespaces: this proxy's view of the mesh is 127.<prefix>.0.0/16."""

    prefix: int


class PodNetwork(msgspec.Struct, frozen=True, tag="pod"):
    """Proxy and application share one network namespace with redirected traffic, as in a Kubernetes pod."""


ProxyNetwork = NamespacesNetwork | LoopbackNetwork | PodNetwork


class Proxy(msgspec.Struct, frozen=True):
    """Who a plan is for: a sidecar beside one workload replica, or one gateway."""

    id: str
    type: ProxyType
    namespace: str
    workload: str
    labels: tuple[tuple[str, str], ...]
    service_account: str
    address: str
    network: ProxyNetwork = PodNetwork()
    services: tuple[str, ...] = ()


class Bind(msgspec.Struct, frozen=True):
    """Where a socket stands: address (empty: any), port (0: any), network namespace file (empty: the proxy's own)."""

    address: str
    port: int = 0
    netns: str = ""


ISTIO_VERSION = "1.32.0"
"""The Istio whose resources are read; EnvoyFilters ask for it by ``proxyVersion``."""


def node_metadata(namespace: str, service_account: str, workload: str) -> dict[str, str]:
    """What a proxy's node says of it, by which EnvoyFilters may choose proxies."""
    return {
        "NAMESPACE": namespace,
        "SERVICE_ACCOUNT": service_account,
        "WORKLOAD_NAME": workload,
        "ISTIO_VERSION": ISTIO_VERSION,
    }


def workload_netns(proxy: Proxy) -> str:
    return proxy.network.workload_netns if isinstance(proxy.network, NamespacesNetwork) else ""


def mesh_netns(proxy: Proxy) -> str:
    return proxy.network.mesh_netns if isinstance(proxy.network, NamespacesNetwork) else ""
