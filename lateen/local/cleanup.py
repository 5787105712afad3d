"""Clear away what a mesh left behind whose supervisor is gone: its processes, then its run directory.

What belongs to it is known twice over: by ``run.json`` (pid and start), and by the run id that every process of it
carries in its environment. The order is the one of an orderly stop: applications, proxies, the rest.
"""

from __future__ import annotations

import time

from lateen.local.procfs import ProcessRef, end_all, find_by_run_id, is_alive
from lateen.local.rundir import RunDir, RunRecord

APP_GRACE_S = 5.0
PROXY_GRACE_S = 2.0


def leftovers(record: RunRecord) -> list[ProcessRef]:
    """Every process of that run that still lives, the supervisor left out."""
    known = {process for process in record.processes.values() if is_alive(process)}
    return sorted({*known, *find_by_run_id(record.run_id)} - {record.supervisor}, key=lambda one: one.started)


def clear(run: RunDir, record: RunRecord | None) -> tuple[int, list[ProcessRef]]:
    """End all that is left of a run and remove its directory.

    Returns how many processes were ended and those that could not be; the directory stays if there are any.
    """
    if record is None:
        run.remove()
        return 0, []
    found = set(leftovers(record))
    ended = len(found)
    stubborn: list[ProcessRef] = []
    for suffix, grace in (("/app", APP_GRACE_S), ("/envoy", PROXY_GRACE_S), ("", PROXY_GRACE_S)):
        batch = {ref for name, ref in record.processes.items() if name.endswith(suffix)} & found
        batch = batch if suffix else found
        stubborn += end_all(sorted(batch, key=lambda one: one.started), grace)
        found -= batch
    late = leftovers(record)
    stubborn = [process for process in end_all(late, PROXY_GRACE_S) if is_alive(process)]
    if not stubborn:
        run.remove()
    return ended + len(late), stubborn


def wait_until_released(run: RunDir, bound_s: float) -> bool:
    """Wait until no supervisor holds the directory; False if one still does after ``bound_s`` seconds."""
    deadline = time.monotonic() + bound_s
    while run.is_held():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
