"""Attribute generators: what is found fills in what a request does not have, and contradicts no certificate."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from lateen.expressions.evaluate import MapBag
from lateen.expressions.functions import to_ip
from lateen.mesh.mixer.resolve import resolve
from lateen.mixer.adapter import UNAVAILABLE, AttributeAdapter
from lateen.mixer.adapters.kubernetesenv import KubernetesEnv, Pods
from lateen.mixer.engine import Engine
from lateen.mixer.handler import Handler
from lateen.mixer.handlers import Handlers
from lateen.mixer.reach import Reach
from lateen.plan.mixer.pods import Pod, owner_of
from lateen.resources.decode import decode
from lateen.resources.documents import parse_documents
from lateen.resources.resource import Resource

POD = Pod("a-1", "shop", "a", addresses=("10.0.0.1",), labels={"app": "a"}, service_account="alice", host_ip="10.9.9.9")
DB = Pod("db-0", "shop", "db", "statefulsets", ("10.0.0.2",), {"app": "db"}, containers={"80": "web"})
TWIN = Pod("t-1", "shop", "t", addresses=("10.0.0.3",))
OTHER = Pod("t-2", "shop", "t", addresses=("10.0.0.3",))
PARAMS = {
    "source_uid": 'source.uid | ""',
    "source_ip": 'source.ip | ip("0.0.0.0")',
    "destination_uid": 'destination.uid | ""',
    "destination_port": "destination.port | 0",
}
BINDINGS = {
    "source.name": '$out.source_pod_name | "unknown"',
    "source.labels": "$out.source_labels | emptyStringMap()",
    "source.namespace": '$out.source_namespace | "default"',
    "source.serviceAccount": "$out.source_service_account_name",
    "destination.owner": "$out.destination_owner",
    "destination.container.name": '$out.destination_container_name | "none"',
}
DENY_APP = 'source.labels["app"] == "a" && source.namespace == "shop"'


def resources(*documents: tuple[str, str, dict[str, Any]]) -> dict[str, list[Resource]]:
    found: dict[str, list[Resource]] = {}
    for kind, name, spec in documents:
        text = json.dumps(
            {"apiVersion": "config.istio.io/v1alpha2", "kind": kind, "metadata": {"name": name}, "spec": spec}
        )
        resource, problems = decode(parse_documents(text.encode(), "mixer.yaml")[0][0])
        assert resource is not None, problems
        found.setdefault(kind, []).append(resource)
    return found


def generating(bindings: dict[str, str], match: str = DENY_APP) -> dict[str, list[Resource]]:
    return resources(
        ("handler", "env", {"compiledAdapter": "kubernetesenv"}),
        ("handler", "deny", {"compiledAdapter": "denier"}),
        ("instance", "who", {"compiledTemplate": "kubernetes", "params": PARAMS, "attributeBindings": bindings}),
        ("instance", "nothing", {"compiledTemplate": "checknothing"}),
        ("rule", "find", {"actions": [{"handler": "env", "instances": ["who"]}]}),
        ("rule", "decide", {"match": match, "actions": [{"handler": "deny", "instances": ["nothing"]}]}),
    )


def outcome(
    attributes: dict[str, Any], match: str = DENY_APP, adapter: AttributeAdapter | None = None, **more: Any
) -> Any:
    rules, findings = resolve(generating(BINDINGS, match), "default")
    assert findings == ()

    async def checked() -> Any:
        handlers = Handlers(Reach().web)
        await handlers.follow(rules, fail_open=False, pods=(POD, DB, TWIN, OTHER))
        running = dict(handlers.running)
        if adapter is not None:
            running["env.default"] = Handler("env.default", adapter, deadline=0.1, **more)
        return await Engine(rules, running).check(MapBag(attributes))

    return asyncio.run(checked())


def test_what_stands_at_an_address_is_found() -> None:
    found = outcome({"source.ip": to_ip("10.0.0.1")})
    assert found.code == 9
    assert found.inputs == ("address", "names", "principal")


def test_what_a_certificate_says_is_not_contradicted() -> None:
    caller = {"source.ip": to_ip("10.0.0.1"), "source.namespace": "shop"}
    assert outcome({**caller, "source.serviceAccount": "alice"}).code == 9
    assert outcome({**caller, "source.serviceAccount": "mallory"}).code == 0
    assert outcome({**caller, "source.namespace": "other"}).code == 0


def test_what_a_request_has_is_not_exchanged() -> None:
    caller = {"source.ip": to_ip("10.0.0.1"), "source.labels": {"app": "b"}}
    assert outcome(caller).code == 0
    assert outcome(caller, 'source.labels["app"] == "b" && source.name == "a-1"').code == 9


@pytest.mark.parametrize("address", ["10.0.0.3", "10.0.0.9", "0.0.0.0"])
def test_of_an_address_of_several_or_of_nobody_nothing_is_found(address: str) -> None:
    assert outcome({"source.ip": to_ip(address)}, 'source.name == "unknown" && source.namespace == "default"').code == 9
    assert outcome({"source.ip": to_ip(address)}, 'source.serviceAccount != "x"').code == 0


def test_a_uid_counts_before_an_address() -> None:
    caller = {"source.ip": to_ip("10.0.0.1"), "source.uid": "kubernetes://t-1.shop"}
    assert outcome(caller, 'source.name == "t-1"').code == 9


def test_the_other_side_and_its_container() -> None:
    arrived = {"destination.uid": "kubernetes://db-0.shop", "destination.port": 80}
    owner = "kubernetes://apis/apps/v1/namespaces/shop/statefulsets/db"
    assert outcome(arrived, f'destination.owner == "{owner}" && destination.container.name == "web"').code == 9
    assert outcome({**arrived, "destination.port": 81}, 'destination.container.name == "none"').code == 9


class Broken(AttributeAdapter):
    templates = frozenset({"kubernetes"})

    async def find(self, instance: Any) -> dict[str, object]:
        raise OSError("gone")


def test_what_cannot_be_found_refuses_unless_rules_say_otherwise() -> None:
    caller = {"source.ip": to_ip("10.0.0.1")}
    refused = outcome(caller, adapter=Broken(), fail_open=False)
    assert (refused.code, refused.message) == (UNAVAILABLE, "env.default:what it asks does not answer")
    assert refused.inputs is None
    assert outcome(caller, adapter=Broken(), fail_open=True).code == 0
    everything = {**caller, "source.namespace": "shop", "source.labels": {"app": "a"}}
    assert outcome(everything, adapter=Broken(), fail_open=False).code == 9, "nothing had to be found"


def test_why_it_failed_stands_in_the_log_and_is_not_told_to_clients(caplog: pytest.LogCaptureFixture) -> None:
    refused = outcome({"source.ip": to_ip("10.0.0.1")}, adapter=Broken(), fail_open=False)
    assert "gone" not in refused.message
    assert "handler env.default: OSError: gone" in caplog.text


@pytest.mark.parametrize(
    ("bindings", "words"),
    [
        ({"source.name": "$out.source_pod_nam"}, "there is no attribute $out.source_pod_nam"),
        ({"source.labels": "$out.source_pod_name"}, "its value is STRING, where STRING_MAP is expected"),
        ({"source.nam": "$out.source_pod_name"}, "there is no attribute source.nam"),
    ],
)
def test_bindings_that_cannot_be(bindings: dict[str, str], words: str) -> None:
    rules, findings = resolve(generating(bindings), "default")
    assert words in " ".join(finding.message for finding in findings)
    assert [rule.name for rule in rules.rules] == ["decide"]


def test_what_owns_a_pod() -> None:
    assert owner_of("web-5f7-x2x", {"pod-template-hash": "5f7"}) == ("web", "deployments")
    assert owner_of("db-0", {"statefulset.kubernetes.io/pod-name": "db-0"}) == ("db", "statefulsets")
    assert owner_of("lone", {}) == ("lone", "pods")


def test_no_other_template_is_taken() -> None:
    from lateen.mixer.templates import CheckNothing

    with pytest.raises(TypeError):
        asyncio.run(KubernetesEnv(Pods).find(CheckNothing()))
