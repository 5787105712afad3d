"""Other meshes that this one trusts: ``caCertificates`` of a MeshConfig.

Comes in: the MeshConfig and the mesh's own trust domains. Goes out: the roots of each trust domain that is not the
mesh's own, each of which counts for identities of that domain alone, and further roots of its own. An entry that names
no trust domain is for the mesh's own.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from lateen.mesh.model import MeshSnapshot
from lateen.resources.mesh_config import MeshConfigSpec
from lateen.values.pem import read_certificates, write_pem


class Federation(msgspec.Struct, frozen=True):
    """``own`` are further roots (PEM) of the mesh itself, ``domains`` pairs of another trust domain and its roots."""

    own: str = ""
    domains: tuple[tuple[str, str], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The other trust domains."""
        return tuple(name for name, _ in self.domains)


def federation(config: MeshConfigSpec, own: Iterable[str]) -> Federation:
    """What a MeshConfig says of others."""
    mine = frozenset(own)
    further: list[str] = []
    domains: dict[str, list[str]] = {}
    for entry in config.ca_certificates:
        pem = write_pem(read_certificates(entry.pem.encode())).decode() if entry.pem else ""
        if not entry.trust_domains or mine & set(entry.trust_domains):
            further.append(pem)
        for name in entry.trust_domains:
            if name not in mine:
                domains.setdefault(name, []).append(pem)
    return Federation("".join(further), tuple((name, "".join(pems)) for name, pems in sorted(domains.items())))


class TrustedDomains(msgspec.Struct, frozen=True):
    """What node agents need to know: the names of the mesh's own trust domain, and whom else it trusts."""

    own: tuple[str, ...] = ()
    others: Federation = Federation()


def trusted_domains(snapshot: MeshSnapshot | None) -> TrustedDomains:
    """Whom a mesh trusts; nobody before there is one."""
    if snapshot is None:
        return TrustedDomains()
    names = snapshot.settings.trust_domains
    return TrustedDomains(names, federation(snapshot.mesh_config, names))
