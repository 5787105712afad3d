"""Adapters outside Mixer, which answer over gRPC: where they are, and what handlers of them say.

Comes in: ``connection`` of a handler, and the ``adapter`` that it names. Goes out: parameters as those of any handler.
"""

from __future__ import annotations

from typing import Any, Literal

from lateen.resources.base import Duration, Spec
from lateen.resources.mixer.adapters import ALL_TEMPLATES, AdapterKind

OUTSIDE_TEMPLATES = ALL_TEMPLATES - {"kubernetes"}
"""Those that an adapter outside may take; the services of these are known."""


class OAuth(Spec, frozen=True):
    """Client credentials; the secret stands in a file."""

    client_id: str = ""
    client_secret: str = ""
    token_url: str = ""
    scopes: tuple[str, ...] = ()
    endpoint_params: dict[str, str] = {}


class TlsAuthentication(Spec, frozen=True):
    """Paths are those of files. ``custom_header``: where the token goes, in place of authorization."""

    ca_certificates: str = ""
    token_path: str = ""
    oauth: OAuth | None = None
    auth_header: Literal["PLAIN", "BEARER"] | None = None
    custom_header: str = ""
    server_name: str = ""


class MutualAuthentication(Spec, frozen=True):
    """Paths of files."""

    private_key: str = ""
    client_certificate: str = ""
    ca_certificates: str = ""
    server_name: str = ""


class Authentication(Spec, frozen=True):
    """One of the two; none: in plaintext."""

    tls: TlsAuthentication | None = None
    mutual: MutualAuthentication | None = None


class Connection(Spec, frozen=True):
    """Where an adapter outside Mixer answers, and within which time."""

    address: str = ""
    timeout: Duration | None = None
    authentication: Authentication | None = None


class OutsideParams(Spec, frozen=True):
    """``params`` are told to the adapter with each call, as the message ``Params`` of ``config``, a base64 text of
    a FileDescriptorSet."""

    connection: Connection = Connection()
    params: dict[str, Any] = {}
    config: str = ""


def outside(adapter: str) -> AdapterKind:
    """The kind of an adapter that a resource ``adapter`` describes."""
    return AdapterKind(adapter, OutsideParams, OUTSIDE_TEMPLATES)


def short_name(written: str) -> str:
    """A template as it is called: ``metric`` for ``metric.istio-system``."""
    return written.partition(".")[0]
