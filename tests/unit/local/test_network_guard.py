"""What becomes of a network that cannot be kept: the mesh is told to stop, in words."""

from __future__ import annotations

import asyncio

import pytest

from lateen.local import network_guard
from lateen.local.events import EventLog
from lateen.local.network.loopback import LoopbackNetwork
from lateen.local.network_guard import NetworkGuard
from lateen.values.names import Origin


class Unsteady(LoopbackNetwork):
    """Is lost at once, and comes back only so many times."""

    returns = 1

    async def lost(self) -> str:
        return "ended by signal 9"

    async def restart(self) -> None:
        if not self.returns:
            raise OSError("create a network namespace: Operation not permitted")
        self.returns -= 1


def test_a_network_that_cannot_be_kept_is_given_up(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_guard, "ATTEMPTS", 3)
    events, calls = EventLog(), []
    guard = NetworkGuard(
        Unsteady(tmp_path, domain="cluster.local"),
        events,
        Origin("Mesh", "", "shop"),
        on_up=lambda: calls.append("up"),
        on_lost=lambda _: calls.append("lost"),
        on_failed=lambda: calls.append("failed"),
    )
    asyncio.run(guard.run())
    assert calls == ["up", "lost", "up", "lost", "failed"]
    assert not guard.ready.is_set()
    assert guard.finding is not None
    texts = [event.text for event in events.recent() if event.kind == "network-failed"]
    assert "Operation not permitted" in texts[0]
    assert texts[-1] == "the network could not be kept, 3 times in a row: the mesh is stopped"
