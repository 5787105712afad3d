"""The caller's side of the authority's service: one request, one chain.

Comes in: a socket, a token and a certificate request. Goes out: the chain that the authority gave, not judged yet.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from lateen.identity.csr_messages import METHOD, CertificateRequest, CertificateResponse

CALL_TIMEOUT = 5.0
MAX_ANSWER_BYTES = 256 * 1024
_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", MAX_ANSWER_BYTES))


class CertificateUnavailable(Exception):
    """There is no certificate now; ``reason`` says why in one sentence. Asking again later may help."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


async def request_chain(socket: Path, token: str, request: bytes) -> list[bytes]:
    """Have a certificate request (PEM) signed: the chain as PEM, leaf first and roots last.

    Each call has a connection of its own, so that an authority that was started anew is found at once. Raises
    CertificateUnavailable where nobody answers within some seconds, or the authority refuses.
    """
    async with grpc.aio.insecure_channel(f"unix:{socket}", options=_OPTIONS) as channel:
        return await _call(channel, token, request)


async def request_chain_over_tls(
    server: str,
    roots: bytes,
    request: bytes,
    *,
    token: str = "",
    pair: tuple[bytes, bytes] | None = None,
    name: str = "",
) -> list[bytes]:
    """The same of an authority elsewhere, at ``host:port``, whose certificate has to be of ``roots`` (PEM).

    The caller proves who it is by ``token``, or by ``pair``, its present key and chain (PEM). ``name`` is what the
    server's certificate has to bear, where that is not its host.
    """
    key, chain = pair if pair is not None else (None, None)
    credentials = grpc.ssl_channel_credentials(roots, key, chain)
    options = (*_OPTIONS, *((("grpc.ssl_target_name_override", name),) if name else ()))
    async with grpc.aio.secure_channel(server, credentials, options=options) as channel:
        return await _call(channel, token, request)


async def _call(channel: Any, token: str, request: bytes) -> list[bytes]:
    call = channel.unary_unary(
        METHOD,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=lambda answer: answer,
    )
    message = CertificateRequest(csr=request.decode("ascii"))
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    try:
        answer = await call(message, metadata=metadata, timeout=CALL_TIMEOUT)
        chain: list[str] = list(CertificateResponse.FromString(answer).cert_chain)
    except grpc.aio.AioRpcError as problem:
        raise CertificateUnavailable(_reason(problem)) from problem
    except DecodeError as problem:
        raise CertificateUnavailable("the authority's answer cannot be read") from problem
    return [pem.encode() for pem in chain]


def _reason(problem: grpc.aio.AioRpcError) -> str:
    """In words of the authority, where it answered; else what may stand in the way of an answer."""
    said = problem.details() or str(problem.code())
    if problem.code() is not grpc.StatusCode.UNAVAILABLE:
        return said
    if "CERTIFICATE_VERIFY_FAILED" in said or "verification" in said:
        return "the server's certificate is not of the given roots, or not for this host: see --root and --server-name"
    if "Connection refused" in said:
        return "nobody listens there"
    return f"the authority does not answer there, or wants another kind of proof at this port: {said[:200]}"
