"""What is kept of files for the next control plane."""

from __future__ import annotations

from pathlib import Path

from lateen.control.last_good import LastGood


def test_what_is_kept_is_there_for_the_next_one_and_half_a_file_is_not(tmp_path: Path) -> None:
    kept = LastGood(tmp_path / "kept")
    assert kept.files == {}
    kept.keep({"a.yaml": b"a: 1\n", "b.yaml": b""})
    kept.keep({"a.yaml": b"a: 2\n", "b.yaml": b""})
    (place,) = [place for place in (tmp_path / "kept").iterdir() if b"a.yaml" in place.read_bytes()]
    assert place.stat().st_mode & 0o777 == 0o600
    place.with_name(f".{place.name}.4711").write_bytes(b"a.yaml\na: ")  # of one that was killed as it wrote
    assert LastGood(tmp_path / "kept").files == {"a.yaml": b"a: 2\n", "b.yaml": b""}
    kept.keep({})
    assert LastGood(tmp_path / "kept").files == {}
