"""What answers depend on, as the cache of a proxy is told it."""

from __future__ import annotations

import pytest

from lateen.mixer.inputs import inputs_of


@pytest.mark.parametrize(
    ("name", "key", "wanted"),
    [
        ("request.headers", "X-User", ("header:x-user",)),
        ("request.headers", ":path", ("header::path",)),
        ("request.headers", "a\x1eheader:b", ()),
        ("request.headers", "x y", ()),
        ("request.headers", None, None),
        ("request.auth.claims", "https://a.example", ("claim:https://a.example",)),
        ("request.auth.claims", "a\x1eheader:b", None),
        ("request.auth.claims", "a\x1fb", None),
    ],
)
def test_no_name_can_be_taken_for_two_inputs(name: str, key: str | None, wanted: tuple[str, ...] | None) -> None:
    assert inputs_of([(name, key)]) == wanted
