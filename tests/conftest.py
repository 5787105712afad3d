"""What holds for every test: Lateen is compiled once, not by each of the hundreds of processes that tests start, and
property tests make the same examples every time, unless they are to explore."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import is_hypothesis_test

from tests.properties.length import LONGEST_S, load_profile

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
load_profile()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give property tests the time in which Hypothesis makes what it found small: ended before, they report nothing."""
    for item in items:
        function = item.function if isinstance(item, pytest.Function) else None
        if is_hypothesis_test(function) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LONGEST_S))
