"""A whole mesh for tests: a copy of a project, brought up and down by ``lateen`` as a user would."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from tests.machine import free_port as free_port

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PROJECT = ROOT / "tests" / "features" / "project"
PATIENCE_S = 60.0


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE_S) -> Any:
    """Await a condition; what it returns, once that is true."""
    end = time.monotonic() + patience
    last: Any = None
    while time.monotonic() < end:
        last = condition()
        if last:
            return last
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {patience} s; at last {last!r}")


class Answer:
    """What came back from a request."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes, seconds: float) -> None:
        self.status, self.headers, self.body, self.seconds = status, headers, body, seconds

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def version(self) -> str:
        return str(self.json()["version"])


class Mesh:
    """A running mesh of the feature tests' project."""

    def __init__(self, folder: Path, capture: str) -> None:
        self.folder = folder
        self.project = folder / "project"
        self.port, self.tls_port = free_port(), free_port()
        self.run_ids: set[str] = set()
        self.capture = capture
        self.options: tuple[str, ...] = ()
        self.environment = {
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "XDG_RUNTIME_DIR": str(folder / "r"),
        }
        (folder / "r").mkdir(mode=0o700)
        shutil.copytree(PROJECT, self.project)
        for file in self.project.glob("*.yaml"):
            text = file.read_text().replace("GATEWAY_PORT", str(self.port)).replace("TLS_PORT", str(self.tls_port))
            file.write_text(text)

    # --- the command line --------------------------------------------------------------------------------------------

    def lateen(self, *words: str, check: bool = True, timeout: float = 90) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(BIN / "lateen"), *words],
            cwd=self.project,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert not check or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stdout + done.stderr
        return done

    def up(self) -> None:
        self.lateen("up", "--detach", "--capture", self.capture, *self.options)
        self.run_ids.add(self.record["run_id"])

    def status(self) -> Any:
        """What ``lateen status -o json`` prints, without a process for each time that it is asked."""
        return json.loads(self.text("api.sock", "/v1/status"))

    def workload(self, name: str) -> Any:
        return next(entry for entry in self.status()["workloads"] if entry["name"] == name)

    # --- configuration -----------------------------------------------------------------------------------------------

    def write(self, name: str, text: str) -> None:
        """Write a resource file, whole at once, as an editor does."""
        temporary = self.folder / "writing"
        temporary.write_text(text)
        temporary.replace(self.project / name)

    @contextlib.contextmanager
    def applied(self, text: str, name: str = "extra.yaml") -> Iterator[None]:
        """Resources that hold within the block; both edges wait until every proxy has taken them."""
        self.write(name, text)
        self.settled()
        try:
            yield
        finally:
            (self.project / name).unlink()
            self.settled()

    def settled(self) -> None:
        """Wait until the control plane has seen the files as they are, and each proxy has what it should have."""
        mark = f"settled-{time.monotonic_ns()}"
        text = (
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
            f"metadata: {{name: {mark}}}\nspec: {{host: {mark}, trafficPolicy: {{loadBalancer: {{simple: {mark}}}}}}}\n"
        )
        self.write("mark.yaml", text)

        def seen() -> bool:
            return any(mark in entry["text"] for entry in self.control("/v1/findings")["findings"])

        until(seen, "the mark is seen")
        (self.project / "mark.yaml").unlink()
        until(lambda: not seen(), "the mark is gone")

        def synced() -> bool:
            if not self.control("/v1/findings")["settled"]:
                return False
            states = [
                proxy["connected"] and kind["state"] in ("SYNCED", "NOT SENT")
                for proxy in self.control("/v1/proxies")["proxies"]
                for kind in proxy["types"].values()
            ]
            return all(states)

        until(synced, "every proxy is synced")

    def control(self, target: str) -> Any:
        return json.loads(self._over_socket(self.run_dir / "control.sock", target))

    def text(self, name: str, target: str) -> str:
        """What a socket in the run directory answers."""
        return self._over_socket(self.run_dir / name, target).decode()

    def workers(self, instance: str) -> int:
        """How many workers the proxy of an instance has."""
        text = self._over_socket(self.run_dir / "proxies" / instance / "admin.sock", "/stats?filter=server.concurrency")
        return int(text.split()[-1])

    def _over_socket(self, path: Path, target: str) -> bytes:
        connection = http.client.HTTPConnection("lateen")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(5)
        connection.sock.connect(str(path))
        try:
            connection.request("GET", target)
            return connection.getresponse().read()
        finally:
            connection.close()

    @property
    def run_dir(self) -> Path:
        return self.folder / "r" / "lateen" / "features"

    @property
    def record(self) -> Any:
        return json.loads((self.run_dir / "run.json").read_text())

    # --- traffic -----------------------------------------------------------------------------------------------------

    def get(self, target: str = "/echo", *, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
        """One request through the gateway."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        started = time.monotonic()
        try:
            connection.request(method, target, headers=dict(headers or {}))
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read(), time.monotonic() - started)
        finally:
            connection.close()

    def fetch(self, url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
        """One request from the client workload to a service, sidecar to sidecar."""
        pairs = [
            ("url", url),
            ("method", method),
            *(("h", f"{name}:{value}") for name, value in (headers or {}).items()),
        ]
        answer = self.get(f"/fetch?{urllib.parse.urlencode(pairs)}")
        assert answer.status == 200, answer.body
        found = answer.json()
        body = found.get("body", found.get("error", "")).encode()
        return Answer(found["status"], found.get("headers", {}), body, found["seconds"])

    def load(self, target: str = "/echo", rate: int = 100) -> Load:
        return Load(f"http://127.0.0.1:{self.port}{target}", rate)

    def down(self) -> None:
        self.lateen("down", check=False)


class Load:
    """Constant traffic beside all that a test does; ``failures`` must stay empty."""

    def __init__(self, url: str, rate: int) -> None:
        self._command = [
            sys.executable,
            str(ROOT / "benchmarks" / "load.py"),
            url,
            *("--rate", str(rate), "--duration", "600", "--connections", "8", "--announce"),
        ]
        self.summary: dict[str, Any] = {}

    def __enter__(self) -> Load:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "began\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        text, _ = self._process.communicate(timeout=30)
        self.summary = json.loads(text)

    @property
    def failures(self) -> Any:
        return self.summary["first_errors"]


@contextlib.contextmanager
def running_mesh(capture: str, prepare: Callable[[Mesh], None] = lambda _: None) -> Iterator[Mesh]:
    """A mesh, up and ready; nothing of it is left afterwards. ``prepare`` may edit its project before it starts."""
    with tempfile.TemporaryDirectory(prefix="lt-") as name:
        mesh = Mesh(Path(name), capture)
        prepare(mesh)
        try:
            mesh.up()
            yield mesh
        finally:
            mesh.down()
        assert leftovers(mesh.run_ids) == []


def leftovers(run_ids: Collection[str]) -> list[str]:
    """Processes that still belong to one of these runs of a mesh."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        with contextlib.suppress(psutil.Error):
            if process.environ().get("LATEEN_RUN_ID") in run_ids:
                found.append(f"{process.pid} {process.info['cmdline']}")
    return found
