"""Gateway (networking.istio.io)."""

from __future__ import annotations

from typing import Literal

from lateen.resources.base import Spec, Uint32

TlsVersion = Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"]


class GatewayPort(Spec, frozen=True):
    number: Uint32 = 0
    protocol: str = ""
    name: str = ""
    target_port: Uint32 | None = None


class TlsCertificate(Spec, frozen=True):
    server_certificate: str | None = None
    private_key: str | None = None
    ca_certificates: str | None = None


class ServerTlsSettings(Spec, frozen=True):
    https_redirect: bool | None = None
    mode: Literal["PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"] | None = (
        None
    )
    server_certificate: str | None = None
    private_key: str | None = None
    ca_certificates: str | None = None
    ca_crl: str | None = None
    credential_name: str | None = None
    credential_names: tuple[str, ...] = ()
    ca_cert_credential_name: str | None = None
    tls_certificates: tuple[TlsCertificate, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
    verify_certificate_spki: tuple[str, ...] = ()
    verify_certificate_hash: tuple[str, ...] = ()
    min_protocol_version: TlsVersion | None = None
    max_protocol_version: TlsVersion | None = None
    cipher_suites: tuple[str, ...] = ()
    insecure_skip_verify: bool | None = None


class Server(Spec, frozen=True):
    port: GatewayPort = GatewayPort()
    bind: str | None = None
    hosts: tuple[str, ...] = ()
    tls: ServerTlsSettings | None = None
    default_endpoint: str | None = None
    name: str | None = None


class GatewaySpec(Spec, frozen=True):
    servers: tuple[Server, ...] = ()
    selector: dict[str, str] = {}
