"""What the command line of ``lateen up`` says beside the project: kept apart, as it is needed before all else is."""

from __future__ import annotations

import msgspec


class UpOptions(msgspec.Struct, frozen=True):
    """``metrics`` is ``host:port`` or empty, ``mesh_config`` the absolute path of a file or empty.

    ``jwks_allow`` are networks that keys of tokens may be fetched from, beside those that the project names.
    """

    capture: str
    metrics: str = ""
    mesh_config: str = ""
    jwks_allow: tuple[str, ...] = ()
