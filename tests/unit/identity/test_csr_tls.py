"""The authority's service over TLS: tokens at one port, certificates at the other, and never plain text."""

import asyncio
import contextlib
import datetime
import logging
import socket
import ssl
import warnings

import grpc
import grpc.aio
import pytest
from cryptography import x509

from lateen.identity.authority import Authority
from lateen.identity.certificate import build_request, identity_of, key_pem, new_key
from lateen.identity.csr_client import CertificateUnavailable, request_chain_over_tls
from lateen.identity.csr_messages import METHOD
from lateen.identity.csr_server import CertificateServer
from lateen.identity.join_tokens import JoinTokens
from lateen.identity.proofs import tokens_from_elsewhere
from lateen.identity.workload import judge_chain
from lateen.values.names import SpiffeId
from tests.machine import free_port
from tests.unit.identity.names import RATINGS, REVIEWS, utc_now

HOUR = datetime.timedelta(hours=1)
OWN = SpiffeId("cluster.local", "istio-system", "istiod")
NAMES = ("istiod.istio-system.svc", "127.0.0.1")


class Service:
    """An authority and its two ports."""

    def __init__(self, folder):
        self.authority = Authority(folder / "ca", "cluster.local", utc_now)
        self.tokens = JoinTokens(folder / "join-tokens.json", utc_now)
        self.port, self.mutual = free_port(), free_port()

    @contextlib.asynccontextmanager
    async def up(self):
        server = CertificateServer(self.authority, utc_now)
        await server.start_tls(f"127.0.0.1:{self.port}", OWN, NAMES, tokens_from_elsewhere(self.tokens, None))
        await server.start_tls(f"127.0.0.1:{self.mutual}", OWN, NAMES, None)
        try:
            yield self
        finally:
            await server.stop()

    async def obtained(self, *, token="", pair=None, roots=None, port=None, asked=REVIEWS):
        key = new_key()
        chain = await request_chain_over_tls(
            f"127.0.0.1:{port or (self.mutual if pair else self.port)}",
            roots or self.authority.root_pem,
            build_request(key, asked),
            token=token,
            pair=pair,
        )
        return chain, key


def run(tmp_path, scenario):
    async def main():
        async with Service(tmp_path).up() as service:
            await scenario(service)

    asyncio.run(main())


def identity(chain):
    return identity_of(x509.load_pem_x509_certificate(chain[0]))


def test_a_join_token_gives_one_certificate_and_that_renews_itself(tmp_path):
    async def scenario(service):
        token = service.tokens.invite(REVIEWS, HOUR)
        chain, key = await service.obtained(token=token, asked=RATINGS)
        assert identity(chain) == REVIEWS
        judge_chain(chain, key, REVIEWS, utc_now().timestamp())
        with pytest.raises(CertificateUnavailable, match="no known token"):
            await service.obtained(token=token)
        again, _ = await service.obtained(pair=(bytes(key_pem(key)), chain[0]), asked=RATINGS)
        assert identity(again) == REVIEWS

    run(tmp_path, scenario)


def test_of_many_calls_with_one_token_one_gets_a_certificate(tmp_path):
    async def scenario(service):
        token = service.tokens.invite(REVIEWS, HOUR)
        results = await asyncio.gather(*(service.obtained(token=token) for _ in range(12)), return_exceptions=True)
        assert sum(not isinstance(result, CertificateUnavailable) for result in results) == 1

    run(tmp_path, scenario)


def test_a_bad_request_does_not_use_the_token_up(tmp_path):
    async def scenario(service):
        token = service.tokens.invite(REVIEWS, HOUR)
        with pytest.raises(CertificateUnavailable):
            await request_chain_over_tls(
                f"127.0.0.1:{service.port}", service.authority.root_pem, b"nonsense", token=token
            )
        assert identity((await service.obtained(token=token))[0]) == REVIEWS

    run(tmp_path, scenario)


def test_without_proof_there_is_nothing_at_either_port(tmp_path):
    other = Authority(tmp_path / "other", "cluster.local", utc_now)

    async def scenario(service):
        for token in ("", "wrong", "join-wrong"):
            with pytest.raises(CertificateUnavailable):
                await service.obtained(token=token)
        with pytest.raises(CertificateUnavailable):
            await service.obtained(token="join-x", port=service.mutual)
        key = new_key()
        foreign = other.sign(build_request(key, REVIEWS), REVIEWS)[0]
        with pytest.raises(CertificateUnavailable):
            await service.obtained(pair=(bytes(key_pem(key)), foreign))
        with pytest.raises(CertificateUnavailable):
            await service.obtained(token="join-x", roots=other.root_pem)

    run(tmp_path, scenario)


