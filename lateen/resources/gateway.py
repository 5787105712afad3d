"""Gateway (networking.istio.io)."""

from __future__ import annotations

from typing import Literal

from lateen.resources.base import Spec, Uint32

TlsVersion = Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"]


CIPHERS = frozenset(
    {
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-RSA-AES128-SHA",
        "ECDHE-ECDSA-AES256-SHA",
        "ECDHE-RSA-AES256-SHA",
        "AES128-GCM-SHA256",
        "AES256-GCM-SHA384",
        "AES128-SHA",
        "AES256-SHA",
        "DES-CBC3-SHA",
    }
)
"""The names that the proxy knows, for TLS 1.2 and before; those of TLS 1.3 cannot be chosen."""


DEFAULT_CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
)


def named_ciphers(entry: str) -> tuple[str, ...]:
    """The cipher suites that one entry of ``cipherSuites`` speaks of, empty where it is nothing that is known.

    An entry is a name, ``ALL``, names with equal rank ``[A|B]``, or one of these after ``-``, ``!`` or ``+``.
    """
    text = entry[1:] if entry[:1] in ("-", "!", "+") else entry
    if text == "ALL":
        return tuple(sorted(CIPHERS))
    names = text[1:-1].split("|") if text.startswith("[") and text.endswith("]") else [text]
    return tuple(names) if CIPHERS.issuperset(names) else ()


def usable_ciphers(entries: tuple[str, ...]) -> tuple[str, ...]:
    """The cipher suites that ``cipherSuites`` comes to, each once, in order; none where it names none that is known.

    ``-`` and ``!`` take away, at the beginning of the list from what the proxy offers by itself; ``+`` moves to the
    end. The proxy refuses a listener for a name that it does not know, so those are left out.
    """
    known = [entry for entry in entries if named_ciphers(entry)]
    chosen = list(DEFAULT_CIPHERS) if known and known[0][0] in "-!" else []
    for entry in known:
        names = named_ciphers(entry)
        if entry[0] in "-!":
            chosen = [name for name in chosen if name not in names]
        elif entry[0] == "+":
            moved = [name for name in chosen if name in names]
            chosen = [name for name in chosen if name not in names] + moved
        else:
            chosen += [name for name in names if name not in chosen]
    return tuple(chosen)


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
