"""What the authority signs: what a caller proved, whatever its request asks for."""

import datetime
import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from lateen.identity.authority import Authority
from lateen.identity.certificate import RequestRefused, build_request, new_key
from lateen.identity.keystore import KEY_FILE, KeystoreError
from lateen.values.names import SpiffeId

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
REVIEWS = SpiffeId("cluster.local", "default", "reviews")
RATINGS = SpiffeId("cluster.local", "default", "ratings")


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ca", "cluster.local", lambda: NOW)


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
    leaf = x509.load_pem_x509_certificate(
        authority.sign(request.public_bytes(serialization.Encoding.PEM), REVIEWS)[0]
    )
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert [name.value for name in names_of(leaf).value] == [str(REVIEWS)]
    assert len(leaf.subject.rdns) == 0


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(public_exponent=65537, key_size=1024),
        ec.generate_private_key(ec.SECP192R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["rsa-1024", "p-192", "ed25519"],
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


def test_the_root_stays_the_same_over_a_restart(authority, tmp_path):
    again = Authority(tmp_path / "ca", "cluster.local", lambda: NOW)
    assert again.root_pem == authority.root_pem


def test_the_key_is_private_and_stays_so(authority, tmp_path):
    key_file = tmp_path / "ca" / KEY_FILE
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    key_file.chmod(0o644)
    with pytest.raises(KeystoreError, match="open to others"):
        Authority(tmp_path / "ca", "cluster.local", lambda: NOW)


def test_an_expired_root_is_said_to_be_so(authority, tmp_path):
    with pytest.raises(KeystoreError, match="expired"):
        Authority(tmp_path / "ca", "cluster.local", lambda: NOW + datetime.timedelta(days=4000))
