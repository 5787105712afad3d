"""The command ``lateen validate``."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from lateen.cli.validate import validate

GOOD = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n"
BAD = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: b}\nspec: {}\n"


def test_json_has_one_entry_a_document_in_order(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(f"{GOOD}---\na: [\n---\n{BAD}---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: c}}\n")
    result = CliRunner().invoke(validate, ["-o", "json", "-f", str(file)])
    entries = json.loads(result.stdout)["objects"]
    assert [(entry["kind"], entry["name"], len(entry["errors"])) for entry in entries] == [
        ("Service", "a", 0),
        ("", "", 1),
        ("Gateway", "b", 1),
        ("Deployment", "c", 0),
    ]
    assert entries[2]["errors"][0]["path"] == "spec.servers"
    assert result.exit_code == 1


def test_text_says_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(BAD)
    (tmp_path / "lateen.yaml").write_text("mesh: {}\n")
    result = CliRunner().invoke(validate, ["-f", str(tmp_path)])
    assert result.exit_code == 1
    assert f"{tmp_path}/bad.yaml:4: error: a Gateway needs at least one server" in result.stdout
    assert result.stdout.endswith("1 document: 1 error, 0 warnings\n")


def test_standard_input_and_bare_kinds() -> None:
    result = CliRunner().invoke(validate, ["-f", "-"], input=GOOD)
    assert (result.exit_code, result.stdout) == (0, "1 document: 0 errors, 0 warnings\n")
    result = CliRunner().invoke(validate, ["-o", "json", "--kind", "MeshConfig", "-f", "-"], input="trustDomain: _\n")
    assert json.loads(result.stdout)["objects"][0]["errors"][0]["path"] == "trustDomain"


def test_a_file_that_is_not_there() -> None:
    assert CliRunner().invoke(validate, ["-f", "nowhere.yaml"]).exit_code == 2
