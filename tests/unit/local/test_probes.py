"""Readiness probes against real sockets and commands."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lateen.local.probes import ProbeResult, Target, run_probe
from lateen.local.project import Probe, ProbeKind

HERE = Target(make_socket=socket.socket, address="127.0.0.1", environment=dict(os.environ))


@contextmanager
def answering(answer: bytes | None) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                if answer is not None:
                    connection.sendall(answer)
                else:
                    connection.recv(4096)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def probe(kind: ProbeKind, **fields: object) -> ProbeResult:
    return asyncio.run(run_probe(Probe(kind, **{"timeout": 0.3, **fields}), HERE))  # type: ignore[arg-type]


def test_http_answers() -> None:
    for answer, ok in (
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.1 302 Found\r\n\r\n", True),
        (b"HTTP/1.1 503 No\r\n\r\n", False),
        (b"SSH-2.0\r\n", False),
        (b"", False),
        (None, False),
    ):
        with answering(answer) as port:
            assert probe(ProbeKind.HTTP, port=port, path="/").ok is ok, answer


def test_a_port_that_listens_and_one_that_does_not() -> None:
    with answering(b"") as port:
        assert probe(ProbeKind.TCP, port=port).ok
    refused = probe(ProbeKind.TCP, port=port)
    assert not refused.ok
    assert "refused" in refused.detail


def test_commands() -> None:
    assert probe(ProbeKind.EXEC, command=("true",), timeout=5.0).ok
    assert probe(ProbeKind.EXEC, command=("false",), timeout=5.0).detail == "false exited with 1"
    assert "cannot run" in probe(ProbeKind.EXEC, command=("no-such-program",), timeout=5.0).detail
    assert probe(ProbeKind.EXEC, command=("sleep", "10"), timeout=0.2).detail == "no answer within 0.2 s"
