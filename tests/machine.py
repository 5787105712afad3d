"""What tests of every kind ask of the machine they run on: a free port, the end of a wait, who is still alive."""

from __future__ import annotations

import collections
import contextlib
import random
import socket
import time
from pathlib import Path
from typing import Any

_GIVEN: collections.deque[int] = collections.deque(maxlen=1000)


def free_port() -> int:
    """A port that nobody has now or was given lately.

    It is below those that the kernel gives to clients, which would take it meanwhile.
    """
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(10_000, max(low, 20_000))
        if port in _GIVEN:
            continue
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("", port))
            _GIVEN.append(port)
            return port


def eventually(check: Any, limit: float = 30.0) -> Any:
    """The first true value of ``check()``; fails after ``limit`` seconds."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if found := check():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {limit} s")


def marked(name: str, value: str) -> list[int]:
    """Living processes that were started with this variable in their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{name}={value}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found
