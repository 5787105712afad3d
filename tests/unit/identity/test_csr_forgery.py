"""Whatever a certificate request asks for, what is signed is the identity that was proved, or nothing.

Every request goes to the real service, over its Unix socket and over TLS.
"""

import asyncio
import base64
import ipaddress
import random

import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from lateen.identity.authority import Authority
from lateen.identity.certificate import RequestRefused, build_request, identity_of, new_key, read_request
from lateen.identity.csr_messages import METHOD, CertificateRequest, CertificateResponse
from lateen.identity.csr_server import CertificateServer
from lateen.identity.proofs import lasting
from tests.machine import free_port
from tests.unit.identity.names import RATINGS, REVIEWS, utc_now

INVALID, TOO_LARGE = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED

PEM = serialization.Encoding.PEM
KEY = new_key()


def request(*extensions, key=KEY, common_name="ratings", digest=None):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, digest or hashes.SHA256()).public_bytes(PEM)


def answers(folder, csr):
    """What the service says to this request over the Unix socket and over TLS: a leaf, or status and reason."""
    known = {"token": REVIEWS}
    port = free_port()

    async def ask(channel):
        message = CertificateRequest(csr=csr).SerializeToString()
        try:
            answer = await channel.unary_unary(METHOD)(
                message, metadata=(("authorization", "Bearer token"),), timeout=20
            )
        except grpc.aio.AioRpcError as refused:
            return refused.code(), refused.details()
        return x509.load_pem_x509_certificate(CertificateResponse.FromString(answer).cert_chain[0].encode())

    async def run():
        authority = Authority(folder / "ca", "cluster.local", utc_now)
        server = CertificateServer(authority, utc_now)
        await server.start(folder / "ca.sock", lambda token: lasting(known.get(token)))
        place = f"127.0.0.1:{port}"
        await server.start_tls(place, REVIEWS, ["127.0.0.1"], lambda token: lasting(known.get(token)))
        try:
            async with (
                grpc.aio.insecure_channel(f"unix:{folder / 'ca.sock'}") as local,
                grpc.aio.secure_channel(place, grpc.ssl_channel_credentials(authority.root_pem)) as remote,
            ):
                return [await ask(local), await ask(remote)]
        finally:
            await server.stop()

    return asyncio.run(run())


def names(*values):
    return x509.SubjectAlternativeName(values), True


