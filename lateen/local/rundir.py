"""The run directory: where one running mesh keeps its sockets, keys, logs and the record of its processes.

It belongs to one user (0700), is held by a lock for as long as the supervisor lives, and is removed when the mesh
ends. ``run.json`` in it tells others what runs; a directory without a holder is left over from a supervisor that died.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from lateen.local.procfs import ProcessRef
from lateen.local.project import CaService

MAX_SOCKET_PATH = 100
BASE_NAME = "lateen"
LONGEST_BELOW = len("/proxies//admin.sock")


class RunRecord(msgspec.Struct, frozen=True):
    """``run.json``: one running mesh. ``processes`` maps a name (``reviews-v1-0/envoy``) to its process."""

    name: str
    run_id: str
    project: str
    started_at: float
    supervisor: ProcessRef
    mode: str = ""
    namespace: str = "default"
    root_namespace: str = "istio-system"
    trust_domain: str = "cluster.local"
    outbound_policy: str = "ALLOW_ANY"
    host_ownership: bool = False
    resources: tuple[str, ...] = ()
    mesh_config: str = ""
    jwks_allow: tuple[str, ...] = ()
    jwks_refresh: float = 1200.0
    redis: str = ""
    ca: str = ""
    service: CaService = CaService()
    certificate_life: float = 86400.0
    gateways: tuple[tuple[str, str], ...] = ()
    processes: dict[str, ProcessRef] = {}


class RunDir:
    """Paths in one run directory, and its lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    @property
    def record_file(self) -> Path:
        return self.path / "run.json"

    @property
    def api_socket(self) -> Path:
        return self.path / "api.sock"

    @property
    def control_socket(self) -> Path:
        return self.path / "control.sock"

    @property
    def concurrency(self) -> Path:
        """Rules on workers of proxies, which the control plane writes."""
        return self.path / "concurrency.json"

    @property
    def xds_socket(self) -> Path:
        return self.path / "xds.sock"

    @property
    def ca_socket(self) -> Path:
        return self.path / "ca.sock"

    @property
    def mixer_socket(self) -> Path:
        return self.path / "mixer.sock"

    @property
    def mixer_metrics_socket(self) -> Path:
        return self.path / "mixer" / "metrics.sock"

    @property
    def mixer_order(self) -> Path:
        """What the mixer has to do, which the control plane writes once there is something."""
        return self.path / "mixer" / "order.json"

    @property
    def ca_generation(self) -> Path:
        """Changes as the authority does, which the control plane writes."""
        return self.path / "ca-generation"

    @property
    def federation(self) -> Path:
        """The roots of other meshes, which the control plane writes."""
        return self.path / "federation.json"

    @property
    def supervisor_log(self) -> Path:
        return self.path / "supervisor.log"

    @property
    def control_log(self) -> Path:
        return self.path / "control.log"

    @property
    def mixer_log(self) -> Path:
        return self.path / "mixer.log"

    @property
    def registry(self) -> Path:
        return self.path / "registry"

    def proxy(self, instance_id: str) -> Path:
        return self.path / "proxies" / instance_id

    def longest_problem(self, instance_ids: list[str]) -> str:
        """A sentence if a socket's path would be too long for the system, else empty."""
        longest = max((len(name) for name in instance_ids), default=0) + LONGEST_BELOW
        if len(str(self.path)) + longest < MAX_SOCKET_PATH:
            return ""
        return f"{self.path} is too long a path for the sockets in it: give a shorter one by --run-dir"

    def is_ours(self) -> bool:
        """Whether the directory was made by ``create``: its lock stands from first to last."""
        lock = self.path / "lock"
        return lock.is_file() and lock.stat().st_size == 0

    def create(self) -> None:
        """Make the directory and those above it, for this user alone.

        Raises PermissionError if it is another's, FileExistsError if something else is kept in it.
        """
        above = [folder for folder in reversed(self.path.parents) if folder.name.startswith("lateen")]
        for folder in (*above, self.path):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.lstat().st_uid != os.getuid() or folder.is_symlink():
                raise PermissionError(f"{folder} belongs to another user")
        if not self.is_ours() and any(self.path.iterdir()):
            raise FileExistsError(f"{self.path} holds other files")
        self.path.chmod(0o700)
        (self.path / "lock").touch(mode=0o600)
        for name in ("registry", "proxies", "ca", "mixer"):
            (self.path / name).mkdir(mode=0o700, exist_ok=True)

    def lock(self) -> bool:
        """Hold the directory until this process ends; False if another process holds it."""
        handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            return False
        self._lock = handle
        return True

    def is_held(self) -> bool:
        """Whether a living supervisor holds the directory."""
        try:
            handle = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(handle)
        return False

    def write_record(self, record: RunRecord) -> None:
        write_atomically(self.record_file, msgspec.json.encode(record))

    def read_record(self) -> RunRecord | None:
        """What ``run.json`` says; None if there is none or it is damaged."""
        try:
            return msgspec.json.decode(self.record_file.read_bytes(), type=RunRecord)
        except (OSError, msgspec.MsgspecError):
            return None

    def remove(self) -> None:
        """Remove the directory and all in it, the lock last; one that was not made by ``create`` is left alone."""
        if self.is_ours():
            for entry in self.path.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry, ignore_errors=True)
                elif entry.name != "lock":
                    entry.unlink(missing_ok=True)
            shutil.rmtree(self.path, ignore_errors=True)
            self._remove_base()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _remove_base(self) -> None:
        """Remove the folders of ``base_folder`` that this was the last run in."""
        above = self.path.parent
        if above.name == BASE_NAME:
            with contextlib.suppress(OSError):
                above.rmdir()
                if above.parent.name == _own_folder():
                    above.parent.rmdir()


class RunBook:
    """Keeps ``run.json`` true while a mesh runs; changes within one turn of the loop are written once."""

    def __init__(self, run: RunDir, record: RunRecord) -> None:
        self.record = record
        self._run = run
        self._due = False
        run.write_record(record)

    def note(self, name: str, process: ProcessRef | None) -> None:
        """A process was started under this name, or (None) has ended."""
        processes = {other: ref for other, ref in self.record.processes.items() if other != name}
        if process is not None:
            processes[name] = process
        self._change(msgspec.structs.replace(self.record, processes=processes))

    def set_mode(self, mode: str) -> None:
        """How traffic is captured is known now."""
        self._change(msgspec.structs.replace(self.record, mode=mode))

    def _change(self, record: RunRecord) -> None:
        self.record = record
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        self._due = False
        if self._run.path.is_dir():
            self._run.write_record(self.record)


def base_folder(runtime_folder: str | None) -> Path:
    """Where this user's run directories stand; ``runtime_folder`` is what XDG_RUNTIME_DIR says."""
    return (Path(runtime_folder) if runtime_folder else Path(tempfile.gettempdir()) / _own_folder()) / BASE_NAME


def _own_folder() -> str:
    return f"lateen-{os.getuid()}"


def find_runs(base: Path) -> Iterator[RunDir]:
    """The run directories of this user that have a record, held or left over."""
    if not base.is_dir():
        return
    for path in sorted(base.iterdir()):
        if (path / "run.json").is_file() and path.stat().st_uid == os.getuid():
            yield RunDir(path)


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file so that a reader sees the old one or the new one, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
    finally:
        os.close(handle)
    temporary.replace(path)
