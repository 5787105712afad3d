"""A workload's side: its key, its certificate, and their renewal.

The key is made here, in memory, and never leaves: what goes out is a certificate request, and to Envoy, over a socket
of its own user, the SDS secrets. While the authority cannot be reached the present certificate is used on.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from cryptography import x509

from lateen.identity.certificate import PrivateKey, build_request, fingerprint, identity_of, key_pem, new_key
from lateen.identity.csr_client import CertificateUnavailable, request_chain
from lateen.values.names import SpiffeId
from lateen.values.secret import SecretBytes
from lateen.values.unreadable import UNREADABLE

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 15.0
LONGEST_PAUSE_IN_NEED = 1.0
"""Seconds between attempts: while a certificate holds there is time, without one there is not."""
SHORTEST_USE = 1.0
LOOK_INTERVAL = 1.0
"""How often (seconds) it is looked whether it is time, or the authority has changed."""
logger = logging.getLogger(__name__)


class Credentials(msgspec.Struct, frozen=True):
    """A certificate chain, its key and the roots to trust (PEM), with the span in which it holds (Unix seconds)."""

    chain: bytes
    key: SecretBytes
    roots: bytes
    not_before: float
    not_after: float


def judge_chain(chain: Sequence[bytes], key: PrivateKey, identity: SpiffeId, now: float) -> Credentials:
    """The authority's answer (PEM, root last) as credentials, if it is what was asked for.

    Raises CertificateUnavailable.
    """
    try:
        if len(chain) < 2:
            raise ValueError("it has no root")
        certificates = [x509.load_pem_x509_certificate(pem) for pem in chain[:-1]]
        roots = x509.load_pem_x509_certificates(chain[-1])
        for below, above in itertools.pairwise(certificates):
            below.verify_directly_issued_by(above)
        root = _issuer_among(roots, certificates[-1])
        leaf = certificates[0]
        if leaf.public_key() != key.public_key():
            raise ValueError("it is for another key")
        if identity_of(leaf) != identity:
            raise ValueError(f"it is for {identity_of(leaf)}")
    except UNREADABLE as problem:
        raise CertificateUnavailable(f"the authority's certificate is of no use: {problem}") from problem
    not_after = min(link.not_valid_after_utc for link in (*certificates, root)).timestamp()
    if not_after <= now:
        raise CertificateUnavailable("the authority's certificate has already expired; are the clocks right?")
    return Credentials(
        chain=b"".join(chain[:-1]),
        key=key_pem(key),
        roots=chain[-1],
        not_before=leaf.not_valid_before_utc.timestamp(),
        not_after=not_after,
    )


class Description(msgspec.Struct, frozen=True):
    """What can be told of credentials: nothing that is secret. ``roots`` are fingerprints."""

    serial: str
    issuer: str
    roots: tuple[str, ...]


def describe(credentials: Credentials) -> Description:
    """Serial number and issuer of the certificate, and the roots that are trusted with it."""
    leaf = x509.load_pem_x509_certificates(credentials.chain)[0]
    roots = x509.load_pem_x509_certificates(credentials.roots)
    return Description(
        f"{leaf.serial_number:x}", leaf.issuer.rfc4514_string(), tuple(fingerprint(root) for root in roots)
    )


def _issuer_among(roots: Sequence[x509.Certificate], last: x509.Certificate) -> x509.Certificate:
    """The root that signed the last certificate of a chain. Raises ValueError."""
    for root in roots:
        with contextlib.suppress(*UNREADABLE):
            last.verify_directly_issued_by(root)
            return root
    raise ValueError("none of its roots signed it")


def renewal_time(obtained: float, not_after: float, jitter: float) -> float:
    """When to renew (Unix seconds): half-way from ``obtained`` to ``not_after``, and never at once.

    ``jitter`` (0 to 1) spreads it by a tenth of that span.
    """
    return obtained + max((not_after - obtained) * (0.45 + 0.1 * jitter), SHORTEST_USE)


def retry_pause(failures: int, left: float, jitter: float) -> float:
    """How long to wait (seconds) after so many failures in a row.

    ``left`` is for how long the present certificate still holds (seconds): the pauses grow less far as it runs out.
    ``jitter`` (0 to 1) takes off up to a half.
    """
    longest = min(max(left / 10, LONGEST_PAUSE_IN_NEED), LONGEST_PAUSE)
    return min(FIRST_PAUSE * 2.0 ** min(failures - 1, 16), longest) * (1 - jitter / 2)


class WorkloadIdentity:
    """Keeps one workload's credentials fresh and tells ``deliver`` of every new pair.

    ``now`` gives the time (Unix seconds); ``spread`` numbers from 0 to 1, so that many workloads do not ask at once.
    ``generation`` is a text that changes when the authority signs with another certificate or trusts others: then the
    credentials are renewed within a second or two. ``self.generation`` is that of the credentials that are held.
    """

    def __init__(
        self,
        identity: SpiffeId,
        socket: Path,
        token: str,
        deliver: Callable[[Credentials], None],
        now: Callable[[], float],
        spread: Callable[[], float] = random.random,
        generation: Callable[[], str] = str,
        key_kind: str = "ec-p256",
    ) -> None:
        self.identity = identity
        self._socket, self._token, self._deliver, self._now, self._spread = socket, token, deliver, now, spread
        self._generation, self._key_kind = generation, key_kind
        self.credentials: Credentials | None = None
        self.generation = ""
        self.problem = ""

    async def run(self) -> None:
        """Get credentials and renew them for ever. Cancel to stop.

        ``problem`` says why the last attempt failed, and is empty after one that did not.
        """
        failures = 0
        while True:
            generation = self._generation()
            try:
                credentials = await self.obtain()
                self._deliver(credentials)
            except Exception as problem:  # a renewal that ended here would cost the workload its identity
                failures += 1
                self._tell(problem)
                await asyncio.sleep(retry_pause(failures, self._left(), self._spread()))
                continue
            failures, self.problem, self.credentials, self.generation = 0, "", credentials, generation
            await self._sleep_until(renewal_time(self._now(), credentials.not_after, self._spread()))

    def _tell(self, problem: Exception) -> None:
        reason, trace = f"{type(problem).__name__}: {problem}", True
        if isinstance(problem, CertificateUnavailable):
            reason, trace = problem.reason, False
        if self.problem != reason:
            logger.warning("no new certificate for %s: %s", self.identity, reason, exc_info=trace)
        self.problem = reason

    async def obtain(self) -> Credentials:
        """Make a new key and have it certified, once. Raises CertificateUnavailable."""
        key = (
            await asyncio.to_thread(new_key, self._key_kind)
            if self._key_kind.startswith("rsa")
            else new_key(self._key_kind)
        )
        chain = await request_chain(self._socket, self._token, build_request(key, self.identity))
        return judge_chain(chain, key, self.identity, self._now())

    def _left(self) -> float:
        return self.credentials.not_after - self._now() if self.credentials is not None else 0.0

    async def _sleep_until(self, moment: float) -> None:
        """In short naps: the loop's clock stands still while a machine is suspended, that of certificates does not.

        And the authority may change meanwhile.
        """
        while (left := moment - self._now()) > 0:
            if self._generation() != self.generation:
                await asyncio.sleep(self._spread() * LOOK_INTERVAL)
                return
            await asyncio.sleep(min(left, LOOK_INTERVAL))
