"""``lateen test --live``: routing tests on a real Envoy, as a user meets them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from lateen.cli.main import cli
from tests.machine import eventually

SIDECAR = """
name: a sidecar
proxy: {type: sidecar, namespace: default, labels: {app: client}, addresses: [10.0.0.1]}
kubernetes: |
  apiVersion: v1
  kind: Service
  metadata: {name: reviews}
  spec: {clusterIP: 10.1.0.1, selector: {app: reviews}, ports: [{name: http, port: 9080}, {name: tcp, port: 9090}]}
  ---
  apiVersion: v1
  kind: Service
  metadata: {name: client}
  spec: {clusterIP: 10.1.0.2, selector: {app: client}, ports: [{name: http, port: 80, targetPort: 8080}]}
config: |
  apiVersion: networking.istio.io/v1
  kind: VirtualService
  metadata: {name: reviews}
  spec:
    hosts: [reviews]
    http:
    - name: jason
      match: [{headers: {end-user: {exact: jason}}}]
      route: [{destination: {host: reviews, subset: v2}}]
    - name: moved
      match: [{uri: {prefix: /moved}}]
      redirect: {uri: /here, redirectCode: 308}
    - name: tea
      match: [{uri: {exact: /tea}}]
      directResponse: {status: 418}
    - name: faulty
      match: [{uri: {exact: /faulty}}]
      fault: {abort: {httpStatus: 503, percentage: {value: 100}}, delay: {fixedDelay: 60s, percentage: {value: 100}}}
      route: [{destination: {host: reviews}}]
    - match: [{method: {exact: GET}}]
      route:
      - {destination: {host: reviews, subset: v1}, weight: 90}
      - {destination: {host: reviews, subset: v3}, weight: 10}
  ---
  apiVersion: networking.istio.io/v1
  kind: ServiceEntry
  metadata: {name: bank}
  spec:
    hosts: [bank.example]
    resolution: STATIC
    addresses: [10.2.0.1]
    ports: [{number: 443, name: tls, protocol: TLS}]
    endpoints: [{address: 10.2.0.2}]
calls:
- name: jason
  call: {port: 9080, address: 10.1.0.1, protocol: http, host: "reviews:9080", headers: {end-user: jason}}
  expect: {route: jason, cluster: outbound|9080|v2|reviews.default.svc.cluster.local}
- name: jason over HTTP/2
  call: {port: 9080, address: 10.1.0.1, protocol: http2, host: "reviews:9080", headers: {end-user: jason}}
  expect: {route: jason}
- name: everybody
  call: {port: 9080, address: 10.1.0.1, protocol: http, host: reviews}
  expect: {cluster: outbound|9080|v1|reviews.default.svc.cluster.local}
- name: redirect
  call: {port: 9080, address: 10.1.0.1, protocol: http, host: reviews, path: /moved/away}
  expect: {route: moved}
- name: answer
  call: {port: 9080, address: 10.1.0.1, protocol: http2, host: reviews, path: /tea}
  expect: {route: tea}
- name: faults are left out
  call: {port: 9080, address: 10.1.0.1, protocol: http, host: reviews, path: /faulty}
  expect: {route: faulty, cluster: outbound|9080||reviews.default.svc.cluster.local}
- name: no route
  call: {port: 9080, address: 10.1.0.1, protocol: http, host: reviews, method: PUT}
  expect: {error: no_route}
- name: bytes
  call: {port: 9090, address: 10.1.0.1}
  expect: {cluster: outbound|9090||reviews.default.svc.cluster.local}
- name: TLS passes
  call: {port: 443, address: 10.2.0.1, sni: bank.example}
  expect: {cluster: outbound|443||bank.example}
- name: unknown address
  call: {port: 7777, address: 192.0.2.1}
  expect: {cluster: PassthroughCluster}
- name: inbound
  call: {mode: inbound, address: 10.0.0.1, port: 8080, protocol: http, tls: mtls}
  expect: {cluster: inbound|8080||}
