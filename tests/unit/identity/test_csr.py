"""The authority's service and its caller, over a real socket."""

import asyncio
import stat

import grpc
import grpc.aio
import pytest
from cryptography import x509

from lateen.identity.authority import Authority
from lateen.identity.certificate import build_request, identity_of, new_key
from lateen.identity.csr_client import CertificateUnavailable, request_chain
from lateen.identity.csr_messages import METHOD, CertificateRequest, CertificateResponse
from lateen.identity.csr_server import CertificateServer
from lateen.identity.proofs import lasting
from tests.unit.identity.names import RATINGS, REVIEWS, utc_now

TOKENS = {"token-of-reviews": REVIEWS, "token-of-ratings": RATINGS}
BEARER = (("authorization", "Bearer token-of-reviews"),)


def serving(tmp_path, use):
    """Run ``await use(socket)`` beside a server; gives what it returns."""

    async def run():
        server = CertificateServer(Authority(tmp_path / "ca", "cluster.local", utc_now), utc_now)
        await server.start(tmp_path / "ca.sock", lambda token: lasting(TOKENS.get(token)))
        try:
            return await use(tmp_path / "ca.sock")
        finally:
            await server.stop()

    return asyncio.run(run())


def call(tmp_path, message, metadata=BEARER):
    """One call as another agent would make it; gives the leaf, or raises AioRpcError. ``message`` may be raw bytes."""

    async def use(socket):
        async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
            create = channel.unary_unary(METHOD)
            raw = message if isinstance(message, bytes) else message.SerializeToString()
            return CertificateResponse.FromString(await create(raw, metadata=metadata, timeout=5))

    return x509.load_pem_x509_certificate(serving(tmp_path, use).cert_chain[0].encode())


def request_for(identity=REVIEWS, **fields):
    return CertificateRequest(csr=build_request(new_key(), identity).decode(), **fields)


def test_the_messages_have_the_wire_shape_of_the_service():
    message = CertificateRequest(csr="x", validity_duration=5)
    message.metadata.fields["k"].string_value = "v"
    assert message.SerializeToString() == b"\x0a\x01x\x18\x05\x22\x0a\x0a\x08\x0a\x01k\x12\x03\x1a\x01v"
    assert CertificateResponse(cert_chain=["a", "b"]).SerializeToString() == b"\x0a\x01a\x0a\x01b"


def test_the_token_says_who_it_is_whatever_the_request_says(tmp_path):
    assert identity_of(call(tmp_path, request_for(RATINGS))) == REVIEWS


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", "Bearer wrong"),),
        (("authorization", "Bearer "),),
        (("authorization", "token-of-reviews"),),
        (("authorization", "Basic token-of-reviews"),),
        (("x-token", "Bearer token-of-reviews"),),
        (*BEARER, ("authorization", "Bearer token-of-ratings")),
    ],
)
def test_without_the_right_token_there_is_no_certificate(tmp_path, metadata):
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        call(tmp_path, request_for(), metadata)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("csr", ["", "nonsense", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END x-----\n"])
def test_a_bad_request_is_the_callers_fault(tmp_path, csr):
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        call(tmp_path, CertificateRequest(csr=csr))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_huge_request_is_not_read(tmp_path):
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        call(tmp_path, CertificateRequest(csr="x" * 1_000_000))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_what_is_no_message_is_refused(tmp_path):
    with pytest.raises(grpc.aio.AioRpcError):
        call(tmp_path, b"\xff\xff\xff")


@pytest.mark.parametrize(
    ("wanted", "seconds"),
    [(0, 86400), (3600, 3600), (1, 60), (10**9, 86400), (2**63 - 1, 86400), (-5, 86400), (-(2**63), 86400)],
)
def test_the_wanted_life_is_clamped(tmp_path, wanted, seconds):
    leaf = call(tmp_path, request_for(validity_duration=wanted))
    assert abs(leaf.not_valid_after_utc.timestamp() - utc_now().timestamp() - seconds) < 30


def test_the_socket_is_for_its_owner_alone(tmp_path):
    async def use(socket):
        return stat.S_IMODE(socket.stat().st_mode)

    assert serving(tmp_path, use) == 0o600


def test_other_methods_are_not_there(tmp_path):
    async def use(socket):
        async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
            return await channel.unary_unary("/istio.v1.auth.IstioCertificateService/Other")(b"", metadata=BEARER)

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        serving(tmp_path, use)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_client_says_why_it_has_nothing(tmp_path):
    async def use(socket):
        with pytest.raises(CertificateUnavailable, match="no known token"):
            await request_chain(socket, "wrong", build_request(new_key(), REVIEWS))

    serving(tmp_path, use)
    with pytest.raises(CertificateUnavailable):
        asyncio.run(request_chain(tmp_path / "none.sock", "token", build_request(new_key(), REVIEWS)))
