"""One root takes the place of another, step by step; whoever is killed between two steps finds a state that holds."""

import datetime
import stat

import pytest
from cryptography import x509

from lateen.identity.authority import Authority
from lateen.identity.certificate import RequestRefused, build_request, new_key
from lateen.identity.keystore import KeystoreError
from lateen.identity.roots import STATE_FILE, Phase, WrongStep
from lateen.identity.workload import describe, judge_chain
from tests.unit.identity.names import NOW, REVIEWS


def opened(folder, now=NOW):
    return Authority(folder, "cluster.local", lambda: now)


def obtained(authority, now=NOW):
    key = new_key()
    return judge_chain(authority.sign(build_request(key, REVIEWS), REVIEWS), key, REVIEWS, now.timestamp())


def roots_of(authority):
    return x509.load_pem_x509_certificates(authority.root_pem)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "ca"


def test_a_rotation_trusts_first_then_signs_then_lets_go(folder):
    authority = opened(folder)
    (old,) = roots_of(authority)
    assert authority.next_step() is Phase.TRUSTED
    first, second = roots_of(authority)
    assert first == old
    assert describe(obtained(authority)).issuer == old.subject.rfc4514_string()
    assert authority.next_step() is Phase.ISSUING
    assert roots_of(authority) == [old, second]
    assert describe(obtained(authority)).issuer == second.subject.rfc4514_string() != old.subject.rfc4514_string()
    assert authority.next_step() is Phase.STABLE
    assert roots_of(authority) == [second]
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["ca-2-cert.pem", "ca-2-key.pem", STATE_FILE]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


@pytest.mark.parametrize("steps", range(4))
def test_each_phase_outlives_the_process(folder, steps):
    authority = opened(folder)
    for _ in range(steps):
        authority.next_step()
    again = opened(folder)
    assert (again.phase, again.root_pem, again.generation) == (
        authority.phase,
        authority.root_pem,
        authority.generation,
    )
    assert describe(obtained(again)).issuer == describe(obtained(authority)).issuer


def test_every_step_is_another_generation_and_nothing_else_is(folder):
    authority = opened(folder)
    seen = [authority.generation]
    obtained(authority)
    assert authority.generation == seen[0]
    for _ in range(3):
        authority.next_step()
        seen.append(authority.generation)
    assert len(set(seen)) == 4


def test_a_rotation_is_undone_as_long_as_the_old_root_is_trusted(folder):
    authority = opened(folder)
    before = (authority.root_pem, authority.generation)
    authority.next_step()
    authority.next_step()
    assert authority.step_back() is Phase.TRUSTED
    assert authority.step_back() is Phase.STABLE
    assert (authority.root_pem, authority.generation) == before
    assert sorted(path.name for path in folder.iterdir()) == ["ca-cert.pem", "ca-key.pem", STATE_FILE]
    with pytest.raises(WrongStep, match="no rotation"):
        authority.step_back()


def test_a_new_root_that_was_made_before_the_end_came_is_not_taken(folder):
    """Killed after the files of the new root and before the state: it is as if nothing had been done."""
    authority = opened(folder)
    authority.next_step()
    (folder / STATE_FILE).unlink()
    again = opened(folder)
    assert again.phase is Phase.STABLE
    assert again.next_step() is Phase.TRUSTED
    assert sorted(path.name for path in folder.iterdir() if "3" in path.name) == ["ca-3-cert.pem", "ca-3-key.pem"]
    assert not (folder / "ca-2-key.pem").exists()


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"issuing": "x"}', '{"issuing": "../ca", "trusted": ["../ca"]}', '{"trusted": []}', '{"more": 1}'],
)
def test_a_state_that_cannot_be_is_refused(folder, text):
    opened(folder)
    (folder / STATE_FILE).write_text(text)
    (folder / STATE_FILE).chmod(0o600)
    with pytest.raises(KeystoreError, match=STATE_FILE):
        opened(folder)


def test_a_root_that_the_state_names_is_never_made_anew_in_silence(folder):
    authority = opened(folder)
    authority.next_step()
    (folder / "ca-cert.pem").unlink()
    (folder / "ca-key.pem").unlink()
    with pytest.raises(KeystoreError, match="is missing"):
        opened(folder)


def test_a_state_that_is_lost_makes_no_new_root(folder):
    authority = opened(folder)
    for _ in range(3):
        authority.next_step()
    (folder / STATE_FILE).unlink()
    with pytest.raises(KeystoreError, match=r"roots\.json: is missing, though ca-2-cert\.pem came by an exchange"):
        opened(folder)


@pytest.mark.parametrize("name", [STATE_FILE, "ca-key.pem", "ca-cert.pem"])
def test_a_folder_where_a_file_belongs_is_refused(folder, name):
    opened(folder)
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    with pytest.raises(KeystoreError, match=name):
        opened(folder)


def test_certificates_end_with_the_authority_and_then_none_is_signed(folder):
    opened(folder)
    last_day = NOW + datetime.timedelta(days=3650) - datetime.timedelta(hours=1)
    late = opened(folder, last_day)
    assert late.status().certificates[0].runs_out
    assert obtained(late, last_day).not_after == (last_day + datetime.timedelta(hours=1)).timestamp()
    clock = [last_day]
    ending = Authority(folder, "cluster.local", lambda: clock[0])
    clock[0] = last_day + datetime.timedelta(hours=2)
    with pytest.raises(RequestRefused, match="ran out"):
        ending.sign(build_request(new_key(), REVIEWS), REVIEWS)
