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
    """Every test that takes a mesh runs in each way."""
    if "mesh" in metafunc.fixturenames:
        metafunc.parametrize("mesh", ways(), indirect=True, scope="module")


@pytest.fixture(scope="module")
def mesh(request):
    with running_mesh(request.param) as running:
        yield running
