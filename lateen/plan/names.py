"""The names that clusters, listeners, route tables and virtual hosts bear: Istio's own."""

from __future__ import annotations

from lateen.values.network import MAX_HOST

PASSTHROUGH = "PassthroughCluster"
MESH_PASSTHROUGH = "PassthroughCluster-mesh"
AGENT_CLUSTER = "lateen-agent"
BLACK_HOLE = "BlackHoleCluster"
DYNAMIC_DNS = "AllowAnyDynamicDNSCluster"
PASSTHROUGH_CHAIN = "PassthroughFilterChain"
INBOUND_PASSTHROUGH = "InboundPassthroughCluster"
VIRTUAL_OUTBOUND = "virtualOutbound"
VIRTUAL_INBOUND = "virtualInbound"
OUTBOUND_PORT = 15001
INBOUND_PORT = 15006
OWN_PORTS = (OUTBOUND_PORT, INBOUND_PORT)
"""Where redirected traffic arrives, at any address: nothing else listens there so."""


def outbound_cluster(port: int, subset: str, hostname: str) -> str:
    return f"outbound|{port}|{subset}|{hostname}"


def port_of_cluster(name: str) -> int:
    """The service port in the name of an outbound cluster."""
    return int(name.split("|")[1])


def member_cluster(port: int, hostname: str) -> str:
    """Leads to that member of a headless service whose address was called."""
    return f"original|{port}||{hostname}"


def outbound_parts(cluster: str) -> tuple[int, str, str]:
    """Port, subset and host name of an outbound cluster."""
    _, port, subset, hostname = cluster.split("|")
    return int(port), subset, hostname


def inbound_cluster(port: int) -> str:
    return f"inbound|{port}||"


def mesh_sni(port: int, subset: str, hostname: str) -> str:
    """The server name that a mesh client asks for, from which a gateway could choose the cluster.

    There is none where it would be longer than TLS has room for."""
    name = f"outbound_.{port}_.{subset}_.{hostname}"
    return name if len(name) <= MAX_HOST else ""
