"""lateen.yaml: what it comes to, and what is said of each mistake."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from lateen.cli.running import new_record
from lateen.local.preflight import NOT_ALLOWED, port_finding, taken_ports
from lateen.local.project import ProbeKind, Project
from lateen.local.project_file import read_project
from lateen.local.schema import project_schema, render_schema
from lateen.local.watch import fixed_options, keep_options
from lateen.values.protocol import Protocol

ROOT = Path(__file__).parents[3]


def read(text: str) -> Project:
    project, findings = read_project(text.encode(), "/shop/lateen.yaml")
    assert project is not None, [finding.render() for finding in findings]
    return project


def problems(text: str) -> list[tuple[str, int, str]]:
    _, findings = read_project(text.encode(), "/shop/lateen.yaml")
    return [(finding.code, finding.origin.line, finding.origin.field) for finding in findings]


def test_a_service_needs_no_more_than_a_command() -> None:
    project = read("services:\n  web: {command: python3 -m http.server}")
    (web,) = project.workloads
    assert (project.name, web.name, web.service_account, web.namespace) == ("shop", "web", "web", "default")
    assert web.application is not None
    assert web.application.command == ("python3", "-m", "http.server")
    assert web.application.working_dir == "/shop"
    assert web.application.probe.kind is ProbeKind.NONE
    assert project.services == ()


def test_versions_are_workloads_with_labels_and_overlays() -> None:
    project = read(
        """
        services:
          reviews:
            ports: {http: 9080}
            command: [run, it]
            environment: {A: 1, B: true}
            versions:
              v1:
              v2: {environment: {B: x}, replicas: 3, labels: {tier: gold}}
        """
    )
    one, two = project.workloads
    assert (one.name, two.name) == ("reviews-v1", "reviews-v2")
    assert dict(two.labels) == {"app": "reviews", "version": "v2", "tier": "gold"}
    assert one.application is not None and two.application is not None
    assert dict(one.application.environment) == {"A": "1", "B": "true"}
    assert dict(two.application.environment) == {"A": "1", "B": "x"}
    assert two.replicas == 3
    assert one.application.probe.kind is ProbeKind.TCP
    assert one.application.probe.port == 9080
    assert project.services[0].selector == (("app", "reviews"),)


def test_ports_speak_what_their_names_say() -> None:
    project = read(
        """
        services:
          db:
            command: x
            ports:
            - {name: tcp-main, port: 5432, target_port: 15432}
            - {name: admin, port: 8080, protocol: http}
            - {name: grpc-web-x, port: 8081}
        """
    )
    ports = project.services[0].ports
    assert [(port.number, port.target, port.protocol) for port in ports] == [
        (5432, 15432, Protocol.TCP),
        (8080, 8080, Protocol.HTTP),
        (8081, 8081, Protocol.GRPC_WEB),
    ]


def test_readiness_in_every_form() -> None:
    project = read(
        """
        services:
          a: {command: x, ports: {http: 80}, readiness: {http: /ok, interval: 500ms, timeout: 2s}}
          b: {command: x, ports: {http: 80}, readiness: {tcp: 81}}
          c: {command: x, ports: {http: 80}, readiness: {exec: [test, -e, f]}}
          d: {command: x, ports: {http: 80}, readiness: none}
        """
    )
    probes = [workload.application.probe for workload in project.workloads if workload.application]
    assert [(probe.kind.value, probe.port) for probe in probes] == [
        ("http", 80),
        ("tcp", 81),
        ("exec", 80),
        ("none", 0),
    ]
    assert (probes[0].interval, probes[0].timeout, probes[0].path) == (0.5, 2.0, "/ok")


def test_a_gateway_has_no_application() -> None:
    project = read("gateways:\n  ingress: {ports: {http: 8080}}")
    (gateway,) = project.gateways
    assert gateway.is_gateway
    assert (gateway.bind, dict(gateway.labels)) == ("127.0.0.1", {"istio": "ingress"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("services:\n  a:\n    comand: x", [("unknown-field", 3, "services.a.comand")]),
        ("services:\n  a:\n    command: x\n    replicas: two", [("wrong-type", 4, "services.a.replicas")]),
        ("services:\n  a: {command: x, ports: {http: 0}}", [("out-of-range", 2, "services.a.ports.http")]),
        ("services:\n  a:\n    ports: {http: 80}", [("missing-field", 2, "services.a")]),
        ("services:\n  a: {command: x}\n  a: {command: y}", [("duplicate-key", 3, "services.a")]),
        ('services:\n  a: {command: "x \'y"}', [("invalid-value", 2, "services.a.command")]),
        ("services:\n  a: {command: x, versions: {1.0: }}", [("wrong-type", 2, "services.a.versions.1.0")]),
        ("services:\n  a: {command: x, readiness: {interval: 1s}}", [("invalid-value", 2, "services.a.readiness")]),
        (
            "services: {a-b: {command: x}, a: {command: x, versions: {b: }}}",
            [("duplicate-name", 1, "services.a")],
        ),
        (
            "gateways:\n  one: {ports: {http: 80}}\n  two: {ports: {http: 80}}",
            [("port-clash", 3, "gateways.two.ports")],
        ),
        ("mesh: {capture: magic}", [("invalid-value", 1, "mesh.capture")]),
        ("", [("empty-project", 1, "")]),
        ("services: [", [("invalid-yaml", 1, "")]),
        ("services:\n  a: {command: !!timestamp x}", [("invalid-yaml", 2, "")]),
        ("services:\n  a: {command: x, environment: {A: 2001-99-99}}", [("invalid-yaml", 2, "")]),
        ("- a", [("wrong-type", 1, "")]),
        ("services:\n  a:\n    command: x\n    ports: {web: 80}", [("unnamed-protocol", 4, "services.a.ports.web")]),
    ],
)
def test_each_mistake_is_named_with_its_place(text: str, expected: list[tuple[str, int, str]]) -> None:
    assert problems(text) == expected


def test_a_finding_names_the_mesh_as_it_is_called() -> None:
    text = b"name: shop\nservices:\n  a: {command: x, ports: {web: 80}}\n"
    for name, expected in ((None, "shop"), ("other", "other")):
        project, (finding,) = read_project(text, "/home/My Folder/lateen.yaml", name)
        assert project is not None
        assert project.name == finding.origin.name == expected
        assert project.written_name == "shop"
    unnamed, _ = read_project(text.replace(b"name: shop", b""), "/home/My Folder/lateen.yaml")
    assert unnamed is not None
    assert unnamed.name == "my-folder"


def test_a_port_that_cannot_be_had_is_named_with_its_line_and_what_helps() -> None:
    text = "gateways:\n  in:\n    ports:\n      http: %d\n  list:\n    ports:\n    - {name: http, port: %d}\n"
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        numbers = one.getsockname()[1], two.getsockname()[1]
        project = read(text % numbers)
        first, second = taken_ports(project, [])
    assert (first.origin.line, first.origin.field) == (4, "gateways.in.ports.http")
    assert (second.origin.line, second.origin.field) == (7, "gateways.list.ports[0]")
    assert f"127.0.0.1:{numbers[0]}: it is taken by process {os.getpid()}" in first.message
    low = read("gateways:\n  in: {ports: {http: 80}}\n")
    finding = port_finding(low, low.gateways[0], low.gateways[0].ports[0], NOT_ALLOWED, [])
    assert "this user may not listen on it" in finding.message
    assert "8080" in finding.remedy
    assert "ip_unprivileged_port_start=80" in finding.remedy


def test_an_unknown_field_is_answered_with_the_nearest_one() -> None:
    _, findings = read_project(b"services: {a: {comand: x}}", "/shop/lateen.yaml")
    assert findings[0].remedy == "did you mean command?"


def test_the_example_is_a_sound_project() -> None:
    file = ROOT / "examples" / "bookinfo" / "lateen.yaml"
    project, findings = read_project(file.read_bytes(), str(file))
    assert findings == []
    assert project is not None
    assert {service.name for service in project.services} == {"productpage", "details", "reviews", "ratings", "traces"}


def test_the_schema_in_the_docs_is_the_one_of_the_structs() -> None:
    assert (ROOT / "docs" / "reference" / "lateen.schema.json").read_text() == render_schema()
    assert json.loads(render_schema()) == project_schema()


def test_an_edit_of_the_name_is_told_as_long_as_it_does_not_hold() -> None:
    text = b"name: shop\nservices: {a: {command: x}}\n"
    running, _ = read_project(text, "/shop/lateen.yaml", "other")
    edited, _ = read_project(text.replace(b"shop", b"store"), "/shop/lateen.yaml", "other")
    assert running is not None
    assert edited is not None
    assert fixed_options(running, running) == []
    for _ in range(2):
        assert [finding.origin.field for finding in fixed_options(running, edited)] == ["name"]
        running = keep_options(running, edited)
        assert running.name == "other"


def test_where_keys_of_tokens_may_be_fetched() -> None:
    shop = "services: {web: {command: run}}\nmesh:\n  jwks:\n"
    options = read(f"{shop}    allow: [127.0.0.0/8, 10.1.2.3]\n    refresh: 1m\n").options
    assert (options.jwks_allow, options.jwks_refresh) == (("127.0.0.0/8", "10.1.2.3"), 60.0)
    assert read("services: {web: {command: run}}").options.jwks_refresh == 1200.0
    record = new_record(read(f"{shop}    allow: [10.0.0.0/8]\n"), jwks_allow=["127.0.0.0/8"])
    assert record.jwks_allow == ("10.0.0.0/8", "127.0.0.0/8")
    text = f"{shop}    allow:\n    - 127.0.0.1/8\n    - localhost\n    refresh: 500ms\n"
    assert problems(text) == [
        ("invalid-value", 5, "mesh.jwks.allow[0]"),
        ("invalid-value", 6, "mesh.jwks.allow[1]"),
        ("out-of-range", 7, "mesh.jwks.refresh"),
    ]


def test_where_limits_of_all_proxies_are_counted() -> None:
    shop = "services: {web: {command: run}}\nmesh:\n  rate_limits:\n    redis: "
    for url in ("redis://127.0.0.1:6379/0", "rediss://x", "unix:///run/redis.sock"):
        assert new_record(read(shop + url)).redis == url
    for url in ("127.0.0.1:6379", "http://x", "redis://", "unix://run/x"):
        assert problems(shop + url) == [("invalid-value", 4, "mesh.rate_limits.redis")]


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        ("{listen: 15012}", ["listen"]),
        ("{listen: 'a:0'}", ["listen"]),
        ("{listen: 'a:65536'}", ["listen"]),
        ("{listen: ':15012'}", ["listen"]),
        ("{listen: '::1:15012'}", ["listen"]),
        ("{listen: 'münchen:15012'}", ["listen"]),
        ("{listen_mutual: 'a b:1'}", ["listen_mutual"]),
        ("{listen: 'a:1', listen_mutual: 'a:1'}", ["listen_mutual"]),
        ("{listen: 'a:1', names: [ok.example, 'not ok', 10.0.0.1, '*.example', '', 'fe80::1%eth0']}", [1, 3, 4, 5]),
        ("{names: [a.example]}", ["names"]),
    ],
)
def test_where_the_authority_listens_is_checked(identity: str, expected: list[object]) -> None:
    text = f"services:\n  web: {{command: x}}\nmesh:\n  identity: {identity}"
    fields = [field for _, _, field in problems(text)]
    paths = [f"mesh.identity.names[{one}]" if isinstance(one, int) else f"mesh.identity.{one}" for one in expected]
    assert fields == paths


@pytest.mark.parametrize("place", ["127.0.0.1:15012", "[::1]:15012", "ca.example.com:1", "localhost:65535"])
def test_places_where_the_authority_can_listen(place: str) -> None:
    project = read(f"services:\n  web: {{command: x}}\nmesh:\n  identity: {{listen: '{place}', names: [ca.example]}}")
    assert project.options.service.listen == place


def test_annotations_of_a_service_and_its_versions() -> None:
    text = """
        services:
          web:
            command: run
            annotations: {policy.istio.io/check: enable, policy.istio.io/checkRetries: "2"}
            versions:
              v1:
              v2: {annotations: {policy.istio.io/check: disable}}
        """
    one, two = read(text).workloads
    assert dict(one.annotations) == {"policy.istio.io/check": "enable", "policy.istio.io/checkRetries": "2"}
    assert dict(two.annotations) == {"policy.istio.io/check": "disable", "policy.istio.io/checkRetries": "2"}
    wrong = text.replace("checkRetries", "chekRetries").replace("check: disable", "check: maybe")
    assert [(code, line) for code, line, _ in problems(wrong)] == [
        ("unknown-annotation", 5),
        ("unknown-annotation", 5),
        ("invalid-value", 8),
    ]
