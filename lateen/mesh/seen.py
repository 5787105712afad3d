"""The mesh as one client sees it, where several namespaces define a host.

Comes in: the snapshot and the client's scope. Goes out: the snapshot with one service for each host: among those that
are exported to the client and that its Sidecar imports, the one of its own namespace; else a Kubernetes Service; else
that of the first namespace by alphabet.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from lateen.mesh.model import Contender, MeshSnapshot
from lateen.mesh.visibility import exported


def seen_from(snapshot: MeshSnapshot, namespace: str, sees: Callable[[str, str], bool]) -> MeshSnapshot:
    """``sees`` says whether (namespace, host) is imported. The same snapshot where no host is contested."""
    if not snapshot.contested:
        return snapshot
    chosen = {}
    for host, found in snapshot.contested.items():
        visible = [
            one
            for one in found
            if exported(one.service.export_to, one.service.namespace, namespace) and sees(one.service.namespace, host)
        ]
        if visible:
            chosen[host] = min(visible, key=lambda one: _precedence(one, namespace))
    services = {**snapshot.services, **{host: one.service for host, one in chosen.items()}}
    members = {**snapshot.members, **{host: one.members for host, one in chosen.items()}}
    return msgspec.structs.replace(snapshot, services=services, members=members)


def _precedence(one: Contender, namespace: str) -> tuple[bool, bool, str]:
    service = one.service
    return (service.namespace != namespace, service.origin.kind != "Service", service.namespace)
