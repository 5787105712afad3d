"""Processes: their ends are told, groups end whole, leftovers are found by their run id and never a stranger's."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from lateen.local.cleanup import clear
from lateen.local.processes import LogCap, spawn, tail
from lateen.local.procfs import RUN_ID_VARIABLE, ProcessRef, end_all, find_by_run_id, is_alive, reference, send
from lateen.local.rundir import RunDir, RunRecord, find_runs, write_atomically


def test_an_end_is_told_with_its_code_and_output_is_kept(tmp_path: Path) -> None:
    async def scenario() -> int:
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        spawn(
            ["sh", "-c", "echo hello; exit 3"],
            environment={"PATH": os.environ["PATH"]},
            output=tmp_path / "app.log",
            on_exit=ended.set_result,
        )
        return await asyncio.wait_for(ended, 5)

    assert asyncio.run(scenario()) == 3
    assert tail(tmp_path / "app.log") == ["hello"]


def test_the_last_lines_are_whole_however_long_they_are(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    written = [f"{number} {'x' * 900}" for number in range(3000)]
    path.write_text("".join(f"{line}\n" for line in written))
    assert tail(path, 100) == written[-100:]
    assert tail(path, 1000) == written[-1000:]
    assert tail(path, 5000) == written
    assert tail(path, 0) == []
    path.write_text("one \u2028 \x85 \r line\nand another\r\n")
    assert tail(path) == ["one \u2028 \x85 \r line", "and another"]
    path.write_text("")
    assert tail(path) == []
    assert tail(tmp_path / "none.log", 5) == []


def test_what_a_child_forked_ends_with_it(tmp_path: Path) -> None:
    run_id = str(uuid.uuid4())

    async def scenario() -> None:
        ended = asyncio.Event()
        child = spawn(
            ["sh", "-c", "sleep 1000 & sleep 1000 & wait"],
            environment={"PATH": os.environ["PATH"], RUN_ID_VARIABLE: run_id},
            output=tmp_path / "app.log",
            on_exit=lambda _: ended.set(),
        )
        while len(find_by_run_id(run_id)) < 3:  # noqa: ASYNC110 - another process is waited for
            await asyncio.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        await asyncio.wait_for(ended.wait(), 5)

    asyncio.run(scenario())
    deadline = time.monotonic() + 5
    while find_by_run_id(run_id) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert find_by_run_id(run_id) == []


def test_a_missing_program_is_an_error(tmp_path: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(OSError, match="No such file"):
            spawn(["/no/such/program"], environment={}, output=tmp_path / "log", on_exit=lambda _: None)

    asyncio.run(scenario())


def test_a_pid_that_is_anothers_now_is_left_alone() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        ref = reference(process.pid)
        assert ref is not None
        stranger = ProcessRef(ref.pid, ref.started - 1)
        assert not is_alive(stranger)
        assert not send(stranger, signal.SIGKILL)
        assert end_all([ref], 5.0) == [] or process.wait() == -signal.SIGTERM
        process.wait()
    assert not is_alive(ref)


def test_leftovers_are_ended_by_record_and_by_run_id(tmp_path: Path) -> None:
    run, run_id = RunDir(tmp_path / "lateen" / "x"), str(uuid.uuid4())
    run.create()
    environment = {**os.environ, RUN_ID_VARIABLE: run_id}
    children = [subprocess.Popen(["sleep", "1000"], env=environment) for _ in range(2)]
    recorded = reference(children[0].pid)
    assert recorded is not None
    record = RunRecord("x", run_id, "/x/lateen.yaml", 0.0, ProcessRef(1, 0), processes={"a-0/app": recorded})
    run.write_record(record)
    reapers = [threading.Thread(target=child.wait) for child in children]
    for reaper in reapers:
        reaper.start()
    ended, stubborn = clear(run, record)
    for reaper in reapers:
        reaper.join(5)
    assert (ended, stubborn) == (2, [])
    assert not run.path.exists()


def test_logs_above_the_cap_are_moved_aside(tmp_path: Path) -> None:
    (tmp_path / "proxies" / "a-0").mkdir(parents=True)
    log = tmp_path / "proxies" / "a-0" / "app.log"
    log.write_bytes(b"x" * 100)
    assert LogCap(tmp_path, cap_bytes=1000).trim() == []
    assert LogCap(tmp_path, cap_bytes=99).trim() == [log]
    assert log.read_bytes() == b""
    assert log.with_name("app.log.1").read_bytes() == b"x" * 100


def test_a_run_directory_is_held_by_one_process_alone(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "lateen" / "m")
    run.create()
    assert not run.is_held()
    code = (
        "import sys; from pathlib import Path; from lateen.local.rundir import RunDir\n"
        f"assert RunDir(Path({str(run.path)!r})).lock(); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert run.is_held()
        assert not run.lock()
        other.kill()
    assert not run.is_held()
    assert run.lock()
    assert run.path.stat().st_mode & 0o777 == 0o700


def test_runs_are_found_by_their_records(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "lateen" / "m")
    run.create()
    assert list(find_runs(tmp_path / "lateen")) == []
    run.write_record(RunRecord("m", "id", "/m/lateen.yaml", 0.0, ProcessRef(1, 2)))
    (found,) = find_runs(tmp_path / "lateen")
    record = found.read_record()
    assert record is not None
    assert (record.name, record.supervisor) == ("m", ProcessRef(1, 2))
    write_atomically(run.record_file, b"{")
    assert found.read_record() is None


def test_a_path_that_is_too_long_for_sockets_is_told() -> None:
    assert RunDir(Path("/tmp/m")).longest_problem(["reviews-v1-0"]) == ""
    assert "--run-dir" in RunDir(Path("/tmp/" + "m" * 80)).longest_problem(["reviews-v1-0"])
