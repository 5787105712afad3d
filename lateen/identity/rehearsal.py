"""What would happen to certificates if nobody did anything, against a simulated clock.

Comes in: the lives of the authority's certificates and of the workloads', and a span of time. Goes out: a timeline. The
signing, the judging and the times of renewal are the real ones; only the clock is not.
"""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from lateen.identity.authority import Authority
from lateen.identity.certificate import RequestRefused, build_request, new_key
from lateen.identity.csr_client import CertificateUnavailable
from lateen.identity.keystore import problems_of
from lateen.identity.workload import judge_chain, renewal_time
from lateen.values.names import SpiffeId

MIDDLE = 0.5
STEPS = 2000
SHORT = datetime.timedelta(minutes=1)


class Happening(msgspec.Struct, frozen=True):
    """One thing that happens. ``kind``: signed, shortened, warning, refused, down."""

    at: datetime.datetime
    kind: str
    text: str


class _Clock:
    def __init__(self, now: datetime.datetime) -> None:
        self.now = now

    def read(self) -> datetime.datetime:
        return self.now


def rehearse(
    folder: Path, trust_domain: str, start: datetime.datetime, span: datetime.timedelta, life: datetime.timedelta
) -> Iterator[Happening]:
    """What happens to one workload from ``start`` on, for ``span``. The folder's files are read and stay as they are.

    Long spans in which nothing changes are walked in longer steps. Raises KeystoreError.
    """
    clock = _Clock(start)
    with tempfile.TemporaryDirectory(prefix="lt-") as copy:
        with problems_of(folder):
            for path in folder.iterdir():
                if path.is_file():
                    target = Path(copy, path.name)
                    target.touch(mode=0o600)
                    target.write_bytes(path.read_bytes())
        authority = Authority(Path(copy), trust_domain, clock.read, life)
        yield from _Rehearsal(authority, clock, life).until(start + span)


class _Rehearsal:
    def __init__(self, authority: Authority, clock: _Clock, life: datetime.timedelta) -> None:
        self._authority, self._clock, self._life = authority, clock, life
        self._identity = SpiffeId(authority.status().trust_domain, "default", "rehearsal")
        self._told: set[str] = set()

    def until(self, end: datetime.datetime) -> Iterator[Happening]:
        started = self._clock.now
        held_until = started
        while self._clock.now < end:
            yield from self._warnings()
            try:
                not_after = self._renewed()
            except (RequestRefused, CertificateUnavailable) as problem:
                refused = min(self._clock.now, held_until)
                yield Happening(refused, "refused", f"no certificate is signed any more: {problem.reason}")
                down = "the last certificates have ended: every new connection of the mesh fails"
                yield Happening(held_until, "down", down)
                return
            held_until = datetime.datetime.fromtimestamp(not_after, datetime.UTC)
            yield from self._once("signed", f"a certificate is signed that holds until {_time(not_after)}")
            if held_until - self._clock.now < self._life - SHORT:
                yield from self._once("shortened", f"certificates end with the authority's, on {_time(not_after)}")
            self._clock.now = self._next(not_after, end - started)
        yield Happening(end, "signed", "all is well until then; certificates are renewed at half of their life")

    def _renewed(self) -> float:
        """Until when (Unix seconds) a certificate holds that is signed now."""
        key = new_key()
        chain = self._authority.sign(build_request(key, self._identity), self._identity)
        return judge_chain(chain, key, self._identity, self._clock.now.timestamp()).not_after

    def _next(self, not_after: float, span: datetime.timedelta) -> datetime.datetime:
        """The time of the next renewal, or of one much later where nothing happens between them."""
        now = self._clock.now
        renewal = datetime.datetime.fromtimestamp(renewal_time(now.timestamp(), not_after, MIDDLE), datetime.UTC)
        changes = [one.not_after for one in self._authority.status().certificates]
        ends = datetime.datetime.fromtimestamp(min(changes), datetime.UTC)
        leap = min(now + span / STEPS, ends - 3 * self._life)
        return max(renewal, leap, now + SHORT)

    def _warnings(self) -> Iterator[Happening]:
        for one in self._authority.status().certificates:
            if one.runs_out:
                text = f"lateen status warns from here on: {one.subject} ends on {_time(one.not_after)}"
                yield from self._once("warning", text)

    def _once(self, kind: str, text: str) -> Iterator[Happening]:
        if kind not in self._told:
            self._told.add(kind)
            yield Happening(self._clock.now, kind, text)


def _time(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M}"