"""
GATEWAY = """
name: a gateway
proxy: {type: router, namespace: istio-system, labels: {istio: ingressgateway}}
kubernetes: |
  apiVersion: v1
  kind: Service
  metadata: {name: shop}
  spec: {ports: [{name: http, port: 80}]}
config: |
  apiVersion: networking.istio.io/v1
  kind: Gateway
  metadata: {name: shop, namespace: istio-system}
  spec:
    selector: {istio: ingressgateway}
    servers:
    - {port: {number: 80, name: http, protocol: HTTP}, hosts: [shop.example], tls: {httpsRedirect: true}}
    - port: {number: 443, name: https, protocol: HTTPS}
      hosts: [shop.example]
      tls: {mode: MUTUAL, credentialName: shop-cert, subjectAltNames: [client.example]}
  ---
  apiVersion: networking.istio.io/v1
  kind: VirtualService
  metadata: {name: shop}
  spec:
    hosts: [shop.example]
    gateways: [istio-system/shop]
    http: [{name: shop, match: [{uri: {prefix: /buy}}], route: [{destination: {host: shop}}]}]
calls:
- name: redirect
  call: {mode: gateway, port: 80, protocol: http, host: shop.example}
  expect: {error: tls_redirect}
- name: with a certificate
  call: {mode: gateway, port: 443, protocol: http2, tls: mtls, alpn: h2, host: shop.example, path: /buy}
  expect: {route: shop}
- name: without
  call: {mode: gateway, port: 443, protocol: http, tls: tls, host: shop.example, path: /buy}
  expect: {error: mtls_error}
