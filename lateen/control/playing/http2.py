"""As much of HTTP/2 as one request needs: what a client says, and when the answer is complete.

Comes in: a request's fields, then bytes as they are received. Goes out: bytes to send. Header fields of answers are not
decoded; the proxy's log says what they were.
"""

from __future__ import annotations

from collections.abc import Iterable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS = 1, 4
HEAD_LENGTH = 9


def request(fields: Iterable[tuple[str, str]]) -> bytes:
    """The connection's preface and one request without a body, as stream 1."""
    block = b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields)
    return PREFACE + _frame(SETTINGS, 0, 0, b"") + _frame(HEADERS, END_STREAM | END_HEADERS, 1, block)


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def _text(text: str) -> bytes:
    """A string as it is, after its length: seven bits, then as many groups of seven as are needed."""
    data = text.encode()
    if len(data) < 127:
        return bytes([len(data)]) + data
    head, left = bytearray([127]), len(data) - 127
    while left >= 128:
        head.append(left % 128 + 128)
        left //= 128
    head.append(left)
    return bytes(head) + data


def is_complete(received: bytes) -> bool:
    """Whether the answer on stream 1 is there whole, or will not come."""
    at = 0
    while at + HEAD_LENGTH <= len(received):
        length, kind, flags = int.from_bytes(received[at : at + 3], "big"), received[at + 3], received[at + 4]
        at += HEAD_LENGTH + length
        if at > len(received):
            return False
        if kind in (RST_STREAM, GOAWAY) or (kind in (DATA, HEADERS) and flags & END_STREAM):
            return True
    return False
