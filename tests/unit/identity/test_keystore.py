"""The authority's files: private, whole, the same after a restart, and refused where they cannot be trusted."""

import datetime
import os
import stat

import pytest
from cryptography import x509

from lateen.identity.certificate import certificate_pem, key_pem, new_key
from lateen.identity.keystore import KeystoreError, certificate_name, key_name, load_or_create, write_private
from tests.unit.identity.names import NOW

KEY_FILE, CERTIFICATE_FILE = key_name("ca"), certificate_name("ca")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "run" / "ca"
    load_or_create(folder, "cluster.local", NOW)
    return folder


def load(folder, now=NOW):
    return load_or_create(folder, "cluster.local", now)


def test_the_root_stays_the_same_over_a_restart(folder):
    (first, first_key), (second, second_key) = load(folder), load(folder)
    assert first == second
    assert first_key.private_numbers() == second_key.private_numbers()


def test_files_are_for_their_owner_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        load(tmp_path / "ca")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "ca").iterdir()}
    assert found == {KEY_FILE: 0o600, CERTIFICATE_FILE: 0o600}


@pytest.mark.parametrize("name", [KEY_FILE, CERTIFICATE_FILE, "."])
@pytest.mark.parametrize("bit", [0o040, 0o020, 0o004, 0o002])
def test_what_is_open_to_others_is_refused(folder, name, bit):
    path = folder / name
    path.chmod(stat.S_IMODE(path.stat().st_mode) | bit)
    with pytest.raises(KeystoreError, match="open to others"):
        load(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("name", [KEY_FILE, CERTIFICATE_FILE, "."])
def test_what_belongs_to_another_user_is_refused(folder, name):
    os.chown(folder / name, 12345, 12345)
    with pytest.raises(KeystoreError, match="belongs to another user"):
        load(folder)


def test_a_link_in_place_of_a_file_is_refused(folder, tmp_path):
    (folder / KEY_FILE).rename(tmp_path / "elsewhere")
    (folder / KEY_FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeystoreError, match="symbolic link"):
        load(folder)


def test_a_link_in_place_of_the_folder_is_refused(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(KeystoreError, match="a link"):
        load(tmp_path / "link")


def test_a_pipe_in_place_of_a_file_does_not_hang(folder):
    (folder / KEY_FILE).unlink()
    os.mkfifo(folder / KEY_FILE, 0o600)
    with pytest.raises(KeystoreError, match="does not belong there"):
        load(folder)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "ca").write_text("")
    with pytest.raises(KeystoreError, match="File exists"):
        load(tmp_path / "ca")


def test_killed_between_key_and_certificate_it_certifies_the_key_that_it_finds(folder):
    _, key = load(folder)
    (folder / CERTIFICATE_FILE).unlink()
    (folder / f".{CERTIFICATE_FILE}.new").write_text("half a certif")
    certificate, same = load(folder)
    assert same.private_numbers() == key.private_numbers()
    assert certificate.public_key() == key.public_key()
    assert sorted(path.name for path in folder.iterdir()) == [CERTIFICATE_FILE, KEY_FILE]


def test_a_lost_key_is_not_replaced_in_silence(folder):
    (folder / KEY_FILE).unlink()
    with pytest.raises(KeystoreError, match="is missing"):
        load(folder)
    assert not (folder / KEY_FILE).exists()


@pytest.mark.parametrize("name", [KEY_FILE, CERTIFICATE_FILE])
@pytest.mark.parametrize("text", [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_damaged_file_is_named(folder, name, text):
    write_private(folder / name, text)
    with pytest.raises(KeystoreError) as refused:
        load(folder)
    assert refused.value.path == folder / name


def test_a_key_of_another_authority_is_refused(folder):
    write_private(folder / KEY_FILE, key_pem(new_key()))
    with pytest.raises(KeystoreError, match="does not belong"):
        load(folder)


def test_a_certificate_that_may_not_sign_is_refused(folder):
    certificate, key = load(folder)
    name = certificate.subject
    plain = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(False, None), critical=True)
        .sign(key, certificate.signature_hash_algorithm)
    )
    write_private(folder / CERTIFICATE_FILE, certificate_pem(plain))
    with pytest.raises(KeystoreError, match="not the certificate of an authority"):
        load(folder)


@pytest.mark.parametrize(("days", "word"), [(4000, "expired"), (-4000, "clock")])
def test_a_root_outside_its_time_is_said_to_be_so(folder, days, word):
    with pytest.raises(KeystoreError, match=word):
        load(folder, NOW + datetime.timedelta(days=days))