- name: the secret whose certificate is shown
  call:
    {mode: gateway, port: 443, protocol: http, tls: mtls, alpn: http/1.1, host: shop.example, path: /buy,
     mtlsSecretConfigName: kubernetes://shop-cert}
  expect: {route: shop}
- name: plain text to TLS
  call: {mode: gateway, port: 443, protocol: http, host: shop.example}
  expect: {error: no_filter_chain}
- name: a server name that is not served
  call: {mode: gateway, port: 443, protocol: http, tls: mtls, host: other.example}
  expect: {error: no_filter_chain}
- name: no such port
  call: {mode: gateway, port: 81, protocol: http}
  expect: {error: no_listener}
"""
GUARDED = (
    SIDECAR.replace(
        "config: |",
        """config: |
  apiVersion: security.istio.io/v1
  kind: AuthorizationPolicy
  metadata: {name: friends}
  spec:
    selector: {matchLabels: {app: client}}
    rules: [{from: [{source: {principals: ["*/sa/default", "*/ns/far/sa/friend"]}}]}]
  ---""",
    )
    + """
- name: a friend
  call:
    {mode: inbound, address: 10.0.0.1, port: 8080, protocol: http, tls: mtls,
     principal: cluster.local/ns/far/sa/friend}
  expect: {cluster: inbound|8080||}
- name: a stranger
  call:
    {mode: inbound, address: 10.0.0.1, port: 8080, protocol: http, tls: mtls, principal: cluster.local/ns/far/sa/foe}
  expect: {error: access_denied}
"""
)
PATCHED = SIDECAR.replace(
    "config: |",
    """config: |
  apiVersion: networking.istio.io/v1alpha3
  kind: EnvoyFilter
  metadata: {name: closed}
  spec:
    configPatches:
    - applyTo: HTTP_FILTER
      match: {context: SIDECAR_INBOUND}
      patch:
        operation: INSERT_FIRST
        value:
          name: lua
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
            default_source_code:
              inline_string: function envoy_on_request(handle) handle:respond({[":status"] = "403"}, "") end
  ---""",
)
REFUSED = SIDECAR.replace(
    "config: |",
    """config: |
  apiVersion: networking.istio.io/v1alpha3
  kind: EnvoyFilter
  metadata: {name: crooked}
  spec:
    configPatches:
    - applyTo: HTTP_FILTER
      match: {context: SIDECAR_OUTBOUND}
      patch:
        operation: INSERT_FIRST
        value:
          name: lua
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
            default_source_code: {inline_string: "function ("}
  ---""",
)


def run(tmp_path, text, *options):
    path = tmp_path / "case.yaml"
    path.write_text(text)
    return CliRunner().invoke(cli, ["test", "--live", *options, str(path)])


@pytest.mark.parametrize(("text", "number"), [(SIDECAR, 11), (GATEWAY, 7), (GUARDED, 13)])
def test_walk_and_envoy_agree_on_each_kind_of_call(tmp_path, text, number):
    result = run(tmp_path, text, "-v")
    assert result.exit_code == 0, result.output
    assert result.output.count("Envoy agrees") == number
    assert f"{number} played on Envoy, 0 not" in result.output


def test_what_only_envoy_enforces_is_a_disagreement(tmp_path):
    result = run(tmp_path, PATCHED)
    assert result.exit_code == 1
    assert "11 calls: 10 passed, 1 failed" in result.output
    assert "Envoy disagrees: cluster: the walk says inbound|8080||, Envoy an answer of its own, 403" in result.output


def test_a_configuration_that_envoy_refuses_fails_with_its_reason(tmp_path):
    result = run(tmp_path, REFUSED)
    assert result.exit_code == 1
    assert "not played: Envoy does not take this configuration" in result.output
    assert "script load error" in result.output
    assert "0 played on Envoy, 11 not" in result.output


def test_a_call_that_cannot_be_made_is_told_and_not_passed_over(tmp_path):
    result = run(tmp_path, SIDECAR.replace("sni: bank.example", "sni: .example").replace("|443||bank.example", ""))
    assert "not played: the server name '.example' cannot be sent" in result.output
    assert "10 played on Envoy, 1 not" in result.output


def test_json_has_what_envoy_did(tmp_path):
    calls = json.loads(run(tmp_path, SIDECAR, "-o", "json").output)["cases"][0]["calls"]
    live = {call["name"]: call["live"] for call in calls}
    assert all(found["played"] and not found["disagreements"] for found in live.values())
    assert live["jason"]["actual"]["route"] == "jason"
    assert live["jason"]["actual"]["virtualHost"] == "reviews.default.svc.cluster.local:9080"
    assert live["redirect"]["status"] == 308
    assert live["answer"]["status"] == 418
    assert live["no route"]["actual"]["error"] == "no_route"
    assert "no such cluster" in live["jason"]["detail"]


def test_a_mesh_config_beside_the_tests(tmp_path):
    options = tmp_path / "mesh.yaml"
    options.write_text("outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n")
    text = SIDECAR.replace("PassthroughCluster", "BlackHoleCluster")
    result = run(tmp_path, text, "--mesh-config", str(options), str(tmp_path))
    assert result.exit_code == 0, result.output
    over = f"{text}meshConfig: {{outboundTrafficPolicy: {{mode: ALLOW_ANY}}}}\n"
    assert "cluster is PassthroughCluster" in run(tmp_path, over, "--mesh-config", str(options)).output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind(tmp_path, number):
    (tmp_path / "case.yaml").write_text(SIDECAR)
    for copy in range(40):
        (tmp_path / f"case-{copy}.yaml").write_text(SIDECAR)
    command = [sys.executable, "-m", "lateen", "test", "--live", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        children = psutil.Process(process.pid).children
        envoy = eventually(lambda: next(iter(children()), None))
        words = eventually(lambda: [word for word in envoy.cmdline() if word.endswith("envoy.json")])
        process.send_signal(number)
        assert process.wait(20) != 0
    eventually(lambda: not envoy.is_running() or envoy.status() == psutil.STATUS_ZOMBIE)
    if number != signal.SIGKILL:
        assert not Path(words[0]).parent.exists()
