"""One mesh for all tests of a file that do not disturb it, for each way of capture that this machine has."""

from __future__ import annotations

import asyncio
import functools

import pytest

from lateen.local.network.choose import probe
from tests.features.running import running_mesh


@functools.cache
def ways():
    """Loopback addresses are always there."""
    return ["namespaces", "loopback"] if asyncio.run(probe()).mode == "namespaces" else ["loopback"]


def pytest_generate_tests(metafunc):
    """Every test that takes a mesh runs in each way; those of one way in one worker, as they share the mesh."""
    if "mesh" in metafunc.fixturenames:
        found = [pytest.param(way, marks=pytest.mark.xdist_group(way)) for way in ways()]
        metafunc.parametrize("mesh", found, indirect=True, scope="module")


@pytest.fixture(scope="module")
def mesh(request):
    with running_mesh(request.param) as running:
        yield running
