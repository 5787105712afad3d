"""What the authority signs: what a caller proved, whatever its request asks for."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from lateen.identity.authority import Authority
from lateen.identity.certificate import RequestRefused, build_request, fit_key, identity_of, new_key, told_in
from lateen.identity.proofs import by_certificate
from lateen.values.names import SpiffeId
from lateen.values.told_names import told_names
from tests.unit.identity.names import NOW, RATINGS, REVIEWS


def names_of(certificate):
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_the_certificate_carries_the_proved_identity_alone(authority):
    key = new_key()
    chain = authority.sign(build_request(key, RATINGS), REVIEWS)
    leaf, root = (x509.load_pem_x509_certificate(pem) for pem in chain)
    names = names_of(leaf)
    assert names.critical
    assert [name.value for name in names.value] == [str(REVIEWS)]
    assert leaf.public_key() == key.public_key()
    leaf.verify_directly_issued_by(root)


def test_extensions_of_the_request_are_not_taken_over(authority):
    key = new_key()
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("*.example.com")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    leaf = x509.load_pem_x509_certificate(authority.sign(request.public_bytes(serialization.Encoding.PEM), REVIEWS)[0])
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert [name.value for name in names_of(leaf).value] == [str(REVIEWS)]
    assert len(leaf.subject.rdns) == 0


def test_what_the_workload_is_called_stands_in_the_subject_and_is_renewed(authority):
    told = told_names("reviews-v1", {"app": "reviews", "version": "v1"})
    pem = authority.sign(build_request(new_key(), REVIEWS), REVIEWS, told=told)[0]
    assert told_in(x509.load_pem_x509_certificate(pem)) == "reviews-v1/reviews/v1/reviews/v1"
    proof = by_certificate(pem, "cluster.local", NOW)
    assert (proof.identity, proof.told) == (REVIEWS, told)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(public_exponent=65537, key_size=1024),
        ec.generate_private_key(ec.SECP192R1()),
        ec.generate_private_key(ec.SECP256K1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["rsa-1024", "p-192", "k-256", "ed25519"],
)
def test_weak_and_odd_keys_are_refused(authority, key):
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, algorithm)
    with pytest.raises(RequestRefused):
        authority.sign(request.public_bytes(serialization.Encoding.PEM), REVIEWS)


@pytest.mark.parametrize("text", [b"", b"-----BEGIN nothing", b"x" * 100_000])
def test_what_is_no_request_is_refused(authority, text):
    with pytest.raises(RequestRefused):
        authority.sign(text, REVIEWS)


def test_a_request_that_another_key_signed_is_refused(authority):
    pem = build_request(new_key(), REVIEWS)
    body = bytearray(x509.load_pem_x509_csr(pem).public_bytes(serialization.Encoding.DER))
    body[-3] ^= 0x55
    with pytest.raises(RequestRefused):
        authority.sign(x509.load_der_x509_csr(bytes(body)).public_bytes(serialization.Encoding.PEM), REVIEWS)


def test_a_wanted_life_only_shortens(authority):
    request = build_request(new_key(), REVIEWS)
    hour = x509.load_pem_x509_certificate(authority.sign(request, REVIEWS, datetime.timedelta(hours=1))[0])
    year = x509.load_pem_x509_certificate(authority.sign(request, REVIEWS, datetime.timedelta(days=365))[0])
    assert hour.not_valid_after_utc == NOW + datetime.timedelta(hours=1)
    assert year.not_valid_after_utc == NOW + datetime.timedelta(hours=24)


def test_the_signature_of_an_enormous_key_is_not_even_checked():
    numbers = rsa.RSAPublicNumbers(65537, (1 << 8191) + 1)
    with pytest.raises(RequestRefused, match="8192 bits"):
        fit_key(numbers.public_key())


@pytest.mark.parametrize(
    "identity",
    [
        SpiffeId("cluster.local", "default", "reviews/sa/admin"),
        SpiffeId("cluster.local", "", "reviews"),
        SpiffeId("cluster.local", "..", "reviews"),
        SpiffeId("cluster.local", "default", "reviews?x"),
        SpiffeId("cluster.local", "default", "reviews\n"),
        SpiffeId("other.mesh", "default", "reviews"),
    ],
)
def test_an_identity_that_reads_as_another_is_not_signed(authority, identity):
    with pytest.raises(RequestRefused):
        authority.sign(build_request(new_key(), REVIEWS), identity)


def test_a_verifier_from_outside_takes_the_chain(authority):
    chain = authority.sign(build_request(new_key(), REVIEWS), REVIEWS)
    leaf, root = (x509.load_pem_x509_certificate(pem) for pem in chain)
    verified = PolicyBuilder().store(Store([root])).time(NOW).build_client_verifier().verify(leaf, [])
    assert verified.subjects is not None
    assert [name.value for name in verified.subjects] == [str(REVIEWS)]
    assert verified.chain == [leaf, root]


def test_the_extensions_say_what_the_certificate_is_for(authority):
    chain = authority.sign(build_request(new_key(), REVIEWS), REVIEWS)
    leaf, root = (x509.load_pem_x509_certificate(pem).extensions for pem in chain)
    usage = leaf.get_extension_for_class(x509.KeyUsage)
    assert usage.critical and usage.value.digital_signature
    assert not usage.value.key_cert_sign and not usage.value.key_encipherment
    purposes = leaf.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(purposes) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    of_root = root.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert leaf.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == of_root.key_identifier
    assert root.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(True, 0)
    assert root.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_a_certificate_holds_a_little_before_it_was_made(authority):
    leaf = x509.load_pem_x509_certificate(authority.sign(build_request(new_key(), REVIEWS), REVIEWS)[0])
    assert NOW - datetime.timedelta(minutes=5) < leaf.not_valid_before_utc < NOW


def test_no_certificate_outlives_the_root(tmp_path):
    times = [NOW]
    authority = Authority(tmp_path / "ca", "cluster.local", lambda: times[-1])
    times.append(NOW + datetime.timedelta(days=3650, hours=-3))
    leaf, root = (
        x509.load_pem_x509_certificate(pem) for pem in authority.sign(build_request(new_key(), REVIEWS), REVIEWS)
    )
    assert leaf.not_valid_after_utc == root.not_valid_after_utc


def test_rsa_keys_are_signed_too(authority):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    leaf = x509.load_pem_x509_certificate(authority.sign(request.public_bytes(serialization.Encoding.PEM), REVIEWS)[0])
    assert identity_of(leaf) == REVIEWS
    assert leaf.extensions.get_extension_for_class(x509.KeyUsage).value.key_encipherment
