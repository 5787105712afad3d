"""What is constant about a proxy, as attributes of Mixer: where its requests arrive.

Comes in: the snapshot and the proxy. Goes out: attributes by name, of the proxy and of each of its inbound ports. An
attribute that the workload does not have has None: it is known to be absent.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from lateen.expressions.vocabulary import BUILT_IN
from lateen.mesh.members import member_port
from lateen.mesh.model import MeshSnapshot, Service
from lateen.plan.proxy import Proxy
from lateen.values.names import SpiffeId
from lateen.values.protocol import Protocol

Attributes = dict[str, Any]
OF_BYTES: Attributes = {
    **{name: None for name in BUILT_IN if name.startswith(("request.", "response.", "api."))},
    "context.protocol": "tcp",
}
"""What is known of a connection that passes bytes on."""


def forms_of(protocol: Protocol) -> tuple[bool, ...]:
    """How something arrives at a port: as requests (True), as bytes (False), or both, where nobody says which."""
    return (True, False) if protocol is Protocol.UNSPECIFIED else (protocol.is_http,)


def proxy_attributes(snapshot: MeshSnapshot, proxy: Proxy) -> Attributes:
    """Of everything that arrives at a workload."""
    identity = SpiffeId(snapshot.settings.trust_domain, proxy.namespace, proxy.service_account)
    return {
        **workload_attributes("destination", proxy.id, proxy.namespace, proxy.workload, proxy.labels),
        "destination.serviceAccount": proxy.service_account,
        "destination.principal": identity.principal,
        "destination.user": identity.principal,
        "destination.ip": _ip(proxy.address),
        "context.reporter.kind": "inbound",
        "context.reporter.local": False,
        "context.reporter.uid": uid_of(proxy.id, proxy.namespace),
    }


def workload_attributes(
    side: str, instance: str, namespace: str, workload: str, labels: tuple[tuple[str, str], ...]
) -> Attributes:
    """Of a workload at one side (``source`` or ``destination``); ``instance`` is a replica's id, empty for any."""
    owner = f"kubernetes://apis/apps/v1/namespaces/{namespace}/deployments/{workload}"
    found: Attributes = {
        f"{side}.namespace": namespace,
        f"{side}.labels": dict(labels),
        f"{side}.workload.name": workload,
        f"{side}.workload.namespace": namespace,
        f"{side}.workload.uid": f"istio://{namespace}/workloads/{workload}",
        f"{side}.owner": owner,
    }
    if instance:
        found[f"{side}.name"] = instance
        found[f"{side}.uid"] = uid_of(instance, namespace)
    return found


def port_attributes(snapshot: MeshSnapshot, proxy: Proxy, services: tuple[Service, ...], port: int) -> Attributes:
    """Of what arrives at one of its ports: the service that speaks for it, which is the oldest one."""
    found: Attributes = {"destination.port": port}
    service = next((one for one in services if _serves(snapshot, one, proxy, port)), None)
    names = ("name", "namespace", "host", "uid")
    if service is None:
        return {**found, **{f"destination.service.{name}": None for name in names}}
    values = (service.name, service.namespace, service.hostname, f"istio://{service.namespace}/services/{service.name}")
    return {**found, **{f"destination.service.{name}": value for name, value in zip(names, values, strict=True)}}


def _serves(snapshot: MeshSnapshot, service: Service, proxy: Proxy, number: int) -> bool:
    own = next((one for one in snapshot.members[service.hostname] if one.instance == proxy.id), None)
    own = own or next((one for one in snapshot.members[service.hostname] if one.address == proxy.address), None)
    return own is not None and any(member_port(port, own) == number for port in service.ports)


def uid_of(instance: str, namespace: str) -> str:
    """The uid of a replica."""
    return f"kubernetes://{instance}.{namespace}"


def _ip(text: str) -> Any:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
