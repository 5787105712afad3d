"""An open-loop HTTP/1.1 load generator: requests leave when they are due, whether or not earlier ones are answered.

    python benchmarks/load.py http://127.0.0.1:8080/productpage --rate 200 --duration 10 --connections 4

A closed loop sends the next request when the last one is answered, and so looks away exactly while the system is slow
("coordinated omission"). Here every request has a time at which it is due, ``1/rate`` after the one before, and its
latency counts from that time, waiting for a free connection included. What the generator itself adds is reported as
``lag_ms``: how late after being due a request was sent although a connection was free. Trust no latency below it.

With ``--rate 0`` the loop is closed: each connection sends as fast as it is answered, which measures throughput.

Connections are kept alive. One that the server closes while idle is opened again and is no error. A request that gets
no whole answer, or a status from 400 on, is one, and so is a connection that cannot be opened. SIGINT or SIGTERM ends
a run (of one process) early, with the figures so far.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import gc
import json
import multiprocessing
import os
import select
import signal
import socket
import sys
import time
import urllib.parse
from array import array
from collections.abc import Sequence
from typing import NamedTuple

READ_BYTES = 256 * 1024
SWEEP_S = 0.1
MAX_EXAMPLES = 20
PERCENTILES = (50.0, 90.0, 99.0, 99.9)
PR_SET_TIMERSLACK = 29
LENGTH = b"\r\ncontent-length:"


class Load(NamedTuple):
    """What to send. ``rate`` is requests a second in all, 0 for a closed loop; times are in seconds.

    ``announce``: a line is printed as the first answer comes.
    """

    url: str
    rate: float
    duration: float
    connections: int = 4
    warmup: float = 0.0
    timeout: float = 10.0
    headers: tuple[str, ...] = ()
    announce: bool = False


class Result(NamedTuple):
    """What came: latencies and lags in seconds without the warm-up; errors by kind, with when the first ones were."""

    latencies: Sequence[float]
    lags: Sequence[float]
    errors: dict[str, int]
    examples: list[tuple[float, str]]
    seconds: float
    answered: int

    def summary(self) -> dict[str, object]:
        """The figures for people and for JSON; milliseconds."""
        return {
            "answered": self.answered,
            "errors": self.errors,
            "first_errors": [{"at_s": round(at, 3), "error": kind} for at, kind in self.examples],
            "rate": round(self.answered / self.seconds, 1) if self.seconds else 0.0,
            "latency_ms": _spread(self.latencies),
            "lag_ms": _spread(self.lags),
        }


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Percentiles, mean and maximum of seconds, in milliseconds; empty without values."""
    if not values:
        return {}
    ordered = sorted(values)
    spread = {f"p{p:g}": ordered[min(len(ordered) - 1, int(len(ordered) * p / 100))] for p in PERCENTILES}
    spread |= {"max": ordered[-1], "mean": sum(ordered) / len(ordered)}
    return {name: round(value * 1000, 3) for name, value in spread.items()}


