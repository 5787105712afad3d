"""Lists at addresses that are not called unless it is said are told, with what to write."""

from __future__ import annotations

import pytest

from lateen.control.mixer_link import unfetched_lists
from tests.unit.mixer_resources import listed
from tests.unit.plan.building import snapshot


@pytest.mark.parametrize(
    ("url", "allowed", "address"),
    [
        ("http://127.0.0.1:1/list", (), "127.0.0.1"),
        ("http://localhost/list", (), "127.0.0.1"),
        ("https://[::1]/list", (), "::1"),
        ("https://10.1.2.3/list", ("127.0.0.0/8",), "10.1.2.3"),
        ("http://127.0.0.1:1/list", ("127.0.0.0/8",), ""),
        ("https://lists.example/list", (), ""),
        ("https://1.1.1.1/list", (), ""),
    ],
)
def test_a_list_that_is_not_fetched_is_told(url: str, allowed: tuple[str, ...], address: str) -> None:
    found = list(unfetched_lists(snapshot(listed(f'{{providerUrl: "{url}"}}', "source.user")).mixer, allowed))
    wanted = [f"add {address} to mesh.jwks.allow in lateen.yaml, and start the mesh anew"] if address else []
    assert [finding.remedy for finding in found] == wanted
