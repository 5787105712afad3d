"""Speak to a running mesh from another process: plain HTTP over its Unix socket, standard library only."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class ApiError(Exception):
    """The mesh does not answer, or says no; ``status`` is 0 where there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("lateen", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Client:
    """Calls to one socket. Every method raises ApiError where the mesh does not answer or refuses."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, target: str, timeout: float = 10.0) -> Any:
        """A JSON answer."""
        return json.loads(self.text("GET", target, timeout=timeout))

    def post(self, target: str, body: object | None = None, timeout: float = 60.0) -> Any:
        """A JSON answer to a JSON body."""
        return json.loads(self.text("POST", target, json.dumps(body or {}).encode(), timeout))

    def text(self, method: str, target: str, body: bytes | None = None, timeout: float = 10.0) -> str:
        """The answer as text."""
        connection = _UnixConnection(self._path, timeout)
        try:
            connection.request(method, target, body)
            answer = connection.getresponse()
            data = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as problem:
            raise ApiError(self._silent(problem)) from problem
        finally:
            connection.close()
        if answer.status >= 400:
            raise ApiError(_sentence(data) or f"status {answer.status}", answer.status)
        return data

    def events(self) -> Iterator[dict[str, Any]]:
        """Every event, for as long as the mesh runs."""
        connection = _UnixConnection(self._path, None)
        try:
            connection.request("GET", "/v1/events")
            answer = connection.getresponse()
            for line in answer:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])
        except (OSError, http.client.HTTPException) as problem:
            raise ApiError(self._silent(problem)) from problem
        finally:
            connection.close()

    def _silent(self, problem: Exception) -> str:
        if isinstance(problem, FileNotFoundError | ConnectionRefusedError):
            return f"nothing answers on {self._path} now; what has ended is started again: see lateen status"
        return f"the mesh does not answer on {self._path}: {problem}"


def _sentence(data: str) -> str:
    try:
        return str(json.loads(data)["error"])
    except (ValueError, KeyError, TypeError):
        return data.strip()
