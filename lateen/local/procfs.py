"""Facts about processes, read from /proc: when one started, and which of them carry a run id.

A pid alone says nothing once its process has ended: the number is given out again. A pid with the tick of its start
names one process for as long as the machine runs.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

RUN_ID_VARIABLE = "LATEEN_RUN_ID"
PROC = Path("/proc")


class ProcessRef(msgspec.Struct, frozen=True):
    """One process: ``started`` is the clock tick since boot at which it began."""

    pid: int
    started: int


def start_of(pid: int) -> int | None:
    """The tick at which a process started; None if it is not there or is a zombie."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def reference(pid: int) -> ProcessRef | None:
    """The process that has this pid now."""
    started = start_of(pid)
    return None if started is None else ProcessRef(pid, started)


def is_alive(process: ProcessRef) -> bool:
    """Whether this very process still runs."""
    return start_of(process.pid) == process.started


def find_by_run_id(run_id: str) -> list[ProcessRef]:
    """Every process of this user whose environment carries the run id, the caller left out; oldest first."""
    wanted = f"{RUN_ID_VARIABLE}={run_id}".encode()
    found = []
    for entry in PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if entry.stat().st_uid != os.getuid() and os.getuid() != 0:
                continue
            carries = wanted in (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        process = reference(int(entry.name)) if carries else None
        if process is not None:
            found.append(process)
    return sorted(found, key=lambda one: (one.started, one.pid))


def send(process: ProcessRef, number: int) -> bool:
    """Send a signal to this very process; False if it is gone. A pidfd is held so that the pid cannot be another's."""
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        if not is_alive(process):
            return False
        signal.pidfd_send_signal(handle, number)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def end_all(processes: Iterable[ProcessRef], grace_s: float) -> list[ProcessRef]:
    """SIGTERM to all, SIGKILL after ``grace_s`` seconds to those still there; returns those that outlive even that."""
    left = [process for process in processes if send(process, signal.SIGTERM)]
    left = _wait_for_ends(left, grace_s)
    for process in left:
        send(process, signal.SIGKILL)
    return _wait_for_ends(left, 2.0)


def _wait_for_ends(processes: list[ProcessRef], bound_s: float) -> list[ProcessRef]:
    deadline = time.monotonic() + bound_s
    left = [process for process in processes if is_alive(process)]
    while left and time.monotonic() < deadline:
        time.sleep(0.01)
        left = [process for process in left if is_alive(process)]
    return left
