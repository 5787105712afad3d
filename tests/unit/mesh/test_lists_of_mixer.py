"""Instances whose values a list could never hold are told: they would have every request refused."""

from __future__ import annotations

import pytest

from tests.unit.mixer_resources import listed
from tests.unit.plan.building import snapshot


@pytest.mark.parametrize(
    ("kind", "value", "remedy"),
    [
        ("STRINGS", "source.user", ""),
        ("STRINGS", 'dnsName("a.b")', ""),
        ("IP_ADDRESSES", "source.ip", ""),
        ("IP_ADDRESSES", 'request.headers["x"]', ""),
        ("STRINGS", "source.ip", "give a text, or write entryType: IP_ADDRESSES for a list of addresses"),
        ("REGEX", "request.size", "give a text, or write entryType: IP_ADDRESSES for a list of addresses"),
        ("IP_ADDRESSES", "destination.port", "give an address, such as source.ip"),
    ],
)
def test_a_value_that_a_list_could_never_hold_is_told(kind: str, value: str, remedy: str) -> None:
    made = snapshot(listed(f"{{entryType: {kind}, overrides: []}}", f"'{value}'"))
    assert [(one.code, one.origin.field, one.remedy) for one in made.findings] == (
        [("wrong-value", "spec.actions[0].instances[0]", remedy)] if remedy else []
    )
    assert len(made.mixer.rules) == (0 if remedy else 1)
