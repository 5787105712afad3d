"""The package has no key, password or token in it that whoever reads it would have as well."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LONG = re.compile(r"[A-Za-z0-9+/_-]{40,}={0,2}")
PEM = re.compile(r"-----BEGIN [A-Z ]*(?:KEY|CERTIFICATE)-----\s*[A-Za-z0-9+/]")


def _looks_secret(text: str) -> bool:
    """Base64 of a key has digits and letters of both cases, and is neither words joined by signs nor an alphabet."""
    kinds = (str.isdigit, str.islower, str.isupper)
    is_mixed = all(any(kind(one) for one in text) for kind in kinds)
    return is_mixed and "ABCDEFGH" not in text and max(map(len, re.split("[-_/]", text))) > 20


def test_no_key_is_shipped() -> None:
    found = []
    for path in sorted((ROOT / "lateen").rglob("*")):
        if path.suffix not in (".py", ".yaml", ".json", ".html"):
            continue
        text = path.read_text()
        found += [f"{path.name}: {match}" for match in LONG.findall(text) if _looks_secret(match)]
        found += [f"{path.name}: PEM" for _ in PEM.findall(text)]
    assert found == []
