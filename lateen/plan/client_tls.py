"""TLS as a client of a service: what a DestinationRule says, or mesh TLS by itself.

Comes in: the service, its port and the block that holds. Goes out: ``ClientTls``. Credentials by name are Secrets of
the client's namespace; their roots are those of the Secret NAME-cacert if there is one, else its own.
"""

from __future__ import annotations

import msgspec

from lateen.mesh.credentials import CA_SUFFIX, bundle_key
from lateen.mesh.model import MeshSnapshot, Service, ServicePort
from lateen.plan.names import mesh_sni
from lateen.plan.server_tls import DEFAULT_MIN_VERSION, SECRET_SCHEME, tls_version
from lateen.plan.tls import MESH_ROOTS, WORKLOAD_CERTIFICATE, ClientTls, SecretRef
from lateen.resources.destination_rule import ClientTlsSettings
from lateen.resources.gateway import usable_ciphers
from lateen.resources.mesh_config import TlsConfig, usable_curves
from lateen.values.names import BUILT_IN, Origin, ResourceKey, SpiffeId

MESH_ALPN_HTTP1 = ("istio-http/1.1", "istio", "http/1.1")
MESH_ALPN_HTTP2 = ("istio-h2", "istio", "h2")
MESH_ALPN_SNIFFED = ("istio-h2", "istio-http/1.1", "istio")
"""Says HTTP but not of which version: the server chooses none of these, and reads the version from the first bytes."""
MESH_ALPN_TCP = ("istio",)
_MESH_ALPN = {
    "http1": MESH_ALPN_HTTP1,
    "http2": MESH_ALPN_HTTP2,
    "client": MESH_ALPN_SNIFFED,
    "tcp": MESH_ALPN_TCP,
}


def client_tls(
    snapshot: MeshSnapshot,
    service: Service,
    port: ServicePort,
    subset: str,
    settings: ClientTlsSettings | None,
    origin: Origin,
    protocol: str,
    client_namespace: str,
    *,
    holds_credentials: bool,
) -> ClientTls | None:
    """What the client does towards a service's port; None: plain text.

    ``holds_credentials``: a ``credentialName`` holds here, as at gateways and where a rule selects workloads.
    """
    if settings is None:
        if service.external or not snapshot.settings.auto_mtls:
            return None
        return _mesh_tls(snapshot, service, port, subset, BUILT_IN, protocol, automatic=True, sans=())
    mode = settings.mode or "DISABLE"
    if mode == "DISABLE":
        return None
    if mode == "ISTIO_MUTUAL":
        sans = tuple(settings.subject_alt_names)
        found = _mesh_tls(snapshot, service, port, subset, origin, protocol, automatic=False, sans=sans)
        return msgspec.structs.replace(found, sni=settings.sni) if settings.sni else found
    own, roots = _own(snapshot, settings, client_namespace, holds_credentials=holds_credentials)
    said = snapshot.mesh_config.tls_defaults or TlsConfig()
    return ClientTls(
        origin=origin,
        certificate=own if mode == "MUTUAL" else None,
        roots=roots,
        system_roots=roots is None,
        crl_file=settings.ca_crl or "",
        verify=not settings.insecure_skip_verify,
        sans=tuple(settings.subject_alt_names) or service.sans,
        sni=settings.sni or "",
        auto_sni=not settings.sni,
        alpn=("h2",) if protocol == "http2" else (("http/1.1",) if protocol == "http1" else ()),
        min_version=tls_version(said.min_protocol_version) or DEFAULT_MIN_VERSION,
        cipher_suites=usable_ciphers(said.cipher_suites),
        curves=usable_curves(said.ecdh_curves),
    )


def _own(
    snapshot: MeshSnapshot, settings: ClientTlsSettings, namespace: str, *, holds_credentials: bool
) -> tuple[SecretRef | None, SecretRef | None]:
    """The client's certificate and the roots that it verifies by (None: the machine's)."""
    if settings.credential_name:
        if not holds_credentials:
            return None, None
        name = settings.credential_name.removeprefix(SECRET_SCHEME)
        key = ResourceKey("Secret", namespace, name)
        return (
            SecretRef(f"{SECRET_SCHEME}{name}", source=key),
            SecretRef(f"{SECRET_SCHEME}{name}{CA_SUFFIX}", source=bundle_key(snapshot.secrets, key), roots=True),
        )
    certificate, key_file = settings.client_certificate or "", settings.private_key or ""
    own = SecretRef(f"file-cert:{certificate}~{key_file}", certificate_file=certificate, key_file=key_file)
    ca = settings.ca_certificates or ""
    return own, SecretRef(f"file-root:{ca}", ca_file=ca) if ca and ca != "system" else None


def _mesh_tls(
    snapshot: MeshSnapshot,
    service: Service,
    port: ServicePort,
    subset: str,
    origin: Origin,
    protocol: str,
    *,
    automatic: bool,
    sans: tuple[str, ...],
) -> ClientTls:
    """Mesh TLS: the server has to be one of the identities that the service's members run as."""
    members = snapshot.members.get(service.hostname, ())
    identities = {
        str(SpiffeId(domain, member.namespace, member.service_account))
        for member in members
        for domain in snapshot.settings.trust_domains
        if member.service_account
    }
    alpn = _MESH_ALPN[protocol]
    return ClientTls(
        origin=origin,
        certificate=WORKLOAD_CERTIFICATE,
        roots=MESH_ROOTS,
        sans=sans or tuple(sorted(identities | set(service.sans))),
        sni=mesh_sni(port.number, subset, service.hostname),
        alpn=alpn,
        automatic=automatic,
    )
