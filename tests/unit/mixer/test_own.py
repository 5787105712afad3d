"""The process of an adapter of your own: its start, and what calls feel meanwhile."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from lateen.mixer.adapters.own import OwnAdapter
from lateen.mixer.handler import Handler
from lateen.mixer.templates import ListEntry

SLOW = """
import time
from lateen.mixer.adapter import CheckAdapter, CheckResult

time.sleep(1.5)

class Slow(CheckAdapter):
    templates = frozenset({"listentry"})

    async def check(self, instance):
        return CheckResult(0, f"{instance.value} is known", 0.0)

    async def close(self):
        while True:
            pass
"""


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OwnAdapter:
    """An adapter whose package takes a while to be read, and which never ends by itself."""
    info = tmp_path / "slow-1.dist-info"
    info.mkdir()
    (tmp_path / "slow.py").write_text(SLOW)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slow\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[lateen.adapters]\nslow = slow:Slow\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    return OwnAdapter("slow", {})


def test_a_start_goes_on_though_calls_give_up_meanwhile_and_one_that_hangs_is_ended(slow: OwnAdapter) -> None:
    async def scenario() -> None:
        handler = Handler("slow", slow, deadline=0.5, fail_open=False)
        first = await handler.check(ListEntry(name="slow", value="ann"))
        assert "did not answer within" in first.message
        await told(handler)
        process = slow._process
        assert process is not None
        await handler.close()
        assert await process.wait() < 0

    async def told(handler: Handler) -> None:
        end = time.monotonic() + 30
        while (await handler.check(ListEntry(name="slow", value="ann"))).message != "ann is known":
            assert time.monotonic() < end
            await asyncio.sleep(0.05)

    asyncio.run(scenario())
