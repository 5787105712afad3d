"""Speak netlink: encode attributes and messages, send them, turn the kernel's answer into an ``OSError``.

Only what the capture rules need, on the standard library alone: the holder that uses it must start in milliseconds and
owns namespaces per thread, so it can have neither a heavy import nor a library with threads of its own.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable

ROUTE = 0
NETFILTER = 12

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800
NLA_F_NESTED = 0x8000

_NLMSG_ERROR = 2
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_TIMEOUT_S = 5.0


def attr(kind: int, value: bytes | str | int) -> bytes:
    """One attribute: bytes as they are, text with its final zero, a number in network order of 32 bits."""
    if isinstance(value, str):
        value = value.encode() + b"\0"
    elif isinstance(value, int):
        value = struct.pack(">I", value & 0xFFFF_FFFF)
    padding = b"\0" * (-len(value) % 4)
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + padding


def nest(kind: int, *inner: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attr(kind | NLA_F_NESTED, b"".join(inner))


class Message:
    """One message: its type, flags and body, and what it is for, in words for an error."""

    __slots__ = ("body", "flags", "kind", "what")

    def __init__(self, kind: int, flags: int, body: bytes, what: str) -> None:
        self.kind = kind
        self.flags = flags
        self.body = body
        self.what = what

    def encode(self, sequence: int) -> bytes:
        padding = b"\0" * (-len(self.body) % 4)
        return _HEADER.pack(_HEADER.size + len(self.body), self.kind, self.flags, sequence, 0) + self.body + padding


def talk(protocol: int, messages: Iterable[Message]) -> None:
    """Send messages in one piece, in the calling thread's network namespace, and wait for every acknowledgement.

    Raises OSError that says which message the kernel refused and why.
    """
    numbered = dict(enumerate(messages, start=1))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol) as channel:
        channel.settimeout(_TIMEOUT_S)
        channel.bind((0, 0))
        channel.sendall(b"".join(message.encode(number) for number, message in numbered.items()))
        waiting = {number for number, message in numbered.items() if message.flags & NLM_F_ACK}
        while waiting:
            for number, code in _results(channel.recv(65536)):
                waiting.discard(number)
                if code:
                    what = numbered[number].what if number in numbered else "netlink"
                    raise OSError(code, f"{what}: {os.strerror(code)}")


def _results(data: bytes) -> Iterable[tuple[int, int]]:
    """(sequence, errno or 0) of each error or acknowledgement in a datagram."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, _, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            return
        if kind == _NLMSG_ERROR:
            (code,) = struct.unpack_from("=i", data, offset + _HEADER.size)
            yield sequence, -code
        offset += (length + 3) & ~3
