"""The node agent's certificates: a renewal that fails is told for as long as it does."""

from __future__ import annotations

import asyncio
import datetime
import tempfile
from pathlib import Path

from lateen.cli.rooms import AgentIdentities
from lateen.control.runtime import utc_now
from lateen.identity.authority import Authority
from lateen.identity.csr_server import CertificateServer
from lateen.identity.proofs import lasting
from lateen.local.links import IdentityRequest
from lateen.values.names import SpiffeId

IDENTITY = SpiffeId("cluster.local", "default", "reviews")


def test_a_renewal_that_fails_is_told_until_one_succeeds() -> None:
    async def scenario(folder: Path) -> None:
        life = datetime.timedelta(seconds=2)
        authority = Authority(folder / "ca", "cluster.local", utc_now, life)
        agents = AgentIdentities("cluster.local", folder / "ca-generation", folder / "federation.json", "ec-p256")
        server = CertificateServer(authority, utc_now)
        await server.start(folder / "ca.sock", lambda token: lasting({"token": IDENTITY}.get(token)))
        await agents.add(
            IdentityRequest("reviews-0", "default", "reviews", "token", folder / "ca.sock", folder / "sds.sock")
        )
        assert agents.problem("reviews-0") == ""
        await server.stop()
        async with asyncio.timeout(10):
            while not agents.problem("reviews-0"):  # noqa: ASYNC110 - another task is waited for
                await asyncio.sleep(0.02)
            server = CertificateServer(authority, utc_now)
            await server.start(folder / "ca.sock", lambda token: lasting({"token": IDENTITY}.get(token)))
            while agents.problem("reviews-0"):  # noqa: ASYNC110 - another task is waited for
                await asyncio.sleep(0.02)
        await agents.close()
        assert agents.problem("reviews-0") == ""
        await server.stop()

    with tempfile.TemporaryDirectory(prefix="lt-") as name:
        asyncio.run(scenario(Path(name)))
