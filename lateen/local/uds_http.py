"""A small HTTP/1.1 client over Unix sockets: Envoy's admin interface and the control plane are spoken to by it."""

from __future__ import annotations

import asyncio
from pathlib import Path

MAX_BODY_BYTES = 64 * 1024 * 1024


class HttpError(OSError):
    """The answer was no HTTP, or the connection broke."""


async def request(
    socket_path: Path,
    target: str,
    *,
    method: str = "GET",
    bound_s: float = 2.0,
    body: bytes = b"",
    kind: str = "text/plain",
) -> tuple[int, bytes]:
    """One request and its whole answer: status and body. Raises OSError or TimeoutError if there is none.

    ``kind`` is the content type of ``body``.
    """
    async with asyncio.timeout(bound_s):
        reader, writer = await asyncio.open_unix_connection(str(socket_path), limit=1 << 20)
        try:
            told = f"content-type: {kind}\r\n" if body else ""
            head = f"{method} {target} HTTP/1.1\r\nhost: lateen\r\nconnection: close\r\n{told}"
            writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
            return await _read_answer(reader)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, IndexError) as problem:
            raise HttpError(f"no HTTP answer from {socket_path.name}: {problem}") from problem
        finally:
            writer.close()


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split(" ", 2)[1])
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return status, await _read_chunks(reader)
    if "content-length" in headers:
        return status, await reader.readexactly(min(int(headers["content-length"]), MAX_BODY_BYTES))
    return status, await reader.read(MAX_BODY_BYTES)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while len(body) <= MAX_BODY_BYTES:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        if not size:
            return bytes(body)
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    raise ValueError("the body is too large")
