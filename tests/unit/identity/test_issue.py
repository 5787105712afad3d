"""Certificates as files: what is written, what is kept, what is refused."""

import asyncio
import stat
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from lateen.identity.authority import Authority
from lateen.identity.certificate import identity_of
from lateen.identity.csr_client import CertificateUnavailable
from lateen.identity.issue import Present, obtain
from lateen.identity.keystore import KeystoreError
from tests.unit.identity.names import RATINGS, REVIEWS, utc_now


@pytest.fixture
def ask(tmp_path):
    authority = Authority(tmp_path / "ca", "cluster.local", utc_now)

    async def sign(request, identity=REVIEWS):
        return authority.sign(request, identity)

    return sign


def leaf(folder):
    return x509.load_pem_x509_certificates((folder / "cert-chain.pem").read_bytes())[0]


def get(folder, ask, kind="ec-p256"):
    return asyncio.run(obtain(folder, REVIEWS, kind, ask, time.time()))


@pytest.mark.parametrize("kind", ["ec-p256", "rsa-2048"])
def test_three_files_that_fit_each_other(tmp_path, ask, kind):
    out = tmp_path / "out"
    get(out, ask, kind)
    key = load_pem_private_key((out / "key.pem").read_bytes(), None)
    assert key.public_key() == leaf(out).public_key()
    assert identity_of(leaf(out)) == REVIEWS
    leaf(out).verify_directly_issued_by(x509.load_pem_x509_certificate((out / "root-cert.pem").read_bytes()))
    assert {stat.S_IMODE(file.stat().st_mode) for file in out.iterdir()} == {0o600}
    assert sorted(file.name for file in out.iterdir()) == ["cert-chain.pem", "key.pem", "root-cert.pem"]


def test_a_renewal_keeps_the_key_and_the_identity(tmp_path, ask):
    out = tmp_path / "out"
    get(out, ask)
    key, before = (out / "key.pem").read_bytes(), leaf(out)
    asyncio.run(Present(out).renew(ask, time.time()))
    assert (out / "key.pem").read_bytes() == key
    assert leaf(out).serial_number != before.serial_number
    assert identity_of(leaf(out)) == REVIEWS


def test_a_key_is_not_overwritten(tmp_path, ask):
    get(tmp_path / "out", ask)
    with pytest.raises(KeystoreError, match="--renew"):
        get(tmp_path / "out", ask)


def test_an_answer_for_someone_else_is_not_written(tmp_path, ask):
    async def other(request):
        return await ask(request, RATINGS)

    with pytest.raises(CertificateUnavailable, match="ratings"):
        get(tmp_path / "out", other)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_was_there_stays(tmp_path):
    async def nobody(request):
        raise CertificateUnavailable("nobody signs")

    (tmp_path / "out").mkdir(mode=0o700)
    with pytest.raises(CertificateUnavailable, match="nobody signs"):
        get(tmp_path / "out", nobody)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_of_others_is_refused(tmp_path, ask):
    (tmp_path / "out").mkdir(mode=0o755)
    with pytest.raises(KeystoreError, match="open to others"):
        get(tmp_path / "out", ask)


def test_there_is_nothing_to_renew_in_an_empty_folder(tmp_path):
    (tmp_path / "out").mkdir(mode=0o700)
    with pytest.raises(KeystoreError, match="does not hold"):
        Present(tmp_path / "out")
