"""What the translation needs to know about the Envoys and the machine that its output is for."""

from __future__ import annotations

import msgspec


class EnvoyProfile(msgspec.Struct, frozen=True):
    """Options of the translation, all of them facts about where the output runs.

    ``system_roots`` is the machine's CA bundle. ``merge_slashes`` and ``escaped_slashes`` (``KEEP_UNCHANGED``,
    ``REJECT_REQUEST``, ``UNESCAPE_AND_REDIRECT``, ``UNESCAPE_AND_FORWARD``) go beyond the dot segments that are always
    normalised; their defaults are Istio's BASE.
    """

    system_roots: str = "/etc/ssl/certs/ca-certificates.crt"
    merge_slashes: bool = False
    escaped_slashes: str = "KEEP_UNCHANGED"


DEFAULT_PROFILE = EnvoyProfile()
