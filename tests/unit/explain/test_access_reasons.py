"""By what a rule fails, in the words of who wrote it."""

from __future__ import annotations

from lateen.explain.access import failures
from lateen.explain.facts import Facts
from lateen.explain.request import Request
from lateen.plan.access.conditions import path


def test_a_template_is_shown_as_it_was_written() -> None:
    facts = Facts(request=Request("h", "/no", "", ()))
    assert failures(path("/a/{*}/b-*c/{**}"), facts) == ("the path is '/no', not '/a/{*}/b-*c/{**}'",)
