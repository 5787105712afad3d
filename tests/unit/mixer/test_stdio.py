"""``stdio``: what stands in its lines and files, and what a reader costs who does not read."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from lateen.mixer.adapters import stdio
from lateen.mixer.adapters.rotation import MEGABYTE, RotatedFile
from lateen.mixer.adapters.stdio import Stdio, Stream, plain_file
from lateen.mixer.templates import LogEntry, Metric

NOON = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)


def log(severity: str = "warn", **variables: Any) -> LogEntry:
    return LogEntry(name="access.default", variables=variables, timestamp=NOON, severity=severity)


def metric(value: Any = 1, **dimensions: Any) -> Metric:
    return Metric(name="requests.default", value=value, dimensions=dimensions)


def reported(adapter: Stdio, *instances: Any) -> None:
    async def run() -> None:
        await adapter.report("any", instances)
        await adapter.close()

    asyncio.run(run())


def test_stdio_writes_json_with_levels(tmp_path: Path) -> None:
    path = tmp_path / "log"
    adapter = Stdio(plain_file(path), as_json=True, metric_level="ERROR", clock=lambda: NOON)
    took = datetime.timedelta(milliseconds=1500)
    entry = log(user='a"b\n', took=took, ip=ipaddress.ip_address("10.0.0.1"), size=3, none=None, labels={"a": "b"})
    reported(adapter, entry, log("strange"), metric(2.5, source="a"))
    first, second, third = (json.loads(line) for line in path.read_text().splitlines())
    assert first == {
        "level": "warn",
        "time": "2026-01-31T12:00:00Z",
        "instance": "access.default",
        "user": 'a"b\n',
        "took": "1.5s",
        "ip": "10.0.0.1",
        "size": 3,
        "none": None,
        "labels": {"a": "b"},
    }
    assert second["level"] == "info"
    assert third == {
        "level": "error",
        "time": "2026-01-31T12:00:00Z",
        "instance": "requests.default",
        "value": 2.5,
        "source": "a",
    }


def test_stdio_leaves_out_what_is_below_its_level(tmp_path: Path) -> None:
    path = tmp_path / "log"
    adapter = Stdio(plain_file(path), severities={"low": "INFO", "high": "ERROR"}, least="WARNING")
    reported(adapter, log("low"), log("high", a="b"), metric())
    assert path.read_text() == '2026-01-31T12:00:00Z\terror\taccess.default\t{"a":"b"}\n'


def test_stdio_cannot_be_told_a_false_level_by_a_request(tmp_path: Path) -> None:
    reported(Stdio(plain_file(tmp_path / "log"), as_json=True), log("ERROR", level="info", instance="other"))
    found = json.loads((tmp_path / "log").read_text())
    assert (found["level"], found["instance"]) == ("error", "access.default")


def test_a_reader_that_does_not_read_costs_lines_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdio, "LONGEST_WAIT", 3)
    reading, writing = os.pipe()

    async def run(stream: BinaryIO) -> int:
        adapter = Stdio(Stream(stream))
        for _ in range(5):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(adapter.report("logentry", [log(text="x" * 100_000)]), 0.02)
        lost = adapter.lost
        drained = asyncio.get_running_loop().run_in_executor(None, lambda: read_lines(reading, 3))
        await drained
        await adapter.close()
        return lost

    with os.fdopen(writing, "wb") as stream:
        assert asyncio.run(run(stream)) == 2
    os.close(reading)


def read_lines(descriptor: int, count: int) -> None:
    seen = 0
    while seen < count:
        seen += os.read(descriptor, 65536).count(b"\n")


def test_a_file_is_set_aside_when_it_is_full(tmp_path: Path) -> None:
    moments = iter(NOON + datetime.timedelta(seconds=index) for index in range(100))
    file = RotatedFile(tmp_path / "log", megabytes=1, days=0, files=2, clock=lambda: next(moments))
    line = b"x" * (MEGABYTE // 2 - 1) + b"\n"
    for _ in range(9):
        file.write(line)
    file.close()
    older = sorted(path for path in tmp_path.iterdir() if path.name != "log")
    assert [path.stat().st_size for path in older] == [MEGABYTE, MEGABYTE]
    assert (tmp_path / "log").stat().st_size == len(line)


def test_files_that_are_too_old_go(tmp_path: Path) -> None:
    old = tmp_path / "log-20200101T000000.000000Z"
    old.write_bytes(b"")
    os.utime(old, (0, 0))
    file = RotatedFile(tmp_path / "log", megabytes=1, days=30, files=0)
    for _ in range(2):
        file.write(b"x" * MEGABYTE)
    file.close()
    assert not old.exists()
    assert len(list(tmp_path.iterdir())) == 2
