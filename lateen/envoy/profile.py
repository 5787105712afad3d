"""What the translation needs to know about the Envoys and the machine that its output is for."""

from __future__ import annotations

import msgspec


class EnvoyProfile(msgspec.Struct, frozen=True):
    """Options of the translation, all of them facts about where the output runs.

    ``system_roots`` is the machine's CA bundle. ``merge_slashes`` and ``escaped_slashes`` (``KEEP_UNCHANGED``,
    ``REJECT_REQUEST``, ``UNESCAPE_AND_REDIRECT``, ``UNESCAPE_AND_FORWARD``) go beyond the dot segments that are always
    normalised. Slashes are merged, which Istio's default does not: many servers read ``//admin`` as ``/admin``, and a
    rule on the one has to hold for the other.
    """

    system_roots: str = "/etc/ssl/certs/ca-certificates.crt"
    normalize_path: bool = True
    merge_slashes: bool = True
    escaped_slashes: str = "KEEP_UNCHANGED"


DEFAULT_PROFILE = EnvoyProfile()


def with_normalization(profile: EnvoyProfile, normalization: str) -> EnvoyProfile:
    """The profile with what a MeshConfig calls ``pathNormalization``: NONE, BASE, MERGE_SLASHES or
    DECODE_AND_MERGE_SLASHES."""
    return msgspec.structs.replace(
        profile,
        normalize_path=normalization != "NONE",
        merge_slashes=normalization.endswith("MERGE_SLASHES"),
        escaped_slashes="UNESCAPE_AND_FORWARD" if normalization.startswith("DECODE") else profile.escaped_slashes,
    )
