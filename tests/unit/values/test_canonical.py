"""Canonical service and revision."""

from __future__ import annotations

import pytest

from lateen.values.canonical import canonical_names, special_names


@pytest.mark.parametrize(
    ("labels", "service", "revision"),
    [
        ({}, "api-v1", "latest"),
        ({"app": "api", "version": "v1"}, "api", "v1"),
        ({"app": "a", "app.kubernetes.io/name": "b", "app.kubernetes.io/version": "2", "version": "1"}, "b", "2"),
        (
            {"app": "a", "service.istio.io/canonical-name": "c", "service.istio.io/canonical-revision": "3"},
            "c",
            "3",
        ),
    ],
)
def test_canonical_names(labels: dict[str, str], service: str, revision: str) -> None:
    assert canonical_names("api-v1", labels) == (service, revision)


def test_only_what_app_and_version_do_not_say_is_special() -> None:
    assert special_names("api-v1", {"app": "api", "version": "v1"}) == ()
    assert special_names("api-v1", {"app": "api"}) == (("canonical_revision", "latest"),)
    assert special_names("api-v1", {"version": "v1"}) == (("canonical_service", "api-v1"),)
