"""WorkloadEntry (networking.istio.io), and the endpoints of a ServiceEntry, which have the same shape."""

from __future__ import annotations

from lateen.resources.base import Spec, Uint32


class WorkloadEntrySpec(Spec, frozen=True):
    address: str = ""
    ports: dict[str, Uint32] = {}
    labels: dict[str, str] = {}
    network: str | None = None
    locality: str | None = None
    weight: Uint32 | None = None
    service_account: str | None = None
