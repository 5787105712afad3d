"""A workload's side: its key, its certificate, and their renewal.

The key is made here, in memory, and never leaves: what goes out is a certificate request, and to Envoy, over a socket
of its own user, the SDS secrets. While the authority cannot be reached the present certificate is used on.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import grpc
import grpc.aio
import msgspec
from cryptography import x509

from lateen.identity.certificate import build_request, key_pem, new_key
from lateen.identity.csr_messages import METHOD, CertificateRequest, CertificateResponse
from lateen.values.names import SpiffeId
from lateen.values.secret import SecretBytes

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 15.0
CALL_TIMEOUT = 5.0


class Credentials(msgspec.Struct, frozen=True):
    """A certificate chain, its key and the roots to trust (PEM), with the span in which it holds (Unix seconds)."""

    chain: bytes
    key: SecretBytes
    roots: bytes
    not_before: float
    not_after: float


class AuthorityUnreachable(Exception):
    """The authority did not answer, or refused; ``refused`` tells which."""

    def __init__(self, reason: str, refused: bool) -> None:
        super().__init__(reason)
        self.reason, self.refused = reason, refused


async def request_credentials(socket: Path, token: str, identity: SpiffeId) -> Credentials:
    """Make a key and have it certified. Raises AuthorityUnreachable."""
    key = new_key()
    request = CertificateRequest(csr=build_request(key, identity).decode())
    async with grpc.aio.insecure_channel(f"unix:{socket}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = channel.unary_unary(
            METHOD,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=CertificateResponse.FromString,
        )
        try:
            response = await call(request, metadata=(("authorization", f"Bearer {token}"),), timeout=CALL_TIMEOUT)
        except grpc.aio.AioRpcError as problem:
            refused = problem.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INVALID_ARGUMENT)
            raise AuthorityUnreachable(problem.details() or str(problem.code()), refused) from problem
    chain = [pem.encode() for pem in response.cert_chain]
    leaf = x509.load_pem_x509_certificate(chain[0])
    return Credentials(
        chain=b"".join(chain[:-1]),
        key=key_pem(key),
        roots=chain[-1],
        not_before=leaf.not_valid_before_utc.timestamp(),
        not_after=leaf.not_valid_after_utc.timestamp(),
    )


def renewal_time(credentials: Credentials, jitter: float) -> float:
    """When to renew (Unix seconds): about half-way through the life; ``jitter`` (0 to 1) spreads it by a tenth."""
    life = credentials.not_after - credentials.not_before
    return credentials.not_before + life * (0.45 + 0.1 * jitter)


class WorkloadIdentity:
    """Keeps one workload's credentials fresh and tells ``deliver`` of every new pair."""

    def __init__(
        self,
        identity: SpiffeId,
        socket: Path,
        token: str,
        deliver: Callable[[Credentials], None],
        now: Callable[[], float],
    ) -> None:
        self.identity = identity
        self._socket, self._token, self._deliver, self._now = socket, token, deliver, now
        self.credentials: Credentials | None = None
        self.problem = ""

    async def run(self) -> None:
        """Get credentials and renew them for ever. Cancel to stop."""
        pause = FIRST_PAUSE
        while True:
            try:
                self.credentials = await request_credentials(self._socket, self._token, self.identity)
            except AuthorityUnreachable as problem:
                self.problem = problem.reason
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            self.problem, pause = "", FIRST_PAUSE
            self._deliver(self.credentials)
            wait = renewal_time(self.credentials, random.random()) - self._now()  # noqa: S311 - spreads load, no secret
            await asyncio.sleep(max(wait, 1.0))
