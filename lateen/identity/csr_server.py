"""The authority's service: a thin gRPC shell around ``Authority.sign``, on a Unix socket and, if asked for, over TLS.

Who calls is told by the token in the call's metadata or by the certificate of its connection, and by nothing in the
request. Over TLS there are two ports: on one, callers have a token and no certificate; on the other, whose handshake
asks for a certificate of the mesh, they renew what they have.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from lateen.identity.authority import Authority
from lateen.identity.certificate import RequestRefused
from lateen.identity.complaints import Complaints
from lateen.identity.csr_messages import METHOD, CertificateRequest, CertificateResponse
from lateen.identity.join_tokens import Redeemable
from lateen.identity.proofs import ByToken, by_certificate
from lateen.values.names import SpiffeId
from lateen.xds.server import bearer_token

MAX_MESSAGE_BYTES = 64 * 1024
MAX_METADATA_BYTES = 16 * 1024
MAX_WANTED_SECONDS = 365 * 86400
MOST_CALLS = 200
"""As many calls are answered at once; others are turned away, before anything of them is read."""
MOST_STREAMS = 10
MOST_CONNECTIONS = 200
UNREAD_S = 5
"""Calls of one connection at once, connections of one port, and how long a call may wait to be looked at: whatever
callers without proof send is in memory for so long."""
_OPTIONS = (
    ("grpc.max_concurrent_streams", MOST_STREAMS),
    ("grpc.server_max_unrequested_time_in_server", UNREAD_S),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.so_reuseport", 0),
)
_OVER_TLS = (
    *_OPTIONS,
    ("grpc.max_allowed_incoming_connections", MOST_CONNECTIONS),
    ("grpc.server.max_pending_requests", MOST_CALLS // 2),
    ("grpc.server.max_pending_requests_hard_limit", MOST_CALLS),
    ("grpc.http2.settings_timeout", 10_000),
    ("grpc.max_connection_idle_ms", 10_000),
    ("grpc.max_connection_age_ms", 20_000),
    ("grpc.max_connection_age_grace_ms", 5_000),
    ("grpc.server_handshake_timeout_ms", 10_000),
)
"""A connection is judged by the roots of its handshake, so it does not outlive them for long; nor does it keep others
from one for long."""
Prove = Callable[[Any], Redeemable | None]
logger = logging.getLogger(__name__)


class CertificateServer:
    """Serves ``CreateCertificate``. ``now`` gives the time, in UTC."""

    def __init__(self, authority: Authority, now: Callable[[], datetime.datetime]) -> None:
        self._authority, self._now = authority, now
        self._servers: list[grpc.aio.Server] = []
        self._complaints = Complaints()

    async def start(self, socket: Path, tokens: ByToken) -> None:
        """Listen on a Unix socket that only its owner may open."""
        socket.unlink(missing_ok=True)
        server = self._server(lambda context: _by_token(context, tokens))
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        socket.chmod(0o600)

    async def start_tls(self, address: str, identity: SpiffeId, hosts: Sequence[str], tokens: ByToken | None) -> None:
        """Listen on ``host:port`` over TLS: for callers with a token, or, without ``tokens``, with a certificate.

        Raises OSError where the port cannot be had.
        """
        pair = _ServerPair(self._authority, identity, hosts, self._now, with_clients=tokens is None)
        prove: Prove = self._by_certificate if tokens is None else lambda context: _by_token(context, tokens)
        server = self._server(prove, _OVER_TLS)
        credentials = grpc.dynamic_ssl_server_credentials(
            pair.fresh(), pair.changed, require_client_authentication=tokens is None
        )
        try:
            bound, why = server.add_secure_port(address, credentials), ""
        except RuntimeError as problem:
            bound, why = 0, f": {problem}"
        if bound == 0:
            self._servers.remove(server)
            await server.stop(None)  # left to the garbage collector, gRPC's server brings the process down
            raise OSError(f"{address} cannot be listened on{why}")
        await server.start()

    async def stop(self) -> None:
        for server in self._servers:
            await server.stop(grace=0.5)

    def _server(self, prove: Prove, options: Sequence[tuple[str, int]] = _OPTIONS) -> grpc.aio.Server:
        server = grpc.aio.server(options=options, maximum_concurrent_rpcs=MOST_CALLS)

        async def create(request: Any, context: Any) -> Any:
            return await self._create(request, context, prove)

        server.add_generic_rpc_handlers((_Handler(create),))
        self._servers.append(server)
        return server

    def _by_certificate(self, context: Any) -> Redeemable | None:
        shown = context.auth_context().get("x509_pem_cert", [])
        return by_certificate(shown[0], self._authority.trust_domain, self._now()) if len(shown) == 1 else None

    async def _create(self, request: Any, context: Any, prove: Prove) -> Any:
        """From proof to certificate without a pause: a token that counts once cannot be used by two calls."""
        proof = prove(context)
        if proof is None:
            line = self._complaints.line(context.peer(), self._now().timestamp())
            if line is not None:
                logger.warning("%s", line)
            return await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no known token came with the call")
        wanted = datetime.timedelta(seconds=min(max(request.validity_duration, 0), MAX_WANTED_SECONDS)) or None
        try:
            chain = self._authority.sign(request.csr.encode(), proof.identity, wanted, proof.told)
            proof.cross_out()
        except RequestRefused as refused:
            logger.warning("no certificate for %s: %s", proof.identity, refused.reason)
            return await context.abort(grpc.StatusCode.INVALID_ARGUMENT, refused.reason)
        except OSError as problem:
            logger.error("no certificate for %s: its token cannot be crossed out: %s", proof.identity, problem)
            return await context.abort(grpc.StatusCode.UNAVAILABLE, "the token cannot be crossed out now")
        logger.info("signed a certificate for %s", proof.identity)
        return CertificateResponse(cert_chain=[pem.decode() for pem in chain])


def _by_token(context: Any, tokens: ByToken) -> Redeemable | None:
    token = bearer_token(context.invocation_metadata())
    return tokens(token) if token else None


class _ServerPair:
    """The server's own certificate: another one at half of its life, and whenever the authority changes."""

    def __init__(
        self,
        authority: Authority,
        identity: SpiffeId,
        hosts: Sequence[str],
        now: Callable[[], datetime.datetime],
        *,
        with_clients: bool,
    ) -> None:
        self._authority, self._identity, self._hosts, self._now = authority, identity, hosts, now
        self._with_clients = with_clients
        self._generation, self._renewal = "", 0.0

    def fresh(self) -> Any:
        """A configuration for handshakes, with a new key."""
        key, chain, not_after = self._authority.server_pair(self._identity, self._hosts)
        now = self._now().timestamp()
        self._generation, self._renewal = self._authority.generation, now + (not_after - now) / 2
        roots = self._authority.root_pem if self._with_clients else None
        return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=roots)

    def changed(self) -> Any:
        """What gRPC asks at every handshake: None while nothing changed."""
        due = self._now().timestamp() >= self._renewal or self._authority.generation != self._generation
        return self.fresh() if due else None


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, create: Any) -> None:
        self._create = create

    def service(self, call: Any) -> Any:
        if call.method != METHOD:
            return None
        return grpc.unary_unary_rpc_method_handler(
            self._create, CertificateRequest.FromString, lambda message: message.SerializeToString()
        )
