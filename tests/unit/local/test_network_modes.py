"""The loopback network, and which network is chosen and why."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from lateen.local.links import LinkRequest
from lateen.local.network.choose import ChosenNetwork, probe
from lateen.local.network.loopback import LoopbackNetwork, listening_prefixes

NAMES = {
    "reviews.default.svc.cluster.local": ["240.240.3.4"],
    "book-store.default.svc.cluster.local": ["240.240.5.6"],
    "ratings.other.svc.cluster.local": ["240.240.7.8"],
    "db.default.svc.cluster.local": ["10.1.2.3"],
    "api.example.com": ["240.240.9.9"],
}


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await work()

    asyncio.run(bounded())


def request(name: str, gateway: bool = False) -> LinkRequest:
    return LinkRequest(name, "default", "240.241.1.1", is_gateway=gateway)


def with_names(folder: Path) -> Path:
    (folder / "names.json").write_text(json.dumps({"names": NAMES}))
    return folder


def test_an_application_is_told_where_it_stands_and_where_its_peers_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        network = LoopbackNetwork(with_names(tmp_path), domain="cluster.local")
        await network.start()
        link = await network.add(request("a"))
        prefix = link.registry["prefix"]
        assert link.registry["mode"] == network.mode == "loopback"
        assert link.address == f"127.{prefix}.255.2"
        assert link.probe_address == f"127.{prefix}.255.1"
        assert link.app_prefix == link.envoy_prefix == ()
        assert link.app_environment == {
            "LATEEN_BIND_ADDRESS": f"127.{prefix}.255.1",
            "REVIEWS_SERVICE_HOST": f"127.{prefix}.3.4",
            "BOOK_STORE_SERVICE_HOST": f"127.{prefix}.5.6",
        }
        await network.close()

    run(scenario)


def test_no_prefix_is_held_twice_on_the_machine(tmp_path: Path) -> None:
    async def scenario() -> None:
        one, other = (LoopbackNetwork(with_names(tmp_path), domain="cluster.local") for _ in range(2))
        held = [(await network.add(request(name))).registry["prefix"] for network in (one, other) for name in "ab"]
        held.append((await one.add(request("gateway", gateway=True))).registry["prefix"])
        assert len(set(held)) == 5
        await one.remove("a")
        again = (await one.add(request("a"))).registry["prefix"]
        assert again not in held, "what was given back is not taken at once"
        await one.close()
        await other.close()

    run(scenario)


def test_a_prefix_on_which_something_listens_is_left_alone() -> None:
    head = "  sl  local_address rem_address   st tx_queue\n"
    order = "little" if sys.byteorder == "little" else "big"
    address = int.from_bytes(bytes([127, 3, 255, 2]), order)
    local = int.from_bytes(bytes([10, 4, 0, 1]), order)
    lines = f"   0: {address:08X}:1F90 00000000:0000 0A 0\n   1: {local:08X}:1F90 00000000:0000 0A 0\n"
    other = int.from_bytes(bytes([127, 5, 255, 2]), order)
    lines += f"   2: {other:08X}:1F90 {other:08X}:1234 01 0\n"
    assert listening_prefixes(head + lines) == {3}


def test_without_the_control_planes_names_no_application_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lateen.local.network.loopback.NAMES_PATIENCE_S", 0.1)

    async def scenario() -> None:
        network = LoopbackNetwork(tmp_path, domain="cluster.local")
        with pytest.raises(OSError, match="told no service's address"):
            await network.add(request("a"))
        with_names(tmp_path)
        await network.add(request("a"))
        await network.close()

    run(scenario)


# Choice


def test_this_machine_has_namespaces_or_says_why_not() -> None:
    async def scenario() -> None:
        found = await probe()
        assert found.mode in ("namespaces", "loopback")
        assert found.reason
        assert found.mode == "namespaces" or "namespaces cannot be used here" in found.reason
        if found.mode == "namespaces":
            assert found.rootless is (os.geteuid() != 0)

    run(scenario)


def test_what_was_asked_for_is_chosen(tmp_path: Path) -> None:
    async def scenario() -> None:
        assert (await probe("loopback")).mode == "loopback"
        with pytest.raises(ValueError, match="not veth"):
            ChosenNetwork(tmp_path, {}, capture="veth", domain="cluster.local")

    run(scenario)


PROBE = """
import asyncio, sys
from lateen.local.network.choose import probe
try:
    found = asyncio.run(probe(sys.argv[1]))
    print(found.mode, found.reason)
except OSError as problem:
    print("refused", problem)
"""


def test_a_kernel_that_forbids_it_is_named_and_loopback_used() -> None:
    script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" -c "$1" "$2"'
    for capture, outcome in (("auto", "loopback"), ("namespaces", "refused")):
        done = subprocess.run(
            ["unshare", "-Ur", "sh", "-c", script, sys.executable, PROBE, capture],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if "unshare failed" in done.stderr or "cannot create" in done.stderr:
            pytest.skip("this kernel forbids user namespaces by itself")
        assert done.stdout.startswith(outcome), done.stderr
        assert "network namespaces cannot be used here" in done.stdout
        assert "user.max_user_namespaces" in done.stdout
