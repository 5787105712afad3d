"""An authority's folder that cannot be used is told before anything is started."""

from click.testing import CliRunner

from lateen.cli.main import cli

PROJECT = """
name: with-authority
services: {web: {ports: {http: 8080}, command: "true"}}
mesh: {identity: {ca: ca}}
"""


def test_a_folder_that_is_open_to_others_or_not_whole_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "r"))
    (tmp_path / "lateen.yaml").write_text(PROJECT)
    (tmp_path / "ca").mkdir()
    (tmp_path / "ca").chmod(0o755)
    result = CliRunner().invoke(cli, ["up", "--detach", str(tmp_path)])
    assert result.exit_code == 1
    assert "is open to others" in result.output
    (tmp_path / "ca").chmod(0o700)
    (tmp_path / "ca" / "root-cert.pem").touch(mode=0o600)
    result = CliRunner().invoke(cli, ["up", "--detach", str(tmp_path)])
    assert result.exit_code == 1
    assert "an authority of your own has four files" in result.output
