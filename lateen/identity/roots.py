"""The roots that a mesh trusts, and the one that signs: how one root takes the place of another.

Comes in: the authority's folder. Goes out: a ``Holding``. ``roots.json`` in the folder names the root that signs and
those that are trusted; without it there is the one root ``ca``. Each step of a rotation writes that file whole, after
the keys that it names and before anything is removed, so that whoever is killed between them finds a state that holds:

    stable    one root, which signs
    trusted   a new root is trusted as well; the old one signs
    issuing   both are trusted; the new one signs
    stable    the old one is gone

An authority that an operator plugs in has one state, and is exchanged with its files (``lateen.identity.plugged``).
"""

from __future__ import annotations

import datetime
import enum
import hashlib
import re
from pathlib import Path

import msgspec
from cryptography import x509

from lateen.identity.certificate import fingerprint
from lateen.identity.keystore import (
    KeystoreError,
    certificate_name,
    key_name,
    load_or_create,
    problems_of,
    read_private,
    write_private,
)
from lateen.identity.plugged import Issuer, constrains_subjects, is_plugged_in, load_plugged_in

STATE_FILE = "roots.json"
FIRST = "ca"
_FILE = re.compile(r"(ca(?:-[0-9]+)?)-(?:key|cert)\.pem")


class Phase(enum.Enum):
    """Where a rotation stands."""

    STABLE = "stable"
    TRUSTED = "trusted"
    ISSUING = "issuing"
    PLUGGED_IN = "plugged-in"


class WrongStep(Exception):
    """A step that does not follow on the present phase; the text says what does."""


class RootsState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``roots.json``: names of roots, the old one first."""

    issuing: str = FIRST
    trusted: tuple[str, ...] = (FIRST,)

    @property
    def phase(self) -> Phase:
        if len(self.trusted) == 1:
            return Phase.STABLE
        return Phase.TRUSTED if self.issuing == self.trusted[0] else Phase.ISSUING


class Holding(msgspec.Struct, frozen=True, eq=False):
    """Who signs and who is trusted. ``generation`` changes whenever either does."""

    issuer: Issuer
    roots: tuple[x509.Certificate, ...]
    phase: Phase

    @property
    def generation(self) -> str:
        parts = [fingerprint(certificate) for certificate in (self.issuer.certificate, *self.roots)]
        return hashlib.sha256(":".join(parts).encode()).hexdigest()[:16]

    @property
    def may_describe(self) -> bool:
        """Whether subjects of workloads may say anything: constraints on them would make it a wrong one."""
        links = (self.issuer.certificate, *self.issuer.above, *self.roots)
        return not any(constrains_subjects(link) for link in links)


def load_holding(folder: Path, trust_domain: str, now: datetime.datetime) -> Holding:
    """What the folder holds; a root is made where there is none. Raises KeystoreError."""
    if is_plugged_in(folder):
        issuer, roots = load_plugged_in(folder, trust_domain, now)
        return Holding(issuer, roots, Phase.PLUGGED_IN)
    state = _read(folder)
    loaded = {name: load_or_create(folder, trust_domain, now, name) for name in state.trusted}
    certificate, key = loaded[state.issuing]
    issuer = Issuer(certificate, key, (), certificate, certificate.not_valid_after_utc)
    return Holding(issuer, tuple(certificate for certificate, _ in loaded.values()), state.phase)


def next_step(folder: Path, trust_domain: str, now: datetime.datetime) -> Phase:
    """Do the next step of a rotation: the phase that it leads to. Raises KeystoreError, WrongStep."""
    state = _changeable(folder)
    if state.phase is Phase.STABLE:
        name = _unused(folder, state)
        load_or_create(folder, trust_domain, now, name)
        return _write(folder, RootsState(state.issuing, (*state.trusted, name)))
    if state.phase is Phase.TRUSTED:
        return _write(folder, RootsState(state.trusted[1], state.trusted))
    return _write(folder, RootsState(state.trusted[1], state.trusted[1:]))


def step_back(folder: Path) -> Phase:
    """Undo the last step, as long as the old root is trusted. Raises KeystoreError, WrongStep."""
    state = _changeable(folder)
    if state.phase is Phase.STABLE:
        raise WrongStep("no rotation is under way")
    trusted = state.trusted if state.phase is Phase.ISSUING else state.trusted[:1]
    return _write(folder, RootsState(state.trusted[0], trusted))


def _changeable(folder: Path) -> RootsState:
    if is_plugged_in(folder):
        raise WrongStep("the authority is plugged in: exchange its files, with both roots in root-cert.pem meanwhile")
    return _read(folder)


def _read(folder: Path) -> RootsState:
    path = folder / STATE_FILE
    with problems_of(folder):
        text = read_private(path)
    if text is None:
        _check_first(folder)
        return RootsState()
    try:
        state = msgspec.json.decode(text, type=RootsState)
    except msgspec.MsgspecError as problem:
        raise KeystoreError(path, f"cannot be read: {problem}") from problem
    known = all(_FILE.fullmatch(key_name(name)) for name in state.trusted)
    if not known or state.issuing not in state.trusted or not 1 <= len(set(state.trusted)) == len(state.trusted) <= 2:
        raise KeystoreError(path, "does not name one or two roots, of which one signs")
    for name in state.trusted:
        if not (folder / certificate_name(name)).exists():
            raise KeystoreError(folder / certificate_name(name), f"is missing, though {STATE_FILE} names it")
    return state


def _check_first(folder: Path) -> None:
    """Without a state there is the first root alone. Others without it were named by a state that is lost."""
    with problems_of(folder):
        names = (
            {found[1] for path in folder.iterdir() if (found := _FILE.fullmatch(path.name))} if folder.exists() else ()
        )
    others = sorted(name for name in names if name != FIRST)
    if others and FIRST not in names:
        reason = f"is missing, though {certificate_name(others[-1])} came by an exchange of roots; restore it"
        raise KeystoreError(folder / STATE_FILE, f"{reason}, or remove all files of {folder} for a new root")


def _write(folder: Path, state: RootsState) -> Phase:
    with problems_of(folder):
        write_private(folder / STATE_FILE, msgspec.json.encode(state))
        for path in folder.iterdir():
            found = _FILE.fullmatch(path.name)
            if found is not None and found[1] not in state.trusted:
                path.unlink()
    return state.phase


def _unused(folder: Path, state: RootsState) -> str:
    with problems_of(folder):
        present = {found[1] for path in folder.iterdir() if (found := _FILE.fullmatch(path.name))}
    numbers = [int(name.partition("-")[2] or 1) for name in present | set(state.trusted)]
    return f"{FIRST}-{max(numbers) + 1}"
