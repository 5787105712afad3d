"""An authority whose clock stands still."""

import pytest

from lateen.identity.authority import Authority
from tests.unit.identity.names import NOW


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ca", "cluster.local", lambda: NOW)
