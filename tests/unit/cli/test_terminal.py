"""Names, paths and messages of others neither steer a terminal nor look like lines of ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from lateen.cli.logs import _print
from lateen.cli.main import cli
from lateen.cli.proxy import _line
from lateen.values.printing import printable

EVIL = "a\x1b[31mred\x1b]0;title\x07\x9b2J\r\nok: fake \u202e line\x00"
POLICY = {
    "apiVersion": "security.istio.io/v1",
    "kind": "AuthorizationPolicy",
    "metadata": {"name": EVIL, "namespace": EVIL},
    "spec": {"rules": [{"to": [{"operation": {"paths": [EVIL, ""], "ports": [EVIL]}}], EVIL: 1}], "action": EVIL},
}
CALL = {"port": 80, "protocol": "http", "mode": "outbound", "host": "x.example", "path": f"/{EVIL}"}
CASE = {
    "name": EVIL,
    "proxy": {"type": "sidecar"},
    "calls": [{"name": EVIL, "call": CALL, "expect": {"cluster": EVIL}}],
}


def shown(*arguments: str) -> list[str]:
    """The lines of a command, as a terminal gets them."""
    return CliRunner().invoke(cli, list(arguments), color=True).output.split("\n")


@pytest.mark.parametrize(
    ("command", "document"),
    [("validate", POLICY), ("validate", {"kind": EVIL, "apiVersion": EVIL}), ("test", CASE), ("convert", POLICY)],
)
def test_each_line_is_one_of_ours(tmp_path: Path, command: str, document: object) -> None:
    file = tmp_path / "evil.yaml"
    file.write_text(json.dumps(document))
    lines = shown(command, str(file)) if command == "convert" else shown(command, "-f", str(file))
    assert lines and all(map(str.isprintable, lines)), lines
    assert not [line for line in lines if line.startswith("ok: fake")]


def test_a_line_of_a_log_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    _print("shop-0", f"tab\tkept {EVIL}")
    text = capsys.readouterr().out
    assert text.count("\n") == 1
    assert text.startswith("shop-0: tab\tkept a") and text.replace("\t", "").strip().isprintable()


def test_what_can_be_seen_stays() -> None:
    assert printable("/päth?q=“x” 日本 {a}") == "/päth?q=“x” 日本 {a}"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ({"pipe": {"path": "/run/a.sock"}}, "one  /run/a.sock"),
        ({"socketAddress": {"address": "127.0.0.1", "portValue": 80}}, "one  127.0.0.1:80"),
    ],
)
def test_a_listener_is_shown_with_its_place(address: dict[str, object], shown: str) -> None:
    assert _line("listeners", {"name": "one", "address": address}) == shown
