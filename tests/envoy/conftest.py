"""Tests of a file run in one worker: most share a proxy, which would be started once in each."""

from __future__ import annotations

import pytest


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker(pytest.mark.xdist_group(item.path.stem))
