"""What strangers may send to the servers of a control plane: frames of HTTP/2 by hand, and bytes that are nothing.

Comes in: a way to connect. Goes out: nothing; each flood sends what it has, or until the other side ends it.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from collections.abc import Callable, Iterator

Connect = Callable[[], socket.socket]
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RESET, SETTINGS, PING, GO_AWAY, WINDOW, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4
CHUNK = 64 * 1024


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name: bytes, value: bytes, *, keep: bool = False) -> bytes:
    """A header that is spelt out; ``keep``: the other side is to put it into its table."""
    return bytes([0x40 if keep else 0]) + _text(name) + _text(value)


def _text(text: bytes) -> bytes:
    size, more = len(text), b""
    if size < 127:
        return bytes([size]) + text
    size -= 127
    while size >= 128:
        more += bytes([size % 128 + 128])
        size //= 128
    return b"\x7f" + more + bytes([size]) + text


def call(path: str, *more: tuple[bytes, bytes]) -> bytes:
    """The headers of a gRPC call."""
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()), (b":authority", b"x")]
    fields += [(b"content-type", b"application/grpc"), (b"te", b"trailers"), *more]
    return b"".join(literal(name, value) for name, value in fields)


# --- floods of frames ------------------------------------------------------------------------------------------------


def resets(path: str) -> Iterator[bytes]:
    """Streams that are opened and reset at once."""
    head = call(path)
    for number in range(1, 10_000, 2):
        yield frame(HEADERS, END_HEADERS, number, head) + frame(RESET, 0, number, struct.pack(">I", 8))


def streams(path: str) -> Iterator[bytes]:
    """Streams that are opened and left."""
    head = call(path)
    for number in range(1, 5_000, 2):
        yield frame(HEADERS, END_HEADERS, number, head)


def settings(_: str) -> Iterator[bytes]:
    for number in range(8_000):
        yield frame(SETTINGS, payload=struct.pack(">HI", 4, 65535 + number % 2))


def pings(_: str) -> Iterator[bytes]:
    for number in range(8_000):
        yield frame(PING, payload=struct.pack(">Q", number))


def empty_data(path: str) -> Iterator[bytes]:
    yield frame(HEADERS, END_HEADERS, 1, call(path))
    for _ in range(8_000):
        yield frame(DATA, 0, 1)


def endless_headers(path: str) -> Iterator[bytes]:
    """A head that never ends: 4 MiB of it."""
    yield frame(HEADERS, 0, 1, call(path))
    for number in range(256):
        yield frame(CONTINUATION, 0, 1, literal(b"x-%d" % number, b"y" * 16_000))


def empty_continuations(path: str) -> Iterator[bytes]:
    yield frame(HEADERS, 0, 1, call(path))
    for _ in range(10_000):
        yield frame(CONTINUATION, 0, 1)


def packed_headers(path: str) -> Iterator[bytes]:
    """One large header in the table, named again and again: a few bytes that stand for gigabytes."""
    yield frame(HEADERS, END_HEADERS | END_STREAM, 1, call(path) + literal(b"cookie", b"c" * 3900, keep=True))
    for number in range(3, 120, 2):
        yield frame(HEADERS, END_HEADERS | END_STREAM, number, call(path) + b"\xbe" * 15_000)


def windows(path: str) -> Iterator[bytes]:
    yield frame(HEADERS, END_HEADERS, 1, call(path))
    for _ in range(8_000):
        yield frame(WINDOW, 0, 1, struct.pack(">I", 1)) + frame(PRIORITY, 0, 1, struct.pack(">IB", 3, 1))


def table_sizes(path: str) -> Iterator[bytes]:
    for number in range(1, 2_000, 2):
        yield frame(HEADERS, END_HEADERS | END_STREAM, number, b"\x20\x3f\xe1\x1f" + call(path))


def long_message(path: str) -> Iterator[bytes]:
    """A message that says that it has 4 GiB."""
    yield frame(HEADERS, END_HEADERS, 1, call(path))
    yield frame(DATA, 0, 1, b"\0\xff\xff\xff\xff" + b"x" * 10_000)
    for _ in range(200):
        yield frame(DATA, 0, 1, b"x" * 16_000)


FLOODS: tuple[Callable[[str], Iterator[bytes]], ...] = (
    resets,
    streams,
    settings,
    pings,
    empty_data,
    endless_headers,
    empty_continuations,
    packed_headers,
    windows,
    table_sizes,
    long_message,
)


def flood(connect: Connect, frames: Iterator[bytes]) -> None:
    """Send frames, without waiting for answers, until there are no more or the other side has enough."""
    with contextlib.suppress(OSError), connect() as connection:
        connection.settimeout(2)
        waiting = bytearray(PREFACE + frame(SETTINGS))
        for one in frames:
            waiting += one
            if len(waiting) >= CHUNK:
                connection.sendall(waiting)
                waiting.clear()
                _take(connection)
        connection.sendall(waiting)
        _take(connection)


def _take(connection: socket.socket) -> None:
    """Read what is there: some servers stop reading until their answers are read."""
    connection.settimeout(0.001)
    with contextlib.suppress(TimeoutError):
        while connection.recv(CHUNK):
            pass
    connection.settimeout(2)


def noise(connect: Connect, seed: int) -> None:
    """Bytes of a known protocol with some of them changed, and bytes of none."""
    chance = random.Random(seed)
    starts = (PREFACE + frame(SETTINGS) + frame(HEADERS, END_HEADERS, 1, call("/x")), b"GET / HTTP/1.1\r\n\r\n", b"")
    data = bytearray(chance.choice(starts) + chance.randbytes(chance.randrange(2000)))
    for _ in range(chance.randrange(20)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    with contextlib.suppress(OSError), connect() as connection:
        connection.settimeout(0.2)
        connection.sendall(data)
        connection.recv(CHUNK)
