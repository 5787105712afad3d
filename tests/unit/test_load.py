"""The load generator of the benchmarks, against servers that misbehave on purpose."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from benchmarks import load
from benchmarks.load import Generator, Load, is_whole, run

pytestmark = pytest.mark.xdist_group("loads")  # one after the other: loads disturb each other

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@contextmanager
def server(answer: Callable[[int], bytes | None]) -> Iterator[str]:
    """Answers request number n (from 0) with ``answer(n)``; None closes the connection instead."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    lock = threading.Lock()
    count = 0

    def talk(connection: socket.socket) -> None:
        nonlocal count
        with connection:
            while connection.recv(65536):
                with lock:
                    number, count = count, count + 1
                response = answer(number)
                if response is None:
                    return
                connection.sendall(response)
                if b"close" in response:
                    return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_constant_rate() -> None:
    with server(lambda _: OK) as url:
        result = run(Load(url, rate=200, duration=1.0, connections=2))
    assert result.errors == {}
    assert result.answered == 200
    assert len(result.latencies) == len(result.lags) == 200


def test_what_was_due_while_the_generator_itself_was_late_is_sent_too() -> None:
    with server(lambda _: OK) as url:
        result = Generator(Load(url, rate=100, duration=0.2, connections=2), time.perf_counter() - 0.3).run()
    assert (result.errors, result.answered) == ({}, 20)
    assert min(result.latencies) >= 0.1


def test_latency_counts_from_when_a_request_was_due() -> None:
    """One stall of 0.5 s delays the 50 requests that are due meanwhile, and all of them show it."""

    def stall(number: int) -> bytes:
        if number == 10:
            time.sleep(0.5)
        return OK

    with server(stall) as url:
        result = run(Load(url, rate=100, duration=1.0, connections=1))
    assert result.answered == 100
    assert sum(latency > 0.25 for latency in result.latencies) >= 20
    assert max(result.lags) < 0.25


def test_failures_are_counted_by_kind() -> None:
    answers = [OK, b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", None]
    with server(lambda number: answers[number % 3]) as url:
        result = run(Load(url, rate=100, duration=0.6, connections=2))
    assert result.errors == {"503": 20, "ConnectionAbortedError": 20}
    assert result.answered == 40
    assert {kind for _, kind in result.examples} == {"503", "ConnectionAbortedError"}


def test_a_server_that_closes_politely_is_no_failure() -> None:
    polite = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    with server(lambda _: polite) as url:
        result = run(Load(url, rate=50, duration=0.6, connections=2))
    assert (result.errors, result.answered) == ({}, 30)


def test_nobody_there() -> None:
    with server(lambda _: OK) as url:
        pass
    result = run(Load(url, rate=20, duration=0.3, connections=1, timeout=0.2))
    assert result.answered == 0
    assert result.errors["never sent"] == 6


def test_closed_loop() -> None:
    with server(lambda _: OK) as url:
        result = run(Load(url, rate=0, duration=0.5, connections=2))
    assert result.errors == {}
    assert 2 < len(result.latencies) == result.answered


def test_what_is_due_in_the_warm_up_does_not_count() -> None:
    with server(lambda _: OK) as url:
        result = run(Load(url, rate=100, duration=1.0, connections=2, warmup=0.5))
    assert (result.errors, result.answered, len(result.latencies)) == ({}, 100, 50)


def test_a_run_says_when_it_has_begun_and_ends_early_with_what_came() -> None:
    def slow(_: int) -> bytes:
        time.sleep(0.05)
        return OK

    with server(slow) as url:
        words = [
            sys.executable,
            load.__file__,
            url,
            "--rate",
            "1000",
            "--connections",
            "1",
            "--duration",
            "600",
            "--announce",
        ]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "began\n"
            process.send_signal(signal.SIGTERM)
            found = json.loads(process.communicate(timeout=30)[0])
    assert (found["errors"], process.returncode) == ({}, 0)  # what waited for a connection still is not asked any more
    assert found["answered"] >= 1


@pytest.mark.parametrize(
    ("answer", "whole"),
    [
        (OK, True),
        (OK[:-1], False),
        (OK[:10], False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", True),
    ],
)
def test_whole_answers(answer: bytes, whole: bool) -> None:
    assert is_whole(answer) is whole
