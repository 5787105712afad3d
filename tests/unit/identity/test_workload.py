"""A workload's credentials: judged, renewed in time, and used on while the authority is away."""

import asyncio
import contextlib
import datetime
import itertools

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from lateen.identity.authority import Authority
from lateen.identity.certificate import build_request, identity_of, new_key
from lateen.identity.csr_client import CertificateUnavailable
from lateen.identity.csr_server import CertificateServer
from lateen.identity.proofs import lasting
from lateen.identity.workload import WorkloadIdentity, judge_chain, renewal_time, retry_pause
from tests.unit.identity.names import NOW, RATINGS, REVIEWS, utc_now


class Clock:
    """A clock in Unix seconds that is moved by hand."""

    def __init__(self):
        self.at = utc_now().timestamp()

    def __call__(self):
        return self.at


# --- judging the answer ----------------------------------------------------------------------------------------------


def test_a_good_answer_becomes_credentials(authority):
    key = new_key()
    found = judge_chain(authority.sign(build_request(key, REVIEWS), REVIEWS), key, REVIEWS, NOW.timestamp())
    leaf = x509.load_pem_x509_certificate(found.chain)
    assert identity_of(leaf) == REVIEWS
    assert load_pem_private_key(bytes(found.key), None).public_key() == leaf.public_key()
    assert found.roots == authority.root_pem
    assert found.not_after == (NOW + datetime.timedelta(hours=24)).timestamp()


def test_an_answer_that_is_not_what_was_asked_for_is_refused(authority, tmp_path):
    key, now = new_key(), NOW.timestamp()
    good = authority.sign(build_request(key, REVIEWS), REVIEWS)
    other = Authority(tmp_path / "other", "cluster.local", lambda: NOW)
    refused = {
        "empty": [],
        "no root": good[:1],
        "not PEM": [b"x", b"y"],
        "another key": authority.sign(build_request(new_key(), REVIEWS), REVIEWS),
        "another name": authority.sign(build_request(key, RATINGS), RATINGS),
        "another root": [good[0], other.root_pem],
        "wrong order": good[::-1],
        "root alone": [good[1], good[1]],
    }
    for chain in refused.values():
        with pytest.raises(CertificateUnavailable, match="of no use"):
            judge_chain(chain, key, REVIEWS, now)
    with pytest.raises(CertificateUnavailable, match="expired"):
        judge_chain(good, key, REVIEWS, now + 2 * 86400)


# --- when ------------------------------------------------------------------------------------------------------------


def test_renewal_is_due_about_half_way():
    times = [renewal_time(1000.0, 1000.0 + 86400, jitter / 10) for jitter in range(11)]
    assert times == sorted(times)
    assert times[0] == pytest.approx(1000 + 0.45 * 86400)
    assert times[-1] == pytest.approx(1000 + 0.55 * 86400)


def test_renewal_never_spins():
    assert renewal_time(1000.0, 1000.001, 0.0) == 1001.0
    assert renewal_time(1000.0, 900.0, 0.0) == 1001.0


def test_pauses_grow_to_a_limit():
    assert [retry_pause(n, 0.0, 0.0) for n in (1, 2, 3, 5, 6, 9999)] == [0.05, 0.1, 0.2, 0.8, 1.0, 1.0]
    assert retry_pause(9999, 43200.0, 0.0) == 15.0
    assert retry_pause(9999, 43200.0, 1.0) == 7.5


def test_pauses_shrink_as_the_certificate_runs_out():
    assert [retry_pause(9999, left, 0.0) for left in (151.0, 60.0, 11.0, 2.0, -50.0)] == [15.0, 6.0, 1.1, 1.0, 1.0]


# --- the loop --------------------------------------------------------------------------------------------------------


class Bench:
    """An authority that can be away, and one workload that asks it."""

    def __init__(self, folder, life=datetime.timedelta(hours=24), clock=None):
        self.folder, self.life = folder, life
        self.delivered = []
        self.before_delivery = lambda: None
        self._got = asyncio.Event()
        self.server = None
        self.workload = WorkloadIdentity(
            REVIEWS,
            folder / "ca.sock",
            "token",
            self._deliver,
            clock or (lambda: utc_now().timestamp()),
            lambda: 0.0,
        )

    def _deliver(self, credentials):
        self.before_delivery()
        self.delivered.append(credentials)
        self._got.set()

    async def up(self):
        authority = Authority(self.folder / "ca", "cluster.local", utc_now, self.life)
        self.server = CertificateServer(authority, utc_now)
        await self.server.start(self.folder / "ca.sock", lambda token: lasting({"token": REVIEWS}.get(token)))

    async def down(self):
        await self.server.stop()
        self.server = None

    async def until(self, count):
        async with asyncio.timeout(10):
            while len(self.delivered) < count:
                self._got.clear()
                await self._got.wait()

    def run(self, steps):
        async def main():
            renewal = asyncio.ensure_future(self.workload.run())
            try:
                await steps()
            finally:
                renewal.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await renewal
                if self.server is not None:
                    await self.down()

        asyncio.run(main())


def test_a_workload_waits_for_an_authority_that_is_not_there_yet(tmp_path):
    bench = Bench(tmp_path)

    async def steps():
        await asyncio.sleep(0.3)
        assert bench.workload.problem
        assert bench.workload.credentials is None
        await bench.up()
        await bench.until(1)
        assert bench.workload.problem == ""

    bench.run(steps)


def test_a_certificate_that_cannot_be_handed_on_is_told_and_asked_for_again(tmp_path):
    bench = Bench(tmp_path)
    problems = []

    def refuse_twice():
        problems.append(bench.workload.problem)
        if len(problems) < 3:
            raise RuntimeError("no room")

    bench.before_delivery = refuse_twice

    async def steps():
        await bench.up()
        await bench.until(1)

    bench.run(steps)
    assert problems == ["", "RuntimeError: no room", "RuntimeError: no room"]
    assert bench.workload.problem == ""


def test_every_renewal_has_a_new_key(tmp_path):
    bench = Bench(tmp_path, life=datetime.timedelta(seconds=3))

    async def steps():
        await bench.up()
        await bench.until(3)

    bench.run(steps)
    assert len({bytes(found.key) for found in bench.delivered}) == len(bench.delivered)
    assert len({found.roots for found in bench.delivered}) == 1
    for one, two in itertools.pairwise(bench.delivered):
        assert two.not_after > one.not_after


def test_the_present_certificate_is_used_on_while_the_authority_is_away(tmp_path):
    bench = Bench(tmp_path, life=datetime.timedelta(seconds=3))

    async def steps():
        await bench.up()
        await bench.until(1)
        await bench.down()
        held = bench.workload.credentials
        async with asyncio.timeout(30):
            while not bench.workload.problem:  # noqa: ASYNC110 - until it has asked in vain
                await asyncio.sleep(0.02)
        assert bench.workload.credentials is held
        await bench.up()
        await bench.until(2)
        assert bench.workload.credentials is not held

    bench.run(steps)


def test_a_machine_that_slept_renews_soon_after_it_wakes(tmp_path, monkeypatch):
    """The loop's clock does not tell of a suspension, so the time of day has to be looked at again and again."""
    monkeypatch.setattr("lateen.identity.workload.LOOK_INTERVAL", 0.05)
    clock = Clock()
    bench = Bench(tmp_path, clock=clock)

    async def steps():
        await bench.up()
        await bench.until(1)
        await asyncio.sleep(0.2)
        assert len(bench.delivered) == 1
        clock.at += 13 * 3600
        await bench.until(2)

    bench.run(steps)
