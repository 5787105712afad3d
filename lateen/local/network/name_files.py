"""The files that tell an application where to ask for names; the launcher lays them over the machine's."""

from __future__ import annotations

from pathlib import Path

NSSWITCH = Path("/etc/nsswitch.conf")
RESOLVER = "127.0.0.1"


def write_name_files(folder: Path, search: tuple[str, ...], machine: Path = NSSWITCH) -> None:
    """Write ``resolv.conf`` and, where the machine has one, ``nsswitch.conf`` into ``folder``. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(folder / "resolv.conf", f"nameserver {RESOLVER}\nsearch {' '.join(search)}\noptions ndots:5\n")
    try:
        text = machine.read_text(errors="replace")
    except OSError:
        return
    _write(folder / "nsswitch.conf", plain_hosts(text))


def plain_hosts(text: str) -> str:
    """The same nsswitch.conf, with host names from files and DNS alone: other services would ask outside."""
    kept = [line for line in text.splitlines() if line.split("#", 1)[0].partition(":")[0].strip() != "hosts"]
    return "\n".join([*kept, "hosts: files dns", ""])


def _write(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(0o444)
