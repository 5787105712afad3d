"""Where rules of Mixer are decided, for people: for each rule and workload, in its proxy or by the mixer, and why.

Comes in: the snapshot. Goes out: entries for the API, in the order of rules.
"""

from __future__ import annotations

from typing import Any

import msgspec

from lateen.mesh.members import ServicesOfWorkloads
from lateen.mesh.model import MeshSnapshot
from lateen.plan.mixer.place import OF_BYTES, forms_of, port_attributes, proxy_attributes
from lateen.plan.mixer.rules import decisions_here
from lateen.plan.planner import proxy_of
from lateen.values.protocol import Protocol

IF_BYTES = " (of what is not HTTP)"


class Placed(msgspec.Struct, frozen=True):
    """One part of a rule at one workload's port: ``where`` is ``proxy``, ``mixer`` or ``nowhere``."""

    rule: str
    file: str
    line: int
    what: str
    workload: str
    port: int
    where: str
    why: str


def placed(snapshot: MeshSnapshot) -> list[Placed]:
    """Every part of every rule at every port of every sidecar."""
    services = ServicesOfWorkloads(snapshot)
    found = []
    for workload in snapshot.workloads.values():
        if workload.is_gateway:
            continue
        proxy = proxy_of(workload)
        reached = services.of(proxy.id, proxy.address)
        ports = {(one.target, one.protocol, form) for one in workload.ports for form in forms_of(one.protocol)}
        for port, protocol, is_http in sorted(ports, key=lambda one: (one[0], one[1].value)):
            known: dict[str, Any] = {
                **proxy_attributes(snapshot, proxy),
                **port_attributes(snapshot, proxy, reached, port),
                **({} if is_http else OF_BYTES),
            }
            for one in decisions_here(snapshot, proxy, known, of_bytes=not is_http):
                origin = one.rule.origin
                name = f"{one.rule.namespace}/{one.rule.name}"
                why = one.why if is_http or protocol is not Protocol.UNSPECIFIED else f"{one.why}{IF_BYTES}"
                found.append(Placed(name, origin.path, origin.line, one.what, workload.name, port, one.where, why))
    return sorted(dict.fromkeys(found), key=lambda one: (one.rule, one.what, one.workload, one.port))
