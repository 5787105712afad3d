"""The registry as a source: which workloads run on this machine, as their supervisor wrote it down.

Comes in: ``<id>.json`` files, one a replica or gateway. Goes out: ``Workload`` values. The supervisor writes each file
atomically, so that a control plane that starts again knows at once what runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from lateen.mesh.model import Workload, WorkloadPort
from lateen.sources.files import FileEvent
from lateen.values.protocol import Protocol, parse_protocol


class _Port(msgspec.Struct, frozen=True):
    name: str
    number: int
    target: int
    protocol: str = ""


class _Network(msgspec.Struct, frozen=True):
    mode: str
    workload_netns: str = ""
    mesh_netns: str = ""
    prefix: int = 0


class RegistryEntry(msgspec.Struct, frozen=True):
    """The shape of one file."""

    id: str
    type: str
    namespace: str
    workload: str
    service_account: str
    network: _Network
    address: str = ""
    labels: Mapping[str, str] = {}
    services: tuple[str, ...] = ()
    ports: tuple[_Port, ...] = ()
    ready: bool = False
    bind: str = ""
    annotations: Mapping[str, str] = {}


_DECODER = msgspec.json.Decoder(RegistryEntry)


def read_entry(data: bytes) -> Workload:
    """Read one file. Raises msgspec.ValidationError or msgspec.DecodeError where it is not of the shape."""
    entry = _DECODER.decode(data)
    return Workload(
        id=entry.id,
        namespace=entry.namespace,
        name=entry.workload,
        labels=tuple(sorted(entry.labels.items())),
        service_account=entry.service_account,
        address=entry.address,
        is_gateway=entry.type == "gateway",
        ports=tuple(
            WorkloadPort(port.name, port.number, port.target, parse_protocol(port.protocol) or Protocol.UNSPECIFIED)
            for port in entry.ports
        ),
        ready=entry.ready,
        network=entry.network.mode,
        prefix=entry.network.prefix,
        workload_netns=entry.network.workload_netns,
        mesh_netns=entry.network.mesh_netns,
        bind=entry.bind,
        annotations=tuple(sorted(entry.annotations.items())),
    )


def apply_registry(known: Mapping[str, Workload], events: Iterable[FileEvent]) -> dict[str, Workload]:
    """The workloads by file after some files changed; a file that is not of the shape keeps its last good entry."""
    result = dict(known)
    for event in events:
        if event.data is None:
            result.pop(event.path, None)
            continue
        try:
            result[event.path] = read_entry(event.data)
        except (msgspec.DecodeError, msgspec.ValidationError):
            continue
    return result
