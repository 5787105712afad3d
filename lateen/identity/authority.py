"""The certificate authority: signs what a caller has proved to be, and nothing that it merely asks for."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

from lateen.identity.certificate import build_workload, certificate_pem, read_request
from lateen.identity.keystore import load_or_create
from lateen.values.names import SpiffeId

DEFAULT_LIFE = datetime.timedelta(hours=24)
MIN_LIFE = datetime.timedelta(minutes=1)


class Authority:
    """A self-signed root in a folder. ``now`` gives the time, in UTC."""

    def __init__(
        self,
        folder: Path,
        trust_domain: str,
        now: Callable[[], datetime.datetime],
        life: datetime.timedelta = DEFAULT_LIFE,
    ) -> None:
        self._now = now
        self._life = life
        self._root, self._key = load_or_create(folder, trust_domain, now())

    @property
    def root_pem(self) -> bytes:
        """The root certificate, as every workload trusts it."""
        return certificate_pem(self._root)

    def sign(self, request: bytes, identity: SpiffeId, wanted: datetime.timedelta | None = None) -> list[bytes]:
        """The chain for a request, leaf first and root last (PEM). A wanted life only ever shortens.

        Raises RequestRefused.
        """
        public = read_request(request)
        life = min(max(wanted, MIN_LIFE), self._life) if wanted else self._life
        leaf = build_workload(public, identity, self._root, self._key, self._now(), life)
        return [certificate_pem(leaf), self.root_pem]
