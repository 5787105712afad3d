"""The certificate authority: signs what a caller has proved to be, and nothing that it merely asks for.

Comes in: certificate requests, each with the identity that its caller proved. Goes out: chains that end at the roots.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from cryptography import x509

from lateen.identity.certificate import (
    RequestRefused,
    build_workload,
    certificate_pem,
    fingerprint,
    key_pem,
    new_key,
    read_request,
)
from lateen.identity.keystore import KeystoreError
from lateen.identity.plugged import marks, reload
from lateen.identity.roots import Holding, Phase, load_holding, next_step, step_back
from lateen.values.names import SpiffeId

DEFAULT_LIFE = datetime.timedelta(hours=24)
MIN_LIFE = datetime.timedelta(minutes=1)
EARLY = datetime.timedelta(days=30)
_SEGMENT = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,253}")


class HeldCertificate(msgspec.Struct, frozen=True):
    """A certificate of the authority, as it is told. Times are Unix seconds; ``signs``: it signs workloads now."""

    subject: str
    fingerprint: str
    not_before: float
    not_after: float
    signs: bool
    is_root: bool
    runs_out: bool


class AuthorityStatus(msgspec.Struct, frozen=True):
    """How the authority stands. ``life`` is that of a workload's certificate, in seconds."""

    phase: str
    generation: str
    trust_domain: str
    life: float
    signed: int
    refused: int
    certificates: tuple[HeldCertificate, ...]


class Authority:
    """An authority in a folder, for one trust domain: with a root of its own, or one that is plugged in.

    ``now`` gives the time, in UTC. Raises KeystoreError where the folder holds something that cannot be trusted.
    ``problem`` says why files that were exchanged meanwhile are not used, and is empty while they are.
    """

    def __init__(
        self,
        folder: Path,
        trust_domain: str,
        now: Callable[[], datetime.datetime],
        life: datetime.timedelta = DEFAULT_LIFE,
    ) -> None:
        self._folder = folder
        self._now = now
        self._life = life
        self._trust_domain = trust_domain
        self._signed = self._refused = 0
        self._marks = marks(folder)
        self._holding = self._load()
        self.problem = ""

    @property
    def root_pem(self) -> bytes:
        """The root certificates, as every workload trusts them."""
        return b"".join(certificate_pem(root) for root in self._holding.roots)

    @property
    def phase(self) -> Phase:
        return self._holding.phase

    @property
    def generation(self) -> str:
        """Changes whenever another certificate signs or others are trusted: then workloads have to ask again."""
        return self._holding.generation

    def sign(
        self, request: bytes, identity: SpiffeId, wanted: datetime.timedelta | None = None, told: str = ""
    ) -> list[bytes]:
        """The chain for a request, leaf first and all roots last (PEM). A wanted life only ever shortens.

        ``told``: what the workload is called (``told_names``), as far as its proof says that. Raises RequestRefused.
        """
        try:
            self.check_identity(identity)
            public = read_request(request)
        except RequestRefused:
            self._refused += 1
            raise
        life = min(max(wanted, MIN_LIFE), self._life) if wanted else self._life
        now, issuer = self._now(), self._holding.issuer
        left = issuer.expires - now
        if left <= datetime.timedelta():
            self._refused += 1
            raise RequestRefused(f"the authority's own certificate ran out on {issuer.expires:%Y-%m-%d %H:%M} UTC")
        told = told if self._holding.may_describe else ""
        leaf = build_workload(public, identity, issuer.certificate, issuer.key, now, min(life, left), told=told)
        self._signed += 1
        return [certificate_pem(leaf), *(certificate_pem(link) for link in issuer.above), self.root_pem]

    def server_pair(self, identity: SpiffeId, hosts: Sequence[str]) -> tuple[bytes, bytes, float]:
        """Key and chain (PEM) for a server of the control plane, and until when it holds (Unix seconds)."""
        key, issuer, now = new_key(), self._holding.issuer, self._now()
        life = min(self._life, issuer.expires - now)
        leaf = build_workload(key.public_key(), identity, issuer.certificate, issuer.key, now, life, hosts)
        chain = b"".join(certificate_pem(link) for link in (leaf, *issuer.above))
        return bytes(key_pem(key)), chain, leaf.not_valid_after_utc.timestamp()

    @property
    def trust_domain(self) -> str:
        return self._trust_domain

    def next_step(self) -> Phase:
        """Do the next step of a rotation of roots. Raises KeystoreError, WrongStep."""
        phase = next_step(self._folder, self._trust_domain, self._now())
        self._holding = self._load()
        return phase

    def step_back(self) -> Phase:
        """Undo the last step of a rotation. Raises KeystoreError, WrongStep."""
        phase = step_back(self._folder)
        self._holding = self._load()
        return phase

    def follow(self) -> bool:
        """Take up what an operator has exchanged of the files that are plugged in: whether anything changed by it.

        What is no good, or not whole yet, is ``problem``, and the authority goes on as it was.
        """
        if self.phase is not Phase.PLUGGED_IN or (seen := marks(self._folder)) == self._marks:
            return False
        self._marks, before = seen, self._holding
        try:
            issuer, roots = reload(self._folder, self._trust_domain, self._now(), before.issuer, before.roots)
        except KeystoreError as problem:
            self.problem = str(problem)
            return False
        self.problem = ""
        self._holding = Holding(issuer, roots, Phase.PLUGGED_IN)
        return self._holding.generation != before.generation

    def status(self) -> AuthorityStatus:
        """How it stands now."""
        issuer = self._holding.issuer
        links = (issuer.certificate, *issuer.above, *self._holding.roots)
        return AuthorityStatus(
            phase=self.phase.value,
            generation=self.generation,
            trust_domain=self._trust_domain,
            life=self._life.total_seconds(),
            signed=self._signed,
            refused=self._refused,
            certificates=tuple(self._told(link) for link in dict.fromkeys(links)),
        )

    def _told(self, link: x509.Certificate) -> HeldCertificate:
        return HeldCertificate(
            subject=link.subject.rfc4514_string(),
            fingerprint=fingerprint(link),
            not_before=link.not_valid_before_utc.timestamp(),
            not_after=link.not_valid_after_utc.timestamp(),
            signs=link == self._holding.issuer.certificate,
            is_root=link in self._holding.roots,
            runs_out=runs_out(link, self._now()),
        )

    def _load(self) -> Holding:
        return load_holding(self._folder, self._trust_domain, self._now())

    def check_identity(self, identity: SpiffeId) -> None:
        """Raises RequestRefused for an identity that is not of this mesh, or that would read as someone else's."""
        if identity.trust_domain != self._trust_domain:
            raise RequestRefused(f"this authority signs for {self._trust_domain}, not for {identity.trust_domain}")
        for part in (identity.namespace, identity.service_account):
            if not _SEGMENT.fullmatch(part):
                raise RequestRefused(f"{part!r} cannot be part of an identity")


def runs_out(certificate: x509.Certificate, now: datetime.datetime) -> bool:
    """Whether it is time to exchange an authority's certificate: a fifth of its life is left, or 30 days."""
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return certificate.not_valid_after_utc - now < min(life / 5, EARLY)
