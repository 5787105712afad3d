"""Who a token belongs to, as the supervisor wrote it down.

Comes in: ``tokens.json``. Goes out: the proxy and the identity that a token proves. The file is read again when a
token is not known, so that proxies that were added meanwhile are let in; a token that was taken out stays out.
"""

from __future__ import annotations

import hmac
from pathlib import Path

import msgspec

from lateen.values.names import SpiffeId


class TokenOwner(msgspec.Struct, frozen=True):
    """Whom a token was given to. ``told``: what its workload is called (``told_names``)."""

    id: str
    namespace: str
    service_account: str
    type: str
    told: str = ""


class TokenBook:
    """The tokens of one run directory."""

    def __init__(self, file: Path, trust_domain: str) -> None:
        self._file = file
        self._trust_domain = trust_domain
        self._mark: tuple[int, int, int] | None = None
        self._owners: dict[str, TokenOwner] = {}

    def proxy(self, token: str) -> str | None:
        """The id of the proxy that a token belongs to."""
        owner = self._find(token)
        return owner.id if owner is not None else None

    def workload(self, token: str) -> tuple[SpiffeId, str] | None:
        """The workload that a token proves: its identity, and what it is called."""
        owner = self._find(token)
        if owner is None:
            return None
        return SpiffeId(self._trust_domain, owner.namespace, owner.service_account), owner.told

    def _find(self, token: str) -> TokenOwner | None:
        if not token:
            return None
        self._refresh()
        for known, owner in self._owners.items():
            if hmac.compare_digest(known.encode(), token.encode()):
                return owner
        return None

    def _refresh(self) -> None:
        try:
            status = self._file.stat()
            mark = (status.st_mtime_ns, status.st_size, status.st_ino)
            if mark != self._mark:
                self._owners = msgspec.json.decode(self._file.read_bytes(), type=dict[str, TokenOwner])
                self._mark = mark
        except (OSError, msgspec.MsgspecError):
            return
