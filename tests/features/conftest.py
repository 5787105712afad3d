"""A mesh for all tests of a group that do not disturb it, for each way of capture that this machine has."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from pathlib import Path

import pytest

from lateen.local.network.choose import probe
from tests.features.running import running_mesh


@functools.cache
def ways():
    """Loopback addresses are always there."""
    return ["namespaces", "loopback"] if asyncio.run(probe()).mode == "namespaces" else ["loopback"]


def pytest_itemcollected(item):
    """Tests of a file run in one worker."""
    if item.get_closest_marker("xdist_group") is None:
        item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_generate_tests(metafunc):
    """Every test that takes a mesh runs in each way; those of one way in one worker, as they share the mesh.

    One that is marked ``one_capture`` runs in the first way alone: what it shows does not depend on the way.
    """
    if "mesh" in metafunc.fixturenames:
        once = metafunc.definition.get_closest_marker("one_capture") is not None
        found = [pytest.param(way, marks=pytest.mark.xdist_group(way)) for way in (ways()[:1] if once else ways())]
        metafunc.parametrize("mesh", found, indirect=True, scope="module")


class Keeper:
    """The mesh that runs now, and for whom: the names of a file's groups and a way of capture."""

    def __init__(self):
        self._stack = contextlib.ExitStack()
        self._whose = self._mesh = None

    def mesh(self, whose):
        if whose != self._whose:
            self.close()
            self._mesh, self._whose = self._stack.enter_context(running_mesh(whose[-1])), whose
        return self._mesh

    def close(self):
        self._whose = None
        self._stack.close()

    def serves(self, item):
        """Whether a test takes this mesh, or none."""
        way = item.callspec.params.get("mesh") if hasattr(item, "callspec") else None
        return self._whose == (*groups_of(item.parent), way) or (way is None and item.path.parent == HERE)


HERE = Path(__file__).parent
KEEPER = Keeper()


def groups_of(module):
    return sorted(mark.args[0] for mark in module.iter_markers("xdist_group")) or [module.path.stem]


@pytest.fixture(scope="module")
def mesh(request):
    """Files of one group come one after the other in a worker, and take the same one."""
    return KEEPER.mesh((*groups_of(request.node), request.param))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem):
    """It is taken down after the last test of the group."""
    yield
    if nextitem is None or not KEEPER.serves(nextitem):
        KEEPER.close()
