"""The resources that the how-to pages show are taken as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lateen.resources.judge import judge

PAGES = sorted((Path(__file__).parents[2] / "docs" / "how-to").glob("*.md"))
BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_resources_of_a_page_are_good(page: Path) -> None:
    for text in BLOCK.findall(page.read_text()):
        if "apiVersion:" not in text:
            continue
        for verdict in judge(text.encode(), page.name, "default", "", with_support=True):
            wrong = [finding.render() for finding in verdict.findings if finding.is_error]
            assert wrong == [], text
