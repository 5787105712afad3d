"""Which ProxyConfig says how many workers a proxy has."""

from __future__ import annotations

import pytest

from lateen.mesh.build import build_snapshot
from lateen.mesh.proxy_config import concurrency, concurrency_rules
from lateen.settings import Settings
from tests.unit.plan.building import resources


def config(name: str, namespace: str, spec: str) -> str:
    kind = "apiVersion: networking.istio.io/v1beta1\nkind: ProxyConfig\n"
    return f"{kind}metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n---\n"


TEXT = (
    "apiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\ndefaultConfig: {concurrency: 2}\n---\n"
    + config("mesh", "istio-system", "{concurrency: 3}")
    + config("all", "shop", "{concurrency: 4}")
    + config("own", "shop", "{selector: {matchLabels: {app: cart}}, concurrency: 0}")
    + config("silent", "bank", "{selector: {matchLabels: {app: cart}}, image: {imageType: debug}}")
    + config("of-root", "istio-system", "{selector: {matchLabels: {app: cart}}, concurrency: 7}")
)


@pytest.mark.parametrize(
    ("namespace", "app", "workers"),
    [("shop", "cart", 0), ("shop", "web", 4), ("bank", "cart", 3), ("istio-system", "cart", 7)],
)
def test_the_nearest_config_that_says_it_holds(namespace: str, app: str, workers: int) -> None:
    rules = concurrency_rules(build_snapshot(Settings(), resources(TEXT), []))
    assert concurrency(rules, namespace, (("app", app),)) == workers


def test_the_meshs_default_and_nothing() -> None:
    alone = TEXT.partition("---\n")[0]
    rules = concurrency_rules(build_snapshot(Settings(), resources(alone), []))
    assert concurrency(rules, "any", ()) == 2
    assert concurrency(concurrency_rules(build_snapshot(Settings(), [], [])), "any", ()) is None
