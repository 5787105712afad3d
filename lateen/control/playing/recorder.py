"""The one server behind all clusters of a played proxy: it answers with the name of the cluster that it was reached by.

Comes in: connections with a PROXY protocol header (version 2) that names the cluster. Goes out: an answer that is HTTP
for those who speak it and bytes for the others, and in both says ``lateen-cluster: NAME``.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import struct
from pathlib import Path

from lateen.envoy.played import NAME_TLV

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
ADDRESS_LENGTHS = {0: 0, 1: 12, 2: 36, 3: 216}
PATIENCE_S = 5.0
_MARK = re.compile(rb"lateen-cluster: ([^\r\n]*)\r\n")


def cluster_of(received: bytes) -> str:
    """The cluster that an answer comes from; empty where it is not the recorder's."""
    found = _MARK.search(received)
    return found[1].decode() if found else ""


async def record(path: Path) -> asyncio.Server:
    """Serve at a Unix socket until the server is closed."""
    return await asyncio.start_unix_server(_serve, str(path), backlog=1024)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
            async with asyncio.timeout(PATIENCE_S):
                name = await _name(reader)
                heard = await reader.read(65536)
                if heard:
                    writer.write(_answer(name, heard))
                    writer.write_eof()
                    while await reader.read(65536):
                        pass
    finally:
        writer.close()


async def _name(reader: asyncio.StreamReader) -> bytes:
    """The cluster's name in the header. Raises ValueError where there is none."""
    head = await reader.readexactly(16)
    if head[:12] != SIGNATURE:
        raise ValueError("no PROXY protocol")
    family, length = head[13] >> 4, struct.unpack("!H", head[14:])[0]
    rest = await reader.readexactly(length)
    fields = rest[ADDRESS_LENGTHS.get(family, 0) :]
    while len(fields) >= 3:
        kind, size = struct.unpack("!BH", fields[:3])
        if kind == NAME_TLV:
            return fields[3 : 3 + size]
        fields = fields[3 + size :]
    raise ValueError("a PROXY protocol header without a name")


def _answer(name: bytes, heard: bytes) -> bytes:
    mark = b"lateen-cluster: " + name + b"\r\n"
    head = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n" % len(mark) + mark + b"\r\n"
    return head if heard.startswith(b"HEAD ") else head + mark
