"""The end of the authority's certificates is warned of well before, and stands in the metrics."""

import datetime
import json

import pytest

from lateen.control.authority_report import expiry_findings, metrics_text, trusted_root_findings
from lateen.control.store import ResourceStore
from lateen.identity.authority import Authority
from lateen.identity.certificate import build_request, new_key
from lateen.sources.files import FileEvent
from lateen.values.names import SpiffeId

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


@pytest.mark.parametrize(("days", "warned"), [(0, False), (3615, False), (3625, True), (3649, True)])
def test_a_warning_comes_a_month_before_the_end(tmp_path, days, warned):
    Authority(tmp_path / "ca", "cluster.local", lambda: NOW)
    later = Authority(tmp_path / "ca", "cluster.local", lambda: NOW + days * DAY)
    found = expiry_findings(later.status())
    assert bool(found) == warned
    assert all(one.code == "authority-expires" and one.remedy == "lateen ca rotate" for one in found)


def test_the_end_of_a_root_of_others_is_told_with_its_place(tmp_path):
    pem = Authority(tmp_path / "ca", "far.example", lambda: NOW).root_pem.decode()
    config = {"kind": "MeshConfig", "caCertificates": [{"trustDomains": ["far.example"], "pem": pem}]}
    store = ResourceStore("default", mesh_configs=["mesh.yaml"])
    store.apply(FileEvent("mesh.yaml", json.dumps(config).encode()))
    assert not list(trusted_root_findings(store.resources(), NOW))
    (found,) = trusted_root_findings(store.resources(), NOW + 3640 * DAY)
    assert "that is trusted for far.example ends on 2035-12-30" in found.message
    assert found.origin.path == "mesh.yaml"


def test_metrics_bear_istios_names(tmp_path):
    authority = Authority(tmp_path / "ca", "cluster.local", lambda: NOW)
    authority.sign(build_request(new_key(), SpiffeId("cluster.local", "a", "b")), SpiffeId("cluster.local", "a", "b"))
    text = metrics_text(authority.status())
    end = (NOW + 3650 * DAY).timestamp()
    assert f"citadel_server_root_cert_expiry_timestamp {end:.0f}" in text
    assert "citadel_server_success_cert_issuance_count 1" in text
