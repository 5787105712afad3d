"""One-time tokens by which a workload elsewhere gets its first certificate.

Comes in: who may join. Goes out: a token, told once; and for a token, the identity that it proves, once. The file holds
hashes alone. A token is crossed out durably before its certificate is given, so that neither a second caller nor a
restart makes it count twice.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec

from lateen.identity.keystore import KeystoreError, read_private, write_private
from lateen.values.names import SpiffeId

PREFIX = "join-"
LONGEST_TTL = datetime.timedelta(days=7)
MOST = 1000
MOST_BYTES = 1024 * 1024
"""How many may be open at once, and what their file may hold."""
logger = logging.getLogger(__name__)


class Invitation(msgspec.Struct, frozen=True):
    """Who may join, by the hash of the token; ``expires`` is Unix seconds; ``told``: what it is called
    (``told_names``)."""

    digest: str
    identity: str
    expires: float
    told: str = ""


class Redeemable(msgspec.Struct, frozen=True, eq=False):
    """A token that was found. ``cross_out`` is called before anything is given for it. It raises OSError.

    ``told``: what is known of the workload's names by it (``told_names``).
    """

    identity: SpiffeId
    cross_out: Callable[[], None]
    told: str = ""


class JoinTokens:
    """The invitations of one mesh, in a file of mode 0600. ``now`` gives the time, in UTC."""

    def __init__(self, file: Path, now: Callable[[], datetime.datetime]) -> None:
        self._file, self._now = file, now
        self._open = self._read()

    def invite(self, identity: SpiffeId, ttl: datetime.timedelta, told: str = "") -> str:
        """A new token for an identity, and what its workload is called. Raises ValueError where too many are open, and
        OSError."""
        self._drop_expired()
        if len(self._open) >= MOST:
            raise ValueError(f"there are {MOST} open invitations; let some expire")
        token = PREFIX + secrets.token_urlsafe(32)
        expires = (self._now() + min(ttl, LONGEST_TTL)).timestamp()
        self._write((*self._open, Invitation(_digest(token), str(identity), expires, told)))
        return token

    def find(self, token: str) -> Redeemable | None:
        """The invitation of a token, if there is one and it still holds."""
        if not token.startswith(PREFIX):
            return None
        digest, found = _digest(token), None
        for one in self._open:  # all of them, so that the time tells nothing
            if hmac.compare_digest(one.digest, digest):
                found = one
        if found is None or found.expires <= self._now().timestamp():
            return None
        return Redeemable(SpiffeId.parse(found.identity), lambda: self._cross_out(digest), found.told)

    def _cross_out(self, digest: str) -> None:
        left = tuple(one for one in self._open if one.digest != digest)
        if len(left) == len(self._open):
            raise OSError("the token has been used meanwhile")
        self._write(left)

    def _drop_expired(self) -> None:
        now = self._now().timestamp()
        self._open = tuple(one for one in self._open if one.expires > now)

    def _write(self, invitations: tuple[Invitation, ...]) -> None:
        write_private(self._file, msgspec.json.encode(invitations))
        self._open = invitations

    def _read(self) -> tuple[Invitation, ...]:
        """What the file holds; a file that cannot be read, or that others could have written, invites nobody."""
        try:
            text = read_private(self._file, MOST_BYTES)
            found = msgspec.json.decode(text, type=tuple[Invitation, ...]) if text is not None else ()
            for one in found:
                SpiffeId.parse(one.identity)
                bytes.fromhex(one.digest)
        except (OSError, KeystoreError, ValueError) as problem:
            logger.warning("no join token counts any more: %s cannot be used: %s", self._file, problem)
            return ()
        return found


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
