"""Which inclusions of ``proxyStatsMatcher`` ask for what Envoy counts by status and time."""

from __future__ import annotations

import pytest

from lateen.plan.answer_counts import includes_answer_counts
from lateen.resources.proxy_config import StatsMatcher


@pytest.mark.parametrize(
    ("prefix", "asked"),
    [
        ("cluster.outbound", True),
        ("clus", True),
        ("vhost.shop", True),
        ("cluster_manager", False),
        ("listener.", False),
        ("http.", False),
    ],
)
def test_a_prefix_asks_where_a_name_may_begin_so(prefix: str, asked: bool) -> None:
    assert includes_answer_counts(StatsMatcher(inclusion_prefixes=(prefix,))) is asked


def test_suffixes_and_expressions_ask() -> None:
    assert includes_answer_counts(StatsMatcher(inclusion_suffixes=("upstream_rq_2xx",)))
    assert includes_answer_counts(StatsMatcher(inclusion_regexps=(r".*outbound.*",)))
    assert not includes_answer_counts(StatsMatcher())
