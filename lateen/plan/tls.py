"""TLS in a plan: who proves what to whom. Names of secrets alone, never keys."""

from __future__ import annotations

import msgspec

from lateen.values.names import Origin, ResourceKey


class SecretRef(msgspec.Struct, frozen=True):
    """A certificate or trust bundle by its SDS name. ``local`` ones come from the workload's own agent
    (``default``, ``ROOTCA``); the others over ADS from the Secret resource ``source``, or from the named files.

    ``roots``: it is the trust bundle of ``source`` that is meant, and not its certificate.
    """

    name: str
    local: bool = False
    source: ResourceKey | None = None
    certificate_file: str = ""
    key_file: str = ""
    ca_file: str = ""
    crl_file: str = ""
    roots: bool = False


WORKLOAD_CERTIFICATE = SecretRef("default", local=True)
MESH_ROOTS = SecretRef("ROOTCA", local=True)


class ServerTls(msgspec.Struct, frozen=True):
    """TLS as a server. ``roots`` set: client certificates are verified, and required if ``require_client``.

    ``client_trust_domains`` limits mesh clients to SPIFFE ids of these trust domains, ``client_sans`` clients to one of
    these names; ``client_spki`` (base64) and ``client_hashes`` (hexadecimal) are SHA-256 of the key and of the
    certificate, one of which has to fit. ``verify`` False: whoever signed it. ``alternative`` is a second certificate
    with a key of another kind.
    """

    certificate: SecretRef
    origin: Origin
    roots: SecretRef | None = None
    require_client: bool = False
    client_trust_domains: tuple[str, ...] = ()
    client_sans: tuple[str, ...] = ()
    client_spki: tuple[str, ...] = ()
    client_hashes: tuple[str, ...] = ()
    verify: bool = True
    alternative: SecretRef | None = None
    alpn: tuple[str, ...] = ()
    min_version: str = "TLSV1_2"
    max_version: str = ""
    cipher_suites: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()

    @property
    def secrets(self) -> tuple[SecretRef, ...]:
        """Everything that has to be there before a client can be answered."""
        return tuple(ref for ref in (self.certificate, self.alternative, self.roots) if ref is not None)


class ClientTls(msgspec.Struct, frozen=True):
    """TLS as a client. ``sans`` are exact subject names of the server, any one of which must match.

    ``automatic``: only towards endpoints that speak mesh TLS (``Endpoint.mesh_tls``), plain text to the others.
    ``system_roots``: verify against the machine's CA bundle.
    ``crl_file`` lists certificates that were taken back. ``verify`` False: accept any certificate.
    """

    origin: Origin
    certificate: SecretRef | None = None
    roots: SecretRef | None = None
    system_roots: bool = False
    crl_file: str = ""
    verify: bool = True
    sans: tuple[str, ...] = ()
    sni: str = ""
    auto_sni: bool = False
    alpn: tuple[str, ...] = ()
    automatic: bool = False
    min_version: str = "TLSV1_2"
    cipher_suites: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()
