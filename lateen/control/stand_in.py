"""Credentials that nobody ever uses, where a configuration is looked at without the real ones.

Comes in: nothing. Goes out: a certificate, its key and a root, as PEM, made on the spot.
"""

from __future__ import annotations

import datetime

from lateen.identity.certificate import (
    build_request,
    build_root,
    build_workload,
    certificate_pem,
    key_pem,
    new_key,
    read_request,
)
from lateen.values.names import SpiffeId

VALID = datetime.timedelta(days=3650)


def stand_in_credentials() -> tuple[bytes, bytes, bytes]:
    """A certificate, its key and the root behind it."""
    now = datetime.datetime.now(datetime.UTC)
    identity = SpiffeId("trial.local", "trial", "trial")
    root_key, key = new_key(), new_key()
    root = build_root(root_key, identity.trust_domain, now)
    leaf = build_workload(read_request(build_request(key, identity)), identity, root, root_key, now, VALID)
    return certificate_pem(leaf), bytes(key_pem(key)), certificate_pem(root)
