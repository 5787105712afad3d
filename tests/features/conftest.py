"""One mesh for all tests of a file that do not disturb it."""

from __future__ import annotations

import pytest

from tests.features.running import running_mesh


def captures():
    """The ways of capture that this machine has; loopback is always one."""
    from lateen.local.network import probe

    found = ["loopback"]
    if probe().mode == "namespaces":
        found.insert(0, "namespaces")
    return found


@pytest.fixture(scope="module", params=captures())
def mesh(request):
    with running_mesh(request.param) as running:
        yield running
