"""What would happen to certificates, by a simulated clock."""

import datetime

from lateen.identity.authority import Authority
from lateen.identity.rehearsal import rehearse
from tests.unit.identity.names import NOW
from tests.unit.identity.test_plugged import Link, put

DAY = datetime.timedelta(days=1)


def kinds(folder, start, span, life=DAY):
    return [(one.kind, one.at) for one in rehearse(folder, "cluster.local", start, span, life)]


def test_an_authority_that_ends_is_warned_of_and_takes_the_mesh_down(tmp_path):
    folder = tmp_path / "ca"
    Authority(folder, "cluster.local", lambda: NOW)
    end = NOW + 3650 * DAY
    found = dict(kinds(folder, NOW, 3651 * DAY))
    assert list(found) == ["signed", "warning", "shortened", "refused", "down"]
    assert found["signed"] == NOW
    assert end - 32 * DAY < found["warning"] < end - 26 * DAY
    assert end - DAY <= found["shortened"] < end
    assert found["down"] == end


def test_as_long_as_the_authority_lives_all_is_well_and_its_files_stay(tmp_path):
    folder = tmp_path / "ca"
    Authority(folder, "cluster.local", lambda: NOW)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert [kind for kind, _ in kinds(folder, NOW, 30 * DAY)] == ["signed", "signed"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_plugged_in_authority_ends_with_its_first_link(tmp_path):
    root = Link("root", life=400 * DAY)
    folder = put(tmp_path / "ca", Link("own", root, life=40 * DAY), root)
    (folder / "before").mkdir()  # what an operator keeps there is left alone
    found = dict(kinds(folder, NOW, 60 * DAY))
    assert list(found) == ["signed", "warning", "shortened", "refused", "down"]
    assert found["down"] == NOW + 40 * DAY
