"""The certificate authority: signs what a caller has proved to be, and nothing that it merely asks for.

Comes in: certificate requests, each with the identity that its caller proved. Goes out: chains that end at the root.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from pathlib import Path

from lateen.identity.certificate import RequestRefused, build_workload, certificate_pem, read_request
from lateen.identity.keystore import load_or_create
from lateen.values.names import SpiffeId

DEFAULT_LIFE = datetime.timedelta(hours=24)
MIN_LIFE = datetime.timedelta(minutes=1)
_SEGMENT = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,253}")


class Authority:
    """A self-signed root in a folder, for one trust domain. ``now`` gives the time, in UTC.

    Raises KeystoreError where the folder holds something that cannot be trusted.
    """

    def __init__(
        self,
        folder: Path,
        trust_domain: str,
        now: Callable[[], datetime.datetime],
        life: datetime.timedelta = DEFAULT_LIFE,
    ) -> None:
        self._now = now
        self._life = life
        self._trust_domain = trust_domain
        self._root, self._key = load_or_create(folder, trust_domain, now())

    @property
    def root_pem(self) -> bytes:
        """The root certificate, as every workload trusts it."""
        return certificate_pem(self._root)

    def sign(self, request: bytes, identity: SpiffeId, wanted: datetime.timedelta | None = None) -> list[bytes]:
        """The chain for a request, leaf first and root last (PEM). A wanted life only ever shortens.

        Raises RequestRefused.
        """
        self._check_identity(identity)
        public = read_request(request)
        life = min(max(wanted, MIN_LIFE), self._life) if wanted else self._life
        leaf = build_workload(public, identity, self._root, self._key, self._now(), life)
        return [certificate_pem(leaf), self.root_pem]

    def _check_identity(self, identity: SpiffeId) -> None:
        """A part that held a separator would make the URI read as someone else's."""
        if identity.trust_domain != self._trust_domain:
            raise RequestRefused(f"this authority signs for {self._trust_domain}, not for {identity.trust_domain}")
        for part in (identity.namespace, identity.service_account):
            if not _SEGMENT.fullmatch(part):
                raise RequestRefused(f"{part!r} cannot be part of an identity")
