"""How a listener ends TLS: a ``tls`` block of a Gateway's server (or a Sidecar's ingress), with the secrets it needs.

Comes in: the settings, the snapshot's Secrets and the namespace that they may come from. Goes out: ``ServerTls``, or
CredentialError where a Secret is missing or cannot serve: then nobody must be answered in its place.
"""

from __future__ import annotations

from msgspec.structs import replace

from lateen.mesh import credentials
from lateen.mesh.model import MeshSnapshot
from lateen.plan.tls import MESH_ROOTS, WORKLOAD_CERTIFICATE, SecretRef, ServerTls
from lateen.resources.gateway import ServerTlsSettings, TlsCertificate, usable_ciphers
from lateen.resources.mesh_config import TlsConfig, usable_curves
from lateen.values.names import Origin, ResourceKey

SECRET_SCHEME = "kubernetes://"  # noqa: S105
DEFAULT_MIN_VERSION = "TLSV1_2"
HTTP_ALPN = ("h2", "http/1.1")
_WITH_CLIENT = frozenset({"MUTUAL", "OPTIONAL_MUTUAL"})


def server_tls(
    snapshot: MeshSnapshot, settings: ServerTlsSettings, namespace: str, origin: Origin, *, speaks_http: bool
) -> ServerTls:
    """The TLS of one listener in a mode that ends it. Secrets are those of ``namespace`` alone.

    Raises CredentialError for a Secret that is missing or wrong.
    """
    mode = settings.mode or "SIMPLE"
    said = snapshot.mesh_config.tls_defaults or TlsConfig()
    common = ServerTls(
        certificate=WORKLOAD_CERTIFICATE,
        origin=origin,
        alpn=HTTP_ALPN if speaks_http else (),
        min_version=tls_version(settings.min_protocol_version)
        or tls_version(said.min_protocol_version)
        or DEFAULT_MIN_VERSION,
        max_version=tls_version(settings.max_protocol_version),
        cipher_suites=usable_ciphers(settings.cipher_suites) or usable_ciphers(said.cipher_suites),
        curves=usable_curves(said.ecdh_curves),
    )
    if mode == "ISTIO_MUTUAL":
        return replace(
            common,
            min_version=tls_version(settings.min_protocol_version) or DEFAULT_MIN_VERSION,
            cipher_suites=usable_ciphers(settings.cipher_suites),
            curves=(),
            roots=MESH_ROOTS,
            require_client=True,
            client_trust_domains=snapshot.settings.client_trust_domains,
        )
    certificates = _certificates(snapshot, settings, namespace)
    own = replace(common, certificate=certificates[0], alternative=certificates[1] if certificates[1:] else None)
    if mode not in _WITH_CLIENT:
        return own
    return replace(
        own,
        roots=_roots(snapshot, settings, namespace),
        require_client=mode == "MUTUAL",
        client_sans=() if settings.insecure_skip_verify else settings.subject_alt_names,
        client_spki=settings.verify_certificate_spki,
        client_hashes=settings.verify_certificate_hash,
        verify=not settings.insecure_skip_verify,
    )


def tls_version(text: str | None) -> str:
    """The version, empty where none is said."""
    return "" if text in (None, "", "TLS_AUTO") else str(text)


def _names(settings: ServerTlsSettings) -> tuple[str, ...]:
    return (settings.credential_name,) if settings.credential_name else settings.credential_names


def _key(namespace: str, name: str) -> ResourceKey:
    return ResourceKey("Secret", namespace, name.removeprefix(SECRET_SCHEME))


def _certificates(snapshot: MeshSnapshot, settings: ServerTlsSettings, namespace: str) -> tuple[SecretRef, ...]:
    found = []
    for name in _names(settings):
        key = _key(namespace, name)
        credentials.certificate(snapshot.secrets, key)
        found.append(SecretRef(f"{SECRET_SCHEME}{key.name}", source=key))
    if found:
        return tuple(found)
    alone = TlsCertificate(settings.server_certificate, settings.private_key)
    return tuple(
        _file_certificate(pair.server_certificate or "", pair.private_key or "")
        for pair in settings.tls_certificates or (alone,)
    )


def _file_certificate(certificate: str, key: str) -> SecretRef:
    return SecretRef(f"file-cert:{certificate}~{key}", certificate_file=certificate, key_file=key)


def _roots(snapshot: MeshSnapshot, settings: ServerTlsSettings, namespace: str) -> SecretRef:
    """Whom clients are verified by: ``caCertCredentialName``, else what belongs to the certificate."""
    secrets = snapshot.secrets
    if settings.ca_cert_credential_name:
        key = _key(namespace, settings.ca_cert_credential_name)
        name = f"{SECRET_SCHEME}{key.name}/ca"
    elif _names(settings):
        own = _key(namespace, _names(settings)[0])
        key, name = credentials.bundle_key(secrets, own), f"{SECRET_SCHEME}{own.name}{credentials.CA_SUFFIX}"
    else:
        pair = next((pair for pair in settings.tls_certificates if pair.ca_certificates), None)
        path = settings.ca_certificates or (pair.ca_certificates if pair else None) or ""
        crl = settings.ca_crl or ""
        return SecretRef(f"file-root:{path}{'~' if crl else ''}{crl}", ca_file=path, crl_file=crl)
    credentials.trust_bundle(secrets, key)
    return SecretRef(name, source=key, roots=True)