WISHES = {
    "another identity": [names(x509.UniformResourceIdentifier(str(RATINGS)))],
    "two identities": [names(*(x509.UniformResourceIdentifier(str(one)) for one in (REVIEWS, RATINGS)))],
    "another trust domain": [names(x509.UniformResourceIdentifier("spiffe://other/ns/default/sa/reviews"))],
    "a wildcard": [names(x509.DNSName("*"), x509.DNSName("*.default.svc"))],
    "istiod": [names(x509.DNSName("istiod.istio-system.svc"))],
    "an address": [names(x509.IPAddress(ipaddress.ip_address("10.0.0.1")))],
    "an authority": [(x509.BasicConstraints(ca=True, path_length=None), True)],
    "key cert sign": [(x509.KeyUsage(*[True] * 7, encipher_only=False, decipher_only=False), True)],
    "code signing": [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False)],
    "an extension that nobody knows": [(x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4.5"), b"\x05\x00"), True)],
    "name constraints": [(x509.NameConstraints([x509.DNSName("example.com")], None), True)],
}
OWN = {
    "subjectAltName",
    "basicConstraints",
    "keyUsage",
    "extendedKeyUsage",
    "subjectKeyIdentifier",
    "authorityKeyIdentifier",
}


@pytest.mark.parametrize("wish", WISHES)
def test_wishes_have_no_effect(tmp_path, wish):
    for leaf in answers(tmp_path, request(*WISHES[wish])):
        assert identity_of(leaf) == REVIEWS
        assert list(leaf.subject) == []
        assert {extension.oid._name for extension in leaf.extensions} == OWN
        assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
        assert (usage.key_cert_sign, usage.crl_sign) == (False, False)
        purposes = set(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        assert purposes == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


def armoured(what):
    return f"-----BEGIN {what}-----\nAAAA\n-----END {what}-----\n".encode()


def weak_rsa():
    return request(key=rsa.generate_private_key(65537, 1024))


def ed25519_request():
    name = x509.Name([])
    key = ed25519.Ed25519PrivateKey.generate()
    return x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, None).public_bytes(PEM)


def signed_by_another():
    """A request in which one byte of the signature was changed."""
    der = bytearray(x509.load_pem_x509_csr(request()).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    body = base64.encodebytes(bytes(der)).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n".encode()


def large_rsa():
    """A key of 16384 bits takes minutes to make; its public half can be had from any odd number, unsigned."""
    numbers = rsa.RSAPublicNumbers(65537, (1 << 16383) + 12345)
    public = numbers.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    own = KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    der = x509.load_pem_x509_csr(build_request(KEY, REVIEWS))
    info = der.tbs_certrequest_bytes
    body = info[4:] if info[1] == 0x82 else info[3:] if info[1] == 0x81 else info[2:]
    assert own in body
    inner = _sequence(body.replace(own, public))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    text = base64.encodebytes(_sequence(inner + algorithm + b"\x03\x03\x00\x30\x00")).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n".encode()


def _sequence(body):
    size = len(body)
    head = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")
    return b"\x30" + head + body


BAD = {
    "RSA of 1024 bits": (weak_rsa, "1024 bits"),
    "RSA of 16384 bits": (large_rsa, "16384 bits"),
    "P-192": (lambda: request(key=ec.generate_private_key(ec.SECP192R1())), "secp192r1"),
    "secp256k1": (lambda: request(key=ec.generate_private_key(ec.SECP256K1())), "secp256k1"),
    "Ed25519": (ed25519_request, "only EC and RSA"),
    "a signature that does not fit": (signed_by_another, "not signed by its own key"),
    "nothing": (bytes, "no certificate request"),
    "garbage": (lambda: b"\x00\x7f" * 500, "no certificate request"),
    "a certificate": (lambda: armoured("CERTIFICATE"), "no certificate request"),
    "a private key": (lambda: armoured("PRIVATE KEY"), "no certificate request"),
    "more than a request needs": (lambda: b"x" * 20_000, "too large"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_refused(tmp_path, kind):
    make, reason = BAD[kind]
    for code, said in answers(tmp_path, make()):
        assert code is INVALID
        assert reason in said


def test_ten_megabytes_are_not_even_read(tmp_path):
    assert [code for code, _ in answers(tmp_path, b"x" * 10_000_000)] == [TOO_LARGE, TOO_LARGE]


def test_two_requests_in_one_are_the_first_one(tmp_path):
    """What stands behind a request is not looked at: it cannot get a second certificate."""
    other = new_key()
    for leaf in answers(tmp_path, request() + request(key=other)):
        assert leaf.public_key() == KEY.public_key()


def test_no_request_however_damaged_is_more_than_refused():
    """What is taken of those that still hold is a key; nothing else may come of any."""
    chance, refused = random.Random(7), 0
    whole = x509.load_pem_x509_csr(request()).public_bytes(serialization.Encoding.DER)
    for _ in range(3000):
        damaged = bytearray(whole)
        for _ in range(chance.choice((1, 1, 2, 4))):
            place = chance.randrange(len(damaged))
            damaged[place : place + chance.randrange(2)] = chance.randbytes(chance.randrange(3))
        try:
            read_request(_pem(damaged))
        except RequestRefused:
            refused += 1
    assert refused > 2500


def test_a_version_that_there_is_not_is_refused():
    whole = x509.load_pem_x509_csr(request()).public_bytes(serialization.Encoding.DER)
    with pytest.raises(RequestRefused):
        read_request(_pem(whole.replace(b"\x02\x01\x00", b"\x02\x01\x07", 1)))


def _pem(encoded):
    lines = base64.encodebytes(encoded)
    return b"-----BEGIN CERTIFICATE REQUEST-----\n" + lines + b"-----END CERTIFICATE REQUEST-----\n"