def test_plain_text_is_not_spoken(tmp_path):
    async def scenario(service):
        for port in (service.port, service.mutual):
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await channel.unary_unary("/istio.v1.auth.IstioCertificateService/CreateCertificate")(
                        b"", timeout=5
                    )
                assert refused.value.code() is grpc.StatusCode.UNAVAILABLE

    run(tmp_path, scenario)


def shaken(port, roots, **versions):
    """The version of TLS that is spoken; empty where the handshake fails."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = versions.get("least", ssl.TLSVersion.TLSv1)
        context.maximum_version = versions.get("most", ssl.TLSVersion.MAXIMUM_SUPPORTED)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    context.load_verify_locations(cadata=roots.decode())
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
            context.wrap_socket(plain, server_hostname="istiod.istio-system.svc") as connection,
        ):
            return connection.version()
    except OSError:
        return ""


def test_old_versions_of_tls_are_not_spoken(tmp_path):
    async def scenario(service):
        roots, old = service.authority.root_pem, ssl.TLSVersion.TLSv1_1
        assert await asyncio.to_thread(shaken, service.port, roots) == "TLSv1.3"
        assert await asyncio.to_thread(shaken, service.port, roots, most=ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
        assert await asyncio.to_thread(shaken, service.port, roots, most=old) == ""

    run(tmp_path, scenario)


def test_two_tokens_at_once_are_none(tmp_path):
    async def scenario(service):
        token = service.tokens.invite(REVIEWS, HOUR)
        credentials = grpc.ssl_channel_credentials(service.authority.root_pem)
        async with grpc.aio.secure_channel(f"127.0.0.1:{service.port}", credentials) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await channel.unary_unary(METHOD)(b"", metadata=(("authorization", f"Bearer {token}"),) * 2, timeout=20)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert service.tokens.find(token) is not None

    run(tmp_path, scenario)


def test_another_meshs_certificate_for_this_meshs_name_renews_nothing(tmp_path):
    """Its authority may say so, but this mesh has roots of its own."""
    other = Authority(tmp_path / "other", "cluster.local", utc_now)

    async def scenario(service):
        key = new_key()
        chain = other.sign(build_request(key, REVIEWS), REVIEWS)
        with pytest.raises(CertificateUnavailable):
            await service.obtained(pair=(bytes(key_pem(key)), b"".join(chain)))

    run(tmp_path, scenario)


def test_a_certificate_of_an_old_root_renews_no_more_once_that_is_gone(tmp_path):
    async def scenario(service):
        chain, key = await service.obtained(token=service.tokens.invite(REVIEWS, HOUR))
        for _ in range(3):
            service.authority.next_step()
        with pytest.raises(CertificateUnavailable):
            await service.obtained(pair=(bytes(key_pem(key)), chain[0]))

    run(tmp_path, scenario)


@pytest.mark.parametrize("place", ["taken", "no-such-host.invalid:15012", "192.0.2.1:15012"])
def test_a_place_that_cannot_be_had_is_told(tmp_path, place):
    async def scenario(service):
        server = CertificateServer(service.authority, utc_now)
        address = f"127.0.0.1:{service.port}" if place == "taken" else place
        with pytest.raises(OSError, match="cannot be listened on"):
            await server.start_tls(address, OWN, NAMES, None)

    run(tmp_path, scenario)


def test_no_token_is_logged(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)

    async def scenario(service):
        token = service.tokens.invite(REVIEWS, HOUR)
        with pytest.raises(CertificateUnavailable):
            await service.obtained(token=token + "x")
        with pytest.raises(CertificateUnavailable):
            await service.obtained(token="a-secret-of-another-place")
        await service.obtained(token=token)
        assert "no certificate for" in caplog.text
        assert "127.0.0.1" in caplog.text
        assert token not in caplog.text
        assert "a-secret-of-another-place" not in caplog.text
        assert "PRIVATE KEY" not in caplog.text

    run(tmp_path, scenario)


def test_the_servers_certificate_follows_a_rotation(tmp_path):
    async def scenario(service):
        token = service.tokens.invite(REVIEWS, HOUR)
        old = service.authority.root_pem
        for _ in range(3):
            service.authority.next_step()
        with pytest.raises(CertificateUnavailable):
            await service.obtained(token=token, roots=old)
        assert identity((await service.obtained(token=token))[0]) == REVIEWS

    run(tmp_path, scenario)
