"""The command line itself: it starts fast, every command can be imported, help and errors read well."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from lateen.cli.main import COMMANDS, HIDDEN, cli
from lateen.cli.status import render_status
from lateen.local.procfs import ProcessRef
from lateen.local.rundir import RunDir, RunRecord


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder whose path is short, as sockets below it need."""
    with tempfile.TemporaryDirectory(prefix="lt-") as name:
        yield Path(name)


def run(*arguments: str, base: Path | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(cli, list(arguments), env={"XDG_RUNTIME_DIR": str(base) if base else None})
    return result.exit_code, result.output


HEAVY = ("grpc", "envoy", "google.protobuf", "cryptography", "msgspec", "yaml", "rich", "starlette", "asyncio")


def test_help_imports_nothing_heavy() -> None:
    """Help comes at once because nothing that takes time to import is imported for it."""
    code = (
        "import sys; from click.testing import CliRunner; from lateen.cli.main import cli; "
        "assert CliRunner().invoke(cli, ['--help']).exit_code == 0; "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", [*COMMANDS, *HIDDEN])
def test_every_command_has_help(name: str) -> None:
    code, output = run(name, "--help")
    assert code == 0
    assert output.startswith(f"Usage: cli {name}")


def test_an_unknown_command_is_answered_with_the_nearest() -> None:
    code, output = run("statsu")
    assert code == 2
    assert "Did you mean status?" in output


def test_without_a_mesh_commands_say_so(tmp_path: Path) -> None:
    for command in (["status"], ["down"], ["logs"], ["scale", "a", "2"], ["exec", "a", "--", "true"]):
        code, output = run(*command, base=tmp_path)
        assert code == 1
        assert "no mesh runs" in output


def test_logs_of_the_whole_mesh_are_of_no_workload(tmp_path: Path) -> None:
    code, output = run("logs", "reviews", "--mixer", base=tmp_path)
    assert code == 2
    assert "--mixer shows what is one for the whole mesh: leave reviews out" in output


def test_up_tells_what_is_wrong_with_the_file(tmp_path: Path) -> None:
    assert "there is no lateen.yaml" in run("up", str(tmp_path), base=tmp_path)[1]
    (tmp_path / "lateen.yaml").write_text("services:\n  a:\n    comand: x\n")
    code, output = run("up", str(tmp_path), base=tmp_path)
    assert code == 1
    assert "lateen.yaml:3: error: there is no field comand here" in output


def test_down_clears_what_a_killed_supervisor_left(tmp_path: Path) -> None:
    left = RunDir(tmp_path / "lateen" / "shop")
    left.create()
    left.write_record(RunRecord("shop", "no-such-run", "/shop/lateen.yaml", 0.0, ProcessRef(1, 0), processes={}))
    code, output = run("down", "shop", base=tmp_path)
    assert (code, output) == (0, "mesh shop is down: its supervisor was gone, 0 processes of it were ended\n")
    assert not left.path.exists()


def leave(base: Path, name: str, project: str) -> RunDir:
    """What a mesh leaves whose supervisor was killed."""
    left = RunDir(base / "lateen" / name)
    left.create()
    left.write_record(RunRecord(name, "no-such-run", project, 0.0, ProcessRef(1, 0), processes={}))
    return left


def test_down_stops_the_mesh_of_this_folder_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    left = leave(tmp_path, "shop", str(home / "lateen.yaml"))
    monkeypatch.chdir(elsewhere)
    for words in (["down"], ["down", "."], ["down", str(elsewhere)]):
        code, output = run(*words, base=tmp_path)
        assert code == 1
        assert "shop" in output
        assert left.path.exists()
    assert f"shop, of {home / 'lateen.yaml'}: lateen down shop" in run("down", base=tmp_path)[1]
    monkeypatch.chdir(home)
    assert run("down", base=tmp_path)[0] == 0
    assert not left.path.exists()


def test_a_command_elsewhere_says_which_mesh_it_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = leave(tmp_path, "shop", "/shop/lateen.yaml")
    assert running.lock()
    monkeypatch.chdir(tmp_path)
    assert "no mesh of this folder runs; this is shop, of /shop/lateen.yaml" in run("status", base=tmp_path)[1]
    running.remove()


def test_down_finds_the_mesh_of_another_file_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = leave(tmp_path, "other", str(tmp_path / "other.yaml"))
    monkeypatch.chdir(tmp_path)
    assert run("down", base=tmp_path)[0] == 0
    assert not left.path.exists()
    assert not (tmp_path / "lateen").exists()


def test_a_folder_of_somebody_elses_files_is_no_run_directory(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "letter").write_text("dear")
    (folder / "lateen.yaml").write_text("services: {a: {ports: {http: 9080}, command: x}}\n")
    code, output = run("down", "--run-dir", str(folder), base=tmp_path)
    assert (code, output) == (1, f"Error: {folder} is not the run directory of a mesh\n")
    code, output = run("up", str(folder), "--run-dir", str(folder), base=tmp_path)
    assert (code, output) == (1, f"Error: the run directory cannot be made: {folder} holds other files\n")
    assert (folder / "letter").read_text() == "dear"


def test_a_mesh_whose_supervisor_was_killed_is_named(tmp_path: Path) -> None:
    left = RunDir(tmp_path / "lateen" / "shop")
    left.create()
    left.write_record(RunRecord("shop", "no-such-run", "/shop/lateen.yaml", 0.0, ProcessRef(1, 0), processes={}))
    for words in (["status"], ["status", "shop"], ["status", "--run-dir", str(left.path)]):
        code, output = run(*words, base=tmp_path)
        assert code == 1
        assert "the supervisor of shop was killed: clear away what it left by lateen down" in output


def test_up_tells_what_is_wrong_with_its_options(tmp_path: Path) -> None:
    (tmp_path / "lateen.yaml").write_text("services: {a: {ports: {http: 9080}, command: x}}\n")
    for option, value in (
        *(("--name", "../b c"), ("--metrics", "x"), ("--metrics", "127.0.0.1:99999")),
        *(("--allow-jwks-address", "localhost"), ("--allow-jwks-address", "127.0.0.1/8")),
    ):
        code, output = run("up", str(tmp_path), option, value, base=tmp_path)
        assert code == 2
        assert f"'{value}' is not" in output


def test_metrics(tmp_path: Path) -> None:
    (tmp_path / "lateen.yaml").write_text("services: {a: {ports: {http: 9080}, command: x}}\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, output = run("up", str(tmp_path), "--metrics", address, base=tmp_path)
    assert (code, output) == (1, f"Error: the metrics cannot be served at {address}: it is taken\n")


def test_version_and_schema() -> None:
    code, output = run("version", "-o", "json")
    assert code == 0
    assert json.loads(output)["envoy"].startswith("1.40")
    assert json.loads(run("schema")[1])["title"] == "lateen.yaml"


def test_the_status_names_gateways_first() -> None:
    lines = render_status(
        {
            "name": "shop",
            "pid": 7,
            "ready": False,
            "capture": {"mode": "loopback", "reason": ""},
            "control_plane": {"ready": True, "restarts": 0},
            "gateways": [{"workload": "in", "urls": ["http://127.0.0.1:8080"], "ready": True, "detail": ""}],
            "workloads": [
                {
                    "name": "a-0",
                    "service": "a",
                    "version": "",
                    "ready": False,
                    "restarts": 2,
                    "pid": 0,
                    "address": "240.241.1.1",
                    "detail": "port 80: refused",
                }
            ],
            "findings": [{"text": "x.yaml:1: error: no"}],
        }
    )
    assert lines[1] == "gateway in: http://127.0.0.1:8080  ready"
    assert lines[3].split() == ["a-0", "a", "-", "no", "2", "-", "240.241.1.1", "port", "80:", "refused"]
    assert lines[-1] == "x.yaml:1: error: no"


@pytest.mark.parametrize(
    ("arguments", "option"),
    [(("token", "-s", "guest", "--ttl", "0s"), "--ttl"), (("token", "-s", "guest", "--ttl", "10"), "--ttl")],
)
def test_a_span_that_is_none_is_told_with_its_option_and_what_to_write(arguments: tuple[str, ...], option: str) -> None:
    code, output = run("ca", *arguments)
    assert code == 2
    assert f"Invalid value for {option}:" in output
    assert "such as 10m or 7d" in output
