"""The authority's service: a thin gRPC shell around ``Authority.sign`` on a Unix socket.

Who calls is told by the token in the call's metadata, and by nothing in the request.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from lateen.identity.authority import Authority
from lateen.identity.certificate import RequestRefused
from lateen.identity.csr_messages import METHOD, CertificateRequest, CertificateResponse
from lateen.values.names import SpiffeId
from lateen.xds.server import bearer_token

MAX_MESSAGE_BYTES = 64 * 1024
MAX_METADATA_BYTES = 16 * 1024
MAX_WANTED_SECONDS = 365 * 86400
Authenticate = Callable[[str], SpiffeId | None]
logger = logging.getLogger(__name__)


class CertificateServer:
    """Serves ``CreateCertificate``. ``authenticate`` gives the identity that a token proves, or None."""

    def __init__(self, authority: Authority, authenticate: Authenticate) -> None:
        self._authority = authority
        self._authenticate = authenticate
        self._server: grpc.aio.Server | None = None

    async def start(self, socket: Path) -> None:
        """Listen on a Unix socket that only its owner may open."""
        socket.unlink(missing_ok=True)
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_metadata_size", MAX_METADATA_BYTES),
                ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
            ]
        )
        server.add_generic_rpc_handlers((_Handler(self._create),))
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        socket.chmod(0o600)
        self._server = server

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(grace=0.5)

    async def _create(self, request: Any, context: Any) -> Any:
        token = bearer_token(context.invocation_metadata())
        identity = self._authenticate(token) if token else None
        if identity is None:
            return await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no known token came with the call")
        wanted = datetime.timedelta(seconds=min(max(request.validity_duration, 0), MAX_WANTED_SECONDS)) or None
        try:
            chain = self._authority.sign(request.csr.encode(), identity, wanted)
        except RequestRefused as refused:
            logger.warning("no certificate for %s: %s", identity, refused.reason)
            return await context.abort(grpc.StatusCode.INVALID_ARGUMENT, refused.reason)
        logger.info("signed a certificate for %s", identity)
        return CertificateResponse(cert_chain=[pem.decode() for pem in chain])


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, create: Any) -> None:
        self._create = create

    def service(self, call: Any) -> Any:
        if call.method != METHOD:
            return None
        return grpc.unary_unary_rpc_method_handler(
            self._create, CertificateRequest.FromString, lambda message: message.SerializeToString()
        )
