"""One mesh for all tests of a file that do not disturb it, for each way of capture that this machine has."""

from __future__ import annotations

import asyncio

import pytest

from lateen.local.network.choose import probe
from tests.features.running import running_mesh


def pytest_generate_tests(metafunc):
    """Every test that takes a mesh runs in each way; loopback addresses are always there."""
    if "mesh" in metafunc.fixturenames:
        ways = ["loopback"]
        if asyncio.run(probe()).mode == "namespaces":
            ways.insert(0, "namespaces")
        metafunc.parametrize("mesh", ways, indirect=True, scope="module")


@pytest.fixture(scope="module")
def mesh(request):
    with running_mesh(request.param) as running:
        yield running
