"""Everything that is generated passes the real Envoy's own validation, without a warning."""

from __future__ import annotations

from pathlib import Path

import pytest

from lateen.envoy.bootstrap import bootstrap
from lateen.envoy.static import static_bootstrap
from lateen.envoy.translate import translate
from lateen.plan.proxy import Bind
from tests.envoy.harness import Authority, Pem, validate
from tests.golden.plan_to_envoy.cases import CASES


@pytest.fixture(scope="module")
def pem() -> Pem:
    return Authority().mesh("productpage")


@pytest.mark.parametrize("case", CASES)
def test_a_translated_plan_is_valid(case: str, pem: Pem, tmp_path: Path) -> None:
    plan = CASES[case]()
    text = static_bootstrap(plan, translate(plan), certificate=pem.certificate, key=pem.key, roots=pem.roots)
    assert validate(text, tmp_path) == ""


def test_the_bootstrap_is_valid(tmp_path: Path) -> None:
    text = bootstrap(
        "productpage-v1-0",
        node_cluster="productpage.default",
        xds_socket="/run/x/xds.sock",
        sds_socket="/run/x/sds.sock",
        admin_socket="/run/x/admin.sock",
        token="0123",
        node_metadata={"NAMESPACE": "default"},
        upstream_source=Bind("127.0.0.1", 0, "/proc/self/ns/net"),
    )
    assert validate(text, tmp_path) == ""