class Connection:
    """One kept-alive connection: opening, idle (``due`` None) or waiting for an answer (``due``: when it was due)."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.due: float | None = None
        self.sent_at = 0.0
        self.free_at = 0.0
        self.is_open = False
        self._buffer = b""
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex(address)

    def finish_opening(self) -> None:
        """Raises OSError where nobody listens."""
        if number := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(number, os.strerror(number))
        self.is_open = True

    def send(self, request: bytes, due: float, now: float) -> None:
        """Raises OSError where the peer has gone."""
        self.due, self.sent_at = due, now
        if self.socket.send(request) != len(request):
            raise BlockingIOError("request not sent whole")

    def receive(self) -> bytes | None:
        """Read; the whole answer once it is there, else None. Raises OSError at the end of the stream."""
        data = self.socket.recv(READ_BYTES)
        if not data:
            raise ConnectionAbortedError("closed by the peer")
        self._buffer += data
        if not is_whole(self._buffer):
            return None
        answer, self._buffer = self._buffer, b""
        return answer


def is_whole(answer: bytes) -> bool:
    """Whether ``answer`` is a complete response with a Content-Length or in chunks."""
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator:
        return False
    head = head.lower()
    length_at = head.find(LENGTH)
    if length_at >= 0:
        return len(body) >= int(head[length_at + len(LENGTH) :].partition(b"\r\n")[0])
    return body.endswith(b"0\r\n\r\n") if b"\r\ntransfer-encoding: chunked" in head else True


class Generator:
    """One process's share of a load, from ``start`` (a time of ``time.perf_counter``) on."""

    def __init__(self, load: Load, start: float, share: int = 0, shares: int = 1) -> None:
        parts = urllib.parse.urlsplit(load.url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        named = any(header.lower().startswith("host:") for header in load.headers)
        lines = [f"GET {target} HTTP/1.1", *([] if named else [f"Host: {parts.netloc}"]), *load.headers]
        self._request = ("\r\n".join(lines) + "\r\n\r\n").encode()
        self._address = (socket.gethostbyname(parts.hostname or "127.0.0.1"), parts.port or 80)
        self._load = load
        self._interval = shares / load.rate if load.rate else 0.0
        self._start = start + share * self._interval / shares
        self._end = self._start + load.duration
        self._connections: dict[int, Connection] = {}
        self._idle: collections.deque[Connection] = collections.deque()
        self._waiting: collections.deque[float] = collections.deque()
        self._scheduled = 0
        self._poll = select.epoll()
        self._latencies, self._lags = array("d"), array("d")
        self._errors: collections.Counter[str] = collections.Counter()
        self._examples: list[tuple[float, str]] = []
        self._answered = 0
        self.stopped = False
        self._missing = max(1, load.connections // shares)

    def run(self) -> Result:
        """Send until the duration is over or ``stopped`` is set, and wait for the last answers."""
        next_sweep = 0.0
        while True:
            now = time.perf_counter()
            if self.stopped:
                self._waiting.clear()
            pause = self._schedule(now)
            while self._waiting and self._idle:
                self._send(self._idle.popleft(), self._waiting.popleft(), now)
            if now >= next_sweep:
                self._sweep(now)
                next_sweep = now + SWEEP_S
            is_over = self.stopped or now >= self._end
            is_busy = len(self._idle) < len(self._connections) and self._has_unanswered()
            if is_over and (not (self._waiting or is_busy) or now > self._end + self._load.timeout):
                break
            # select has microseconds where epoll has milliseconds, and can wait for the epoll object itself
            if select.select([self._poll], [], [], pause)[0]:
                self._receive()
        for _ in self._waiting:
            self._fail("never sent", time.perf_counter())
        seconds = min(time.perf_counter(), self._end) - self._start
        return Result(self._latencies, self._lags, dict(self._errors), self._examples, seconds, self._answered)

    def _schedule(self, now: float) -> float:
        """Put what is due into the queue, however late it is; gives the time until the next is due."""
        if self.stopped:
            return SWEEP_S
        if not self._interval:
            if self._start <= now < self._end:
                self._waiting.extend([now] * (len(self._idle) - len(self._waiting)))
            return SWEEP_S
        last = self._end - self._interval / 2
        while (due := self._start + self._scheduled * self._interval) <= min(now, last):
            self._waiting.append(due)
            self._scheduled += 1
        return min(due - now, SWEEP_S) if due <= last else SWEEP_S

    def _has_unanswered(self) -> bool:
        return any(connection.due is not None for connection in self._connections.values())

    def _counts(self, due: float) -> bool:
        return due >= self._start + self._load.warmup

    def _send(self, connection: Connection, due: float, now: float) -> None:
        if self._counts(due):
            self._lags.append(now - max(due, connection.free_at))
        try:
            connection.send(self._request, due, now)
        except OSError as problem:
            self._drop(connection, type(problem).__name__, now)

    def _receive(self) -> None:
        """Take what has arrived on any connection."""
        for number, events in self._poll.poll(0):
            connection = self._connections[number]
            try:
                if not connection.is_open:
                    connection.finish_opening()
                    self._poll.modify(number, select.EPOLLIN)
                    self._free(connection)
                elif events and (answer := connection.receive()) is not None:
                    self._take(connection, answer)
            except BlockingIOError:
                continue
            except OSError as problem:
                self._drop(connection, type(problem).__name__, time.perf_counter())

    def _take(self, connection: Connection, answer: bytes) -> None:
        now, due = time.perf_counter(), connection.due
        connection.due = None
        if due is None:
            self._drop(connection, "unasked answer", now)
            return
        status = answer[9:12].decode(errors="replace")
        if status >= "400":
            self._fail(status, now)
        elif self._counts(due):
            self._latencies.append(now - due)
        self._answered += 1
        if self._answered == 1 and self._load.announce:
            print("began", flush=True)
        if b"\r\nconnection: close\r\n" in answer.partition(b"\r\n\r\n")[0].lower() + b"\r\n":
            self._drop(connection, "", now)
        else:
            self._free(connection)

    def _free(self, connection: Connection) -> None:
        connection.free_at = time.perf_counter()
        self._idle.append(connection)

    def _drop(self, connection: Connection, kind: str, now: float) -> None:
        """Close a connection, to be replaced at the next sweep; an error only if an answer was due on it."""
        if connection.due is not None or (kind and not connection.is_open):
            self._fail(kind, now)
        if connection in self._idle:
            self._idle.remove(connection)
        self._poll.unregister(connection.socket)
        del self._connections[connection.socket.fileno()]
        connection.socket.close()
        self._missing += 1
        if connection.is_open:
            self._open()

    def _open(self) -> None:
        connection = Connection(self._address)
        self._connections[connection.socket.fileno()] = connection
        self._poll.register(connection.socket, select.EPOLLOUT)
        self._missing -= 1

    def _sweep(self, now: float) -> None:
        """Give up what waits for too long, and replace connections that could not be opened."""
        for connection in list(self._connections.values()):
            if connection.due is not None and now - connection.sent_at > self._load.timeout:
                self._drop(connection, "timeout", now)
        while self._missing:
            self._open()

    def _fail(self, kind: str, now: float) -> None:
        self._errors[kind] += 1
        if len(self._examples) < MAX_EXAMPLES:
            self._examples.append((now - self._start, kind))


def _run_share(load: Load, start: float, share: int, shares: int) -> Result:
    """One process's part: exact timers, no collector in between, and signals that end the run early."""
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    generator = Generator(load, start, share, shares)

    def stop(*_: object) -> None:
        generator.stopped = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    gc.collect()
    gc.disable()
    return generator.run()


def run(load: Load, processes: int = 1) -> Result:
    """Make the load, in several processes where one is too slow (about 30,000 requests a second), and merge."""
    if processes == 1:
        return _run_share(load, time.perf_counter() + 0.05, 0, 1)
    start = time.perf_counter() + 1.0
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        parts = pool.starmap(_run_share, [(load, start, share, processes) for share in range(processes)])
    return merge(parts)._replace(seconds=max(part.seconds for part in parts))


def merge(parts: Sequence[Result]) -> Result:
    """Several results, one after the other, as one."""
    latencies, lags = array("d"), array("d")
    errors: collections.Counter[str] = collections.Counter()
    for part in parts:
        latencies.extend(part.latencies)
        lags.extend(part.lags)
        errors.update(part.errors)
    examples = sorted(example for part in parts for example in part.examples)[:MAX_EXAMPLES]
    seconds, answered = sum(part.seconds for part in parts), sum(part.answered for part in parts)
    return Result(latencies, lags, dict(errors), examples, seconds, answered)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; exit status 1 if any request failed."""
    parser = argparse.ArgumentParser(description="Open-loop HTTP load at a constant rate.")
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second; 0: as fast as answered (100)")
    parser.add_argument("--duration", type=float, default=10.0, help="seconds (10)")
    parser.add_argument("--warmup", type=float, default=0.0, help="first seconds that do not count (0)")
    parser.add_argument("--connections", type=int, default=4, help="kept-alive connections in all (4)")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds for one answer (10)")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--announce", action="store_true", help='print "began" as the first answer comes')
    parser.add_argument("-H", "--header", action="append", default=[], metavar="NAME: VALUE")
    options = parser.parse_args(arguments)
    load = Load(
        url=options.url,
        rate=options.rate,
        duration=options.duration,
        connections=options.connections,
        warmup=options.warmup,
        timeout=options.timeout,
        headers=tuple(options.header),
        announce=options.announce,
    )
    result = run(load, options.processes)
    json.dump(result.summary(), sys.stdout, indent=2)
    print()
    return 1 if result.errors else 0


if __name__ == "__main__":
    sys.exit(main())
