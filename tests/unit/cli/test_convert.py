"""``lateen convert``: what is written, what stays as it is, and what is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from lateen.cli.main import cli

SERVICE = """# the service
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}   # as it stands
spec: {selector: {app: api}, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 9090}]}
"""
ON = """
apiVersion: rbac.istio.io/v1alpha1
kind: ClusterRbacConfig
metadata: {name: default}
spec: {mode: ON_WITH_INCLUSION, inclusion: {services: [api.shop.svc.cluster.local]}}
"""
ROLE = """
apiVersion: rbac.istio.io/v1alpha1
kind: ServiceRole
metadata: {name: reader, namespace: shop}
spec: {rules: [{services: [api.shop.svc.cluster.local], methods: [GET]}]}
---
apiVersion: rbac.istio.io/v1alpha1
kind: ServiceRoleBinding
metadata: {name: friends, namespace: shop}
spec: {subjects: [{user: a}], roleRef: {kind: ServiceRole, name: reader}}
"""
PROJECT = """
namespace: shop
services: {api: {ports: {http: 8080}, command: "true"}}
"""
POLICY = """
apiVersion: authentication.istio.io/v1alpha1
kind: Policy
metadata: {name: tokens, namespace: shop}
spec:
  targets: [{name: api}]
  peers: [{mtls: {}}]
  origins: [{jwt: {issuer: https://a.example, jwksUri: https://a.example/keys}}]
"""


def run(*arguments: object, code: int = 0) -> tuple[str, str]:
    """Standard output and what is told."""
    result = CliRunner().invoke(cli, ["convert", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def written(path: Path, *texts: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("---\n".join(texts))
    return path


def named(text: str) -> dict[tuple[str, str], Any]:
    return {(value["kind"], value["metadata"]["name"]): value for value in yaml.safe_load_all(text)}


def test_roles_become_policies_and_the_rest_stays(tmp_path: Path) -> None:
    out, _ = run(written(tmp_path / "a.yaml", SERVICE, ON, ROLE))
    assert out.startswith(SERVICE)
    found = named(out)
    assert set(found) == {
        ("Service", "api"),
        ("AuthorizationPolicy", "rbac-api"),
        ("AuthorizationPolicy", "friends-api"),
    }
    assert found["AuthorizationPolicy", "rbac-api"]["spec"] == {"selector": {"matchLabels": {"app": "api"}}}
    assert found["AuthorizationPolicy", "friends-api"]["spec"]["rules"] == [
        {"from": [{"source": {"principals": ["a"]}}], "to": [{"operation": {"methods": ["GET"]}}]}
    ]


def test_services_may_be_those_of_lateen_yaml(tmp_path: Path) -> None:
    out, told = run(written(tmp_path / "lateen.yaml", PROJECT), written(tmp_path / "a.yaml", ON, ROLE))
    assert ("AuthorizationPolicy", "friends-api") in named(out)
    assert "services:" not in out and "not-carried-over" not in told


def test_without_services_it_says_so(tmp_path: Path) -> None:
    path = written(tmp_path / "a.yaml", ON, ROLE)
    out, told = run(path)
    assert not out
    assert f"{path}:5: warning: no service is known that this is for" in told


def test_a_policy_becomes_three_resources(tmp_path: Path) -> None:
    path = written(tmp_path / "a.yaml", SERVICE, POLICY)
    out, told = run(path)
    found = named(out)
    assert found["PeerAuthentication", "tokens-api"]["spec"]["mtls"] == {"mode": "STRICT"}
    rule = found["RequestAuthentication", "tokens-api"]["spec"]["jwtRules"][0]
    assert rule["jwksUri"] == "https://a.example/keys"
    denied = found["AuthorizationPolicy", "tokens-api-token"]["spec"]
    assert denied["action"] == "DENY" and denied["rules"][0]["to"] == [{"operation": {"ports": ["8080"]}}]
    assert f"{path}:14: info: a request without a token is denied" in told


def test_files_of_a_folder_go_to_a_folder(tmp_path: Path) -> None:
    old = tmp_path / "old"
    text = f"# a head of its own\n---\n{SERVICE}---\n\n# an end\n"
    written(old / "services" / "api.yaml", text)
    written(old / "access.yaml", ON, ROLE)
    new = tmp_path / "new"
    run(old, "-o", new)
    assert (new / "services" / "api.yaml").read_text() == text
    assert len(named((new / "access.yaml").read_text())) == 2
    _, told = run(old, "-o", new, code=2)
    assert "is there already" in told


def test_two_files_of_one_name_are_not_mixed_up(tmp_path: Path) -> None:
    first, second = written(tmp_path / "a" / "x.yaml", SERVICE), written(tmp_path / "b" / "x.yaml", ON)
    run(first, second, "-o", tmp_path / "new", code=2)
    assert not (tmp_path / "new").exists()


def test_with_an_error_nothing_is_written(tmp_path: Path) -> None:
    path = written(tmp_path / "a.yaml", SERVICE, ON, ROLE.replace("services: [", "servces: ["))
    out, told = run(path, "-o", tmp_path / "new", code=1)
    assert "nothing is written" in told and f"{path}:17: error" in told
    assert not (tmp_path / "new").exists() and not out


def test_the_rest_of_a_list_stays(tmp_path: Path) -> None:
    items = [value for text in (SERVICE, ON, ROLE) for value in yaml.safe_load_all(text)]
    out, _ = run(written(tmp_path / "a.yaml", yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": items})))
    assert named(out)["Service", "api"] == items[0]
    assert len(named(out)) == 3


@pytest.mark.parametrize(
    ("beside", "gone"),
    [
        (("AuthorizationPolicy", "{rules: [{}]}"), "AuthorizationPolicy friends-api"),
        (("PeerAuthentication", "{mtls: {mode: STRICT}}"), "PeerAuthentication tokens-api"),
        (
            ("RequestAuthentication", "{jwtRules: [{issuer: a, jwksUri: https://a}]}"),
            "RequestAuthentication tokens-api",
        ),
    ],
)
def test_where_present_resources_hold_nothing_is_made(tmp_path: Path, beside: tuple[str, str], gone: str) -> None:
    kind, spec = beside
    present = (
        f"apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: own, namespace: shop}}\nspec: {spec}\n"
    )
    all_of_it = named(run(written(tmp_path / "a.yaml", SERVICE, ON, ROLE, POLICY))[0])
    out, told = run(written(tmp_path / "b.yaml", SERVICE, ON, ROLE, POLICY, present))
    assert tuple(gone.split()) in all_of_it and tuple(gone.split()) not in named(out)
    assert "overruled" in told


def test_roles_have_no_effect_at_gateways(tmp_path: Path) -> None:
    gateway = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec: {selector: {app: api}}\n"
    assert len(named(run(written(tmp_path / "a.yaml", SERVICE, ON, ROLE, gateway))[0])) == 2


def test_trials_stay_trials(tmp_path: Path) -> None:
    out, told = run(
        written(tmp_path / "a.yaml", SERVICE, ON.replace("mode:", "enforcementMode: PERMISSIVE, mode:"), ROLE)
    )
    policies = [value for (kind, _), value in named(out).items() if kind == "AuthorizationPolicy"]
    assert [one["metadata"]["annotations"] for one in policies] == [{"istio.io/dry-run": "true"}] * 2
    assert "PERMISSIVE becomes the annotation" in told


def test_where_ports_are_names_every_port_asks_for_a_token(tmp_path: Path) -> None:
    out, _ = run(written(tmp_path / "a.yaml", SERVICE.replace("8080", "web"), POLICY))
    (rule,) = named(out)["AuthorizationPolicy", "tokens-api-token"]["spec"]["rules"]
    assert rule == {"from": [{"source": {"notRequestPrincipals": ["*"]}}]}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("targets: [{name: api}]", "targets: [{name: api, ports: [{name: http}]}]"), "at every port of the service"),
        (("/keys}", "/keys, triggerRules: [{includedPaths: [{regex: '/a.*'}]}]}"), "no patterns of paths"),
        (("origins:", "originIsOptional: true\n  origins:"), "counted as none before"),
        (
            ("/keys}}]", "/keys}}, {jwt: {issuer: b, jwksUri: https://b.example/k, triggerRules: [{}]}}]"),
            "asks just there",
        ),
    ],
)
def test_what_tokens_cannot_say_any_more_is_told(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    file = tmp_path / "old.yaml"
    file.write_text(f"{SERVICE}---{POLICY.replace(*change)}")
    _, notes = run(file)
    assert told in next(line for line in notes.splitlines() if told in line and "old.yaml:" in line)
