"""What resources mean: refused, warned of, accepted; one row a rule."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from lateen.resources.judge import Verdict, judge
from tests.features.bad_edits import BAD_EDITS

ROUTE: dict[str, Any] = {"route": [{"destination": {"host": "reviews"}}]}
GROUPS = {
    "AuthorizationPolicy": "security.istio.io/v1",
    "PeerAuthentication": "security.istio.io/v1",
    "RequestAuthentication": "security.istio.io/v1",
    "Telemetry": "telemetry.istio.io/v1",
    "EnvoyFilter": "networking.istio.io/v1alpha3",
    "WasmPlugin": "extensions.istio.io/v1alpha1",
    "Service": "v1",
}


def _judge(kind: str, spec: Any, **metadata: Any) -> Verdict:
    document = {
        "apiVersion": GROUPS.get(kind, "networking.istio.io/v1"),
        "kind": kind,
        "metadata": {"name": "a", "namespace": "n", **metadata},
        "spec": spec,
    }
    (verdict,) = judge(yaml.safe_dump(document, sort_keys=False).encode(), "file.yaml")
    return verdict


def _fields(kind: str, spec: Any, severity: str = "error", **metadata: Any) -> list[str]:
    verdict = _judge(kind, spec, **metadata)
    return [finding.origin.field for finding in verdict.findings if finding.severity.value == severity]


def _http(**route: Any) -> dict[str, Any]:
    return {"hosts": ["reviews"], "http": [{**ROUTE, **route}]}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"hosts": ["reviews"]}, "spec"),
        ({"hosts": ["re views"], "http": [ROUTE]}, "spec.hosts[0]"),
        ({"hosts": ["a"], "tcp": [{"match": [{"sourceSubnet": "x"}], **ROUTE}]}, "spec.tcp[0].match[0].sourceSubnet"),
        ({"hosts": ["*"], "http": [ROUTE]}, "spec.hosts[0]"),
        ({"hosts": ["*.a.b", "x.a.b"], "http": [ROUTE]}, "spec.hosts[1]"),
        ({"gateways": ["g"], "http": [ROUTE]}, "spec.gateways"),
        (_http(timeout="0.0001s"), "spec.http[0].timeout"),
        (_http(rewrite={"uri": "/a\nb"}), "spec.http[0].rewrite.uri"),
        (_http(rewrite={"authority": "a\nb"}), "spec.http[0].rewrite.authority"),
        (
            _http(rewrite={"uriRegexRewrite": {"match": "a", "rewrite": "a\nb"}}),
            "spec.http[0].rewrite.uriRegexRewrite.rewrite",
        ),
        ({"hosts": ["a"], "http": [{"redirect": {"uri": "/a\x00"}}]}, "spec.http[0].redirect.uri"),
        ({"hosts": ["a"], "http": [{"redirect": {"authority": "a\nb"}}]}, "spec.http[0].redirect.authority"),
        (_http(timeout="90000000h"), "spec.http[0].timeout"),
        (_http(match=[{"queryParams": {"": {"exact": "a"}}}]), "spec.http[0].match[0].queryParams."),
        (_http(retries={"attempts": 0, "retryOn": "5xx"}), "spec.http[0].retries"),
        (_http(retries={"attempts": 1, "retryOn": "5xx, reset"}), "spec.http[0].retries.retryOn"),
        (_http(match=[{"uri": {"regex": "("}}]), "spec.http[0].match[0].uri.regex"),
        (_http(match=[{"uri": {"regex": "a" * 1025}}]), "spec.http[0].match[0].uri.regex"),
        (_http(match=[{"uri": {"regex": "(?=a)"}}]), "spec.http[0].match[0].uri.regex"),
        (_http(match=[{"uri": {"regex": "(?i)\\pL{300}"}}]), "spec.http[0].match[0].uri.regex"),
        (_http(match=[{"headers": {":path": {"exact": "a"}}}]), "spec.http[0].match[0].headers.:path"),
        (_http(headers={"request": {"set": {"x": "%A"}}}), "spec.http[0].headers.request.set.x"),
        (_http(headers={"response": {"set": {"host": "a"}}}), "spec.http[0].headers.response.set.host"),
        (_http(rewrite={"authority": "a"}, headers={"request": {"set": {"host": "b"}}}), "spec.http[0].headers"),
        (_http(fault={"abort": {"grpcStatus": "SAD"}}), "spec.http[0].fault.abort.grpcStatus"),
        (_http(fault={"abort": {"httpStatus": 600}}), "spec.http[0].fault.abort.httpStatus"),
        (_http(mirror={"host": "a"}, mirrors=[{"destination": {"host": "b"}}]), "spec.http[0].mirrors"),
        (_http(redirect={"uri": "/"}), "spec.http[0]"),
        (_http(corsPolicy={"maxAge": "1.5s"}), "spec.http[0].corsPolicy.maxAge"),
        ({"hosts": ["a.b"], "tls": [{"match": [{"sniHosts": ["c.d"]}], **ROUTE}]}, "spec.tls[0].match[0].sniHosts[0]"),
    ],
)
def test_virtual_services_that_are_refused(spec: dict[str, Any], field: str) -> None:
    assert field in _fields("VirtualService", spec)


def test_rules_that_are_never_reached() -> None:
    match = {"uri": {"prefix": "/a"}}
    spec = {"hosts": ["reviews"], "http": [{"match": [match], **ROUTE}, {"match": [match], **ROUTE}, ROUTE, ROUTE]}
    assert _fields("VirtualService", spec, "warning") == ["spec.http[1].match[0]", "spec.http[1]", "spec.http[3]"]
    longer = {"uri": {"prefix": "/ab"}}
    spec = {"hosts": ["reviews"], "http": [{"match": [match], **ROUTE}, {"match": [longer], **ROUTE}]}
    assert _fields("VirtualService", spec, "warning") == ["spec.http[1].match[0]"]
    spec = {"hosts": ["reviews"], "http": [{"match": [longer], **ROUTE}, {"match": [match], **ROUTE}]}
    assert _fields("VirtualService", spec, "warning") == []


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        ({}, "spec.trafficPolicy"),
        ({"connectionPool": {}}, "spec.trafficPolicy.connectionPool"),
        ({"tls": {"mode": "MUTUAL"}}, "spec.trafficPolicy.tls"),
        ({"tls": {"mode": "SIMPLE", "sni": "x" * 256}}, "spec.trafficPolicy.tls.sni"),
        ({"portLevelSettings": [{"port": {"number": 80}}]}, "spec.trafficPolicy.portLevelSettings[0]"),
        (
            {"connectionPool": {"tcp": {"tcpKeepalive": {"time": "10h"}}}},
            "spec.trafficPolicy.connectionPool.tcp.tcpKeepalive.time",
        ),
        (
            {"connectionPool": {"tcp": {"tcpKeepalive": {"probes": 128}}}},
            "spec.trafficPolicy.connectionPool.tcp.tcpKeepalive.probes",
        ),
        (
            {"loadBalancer": {"consistentHash": {"useSourceIp": True, "ringHash": {"minimumRingSize": 9_000_000}}}},
            "spec.trafficPolicy.loadBalancer.consistentHash.ringHash.minimumRingSize",
        ),
        (
            {"outlierDetection": {"consecutiveLocalOriginFailures": 1}},
            "spec.trafficPolicy.outlierDetection.consecutiveLocalOriginFailures",
        ),
        (
            {"loadBalancer": {"consistentHash": {"useSourceIp": True, "maglev": {"tableSize": 100}}}},
            "spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize",
        ),
    ],
)
def test_traffic_policies_that_are_refused(policy: dict[str, Any], field: str) -> None:
    assert _fields("DestinationRule", {"host": "a", "trafficPolicy": policy}) == [field]


@pytest.mark.parametrize(
    ("server", "field"),
    [
        ({"hosts": ["a"]}, "spec.servers[0].hosts[0]"),
        ({"hosts": ["*a.b"]}, "spec.servers[0].hosts[0]"),
        ({"hosts": ["~/a.b"]}, "spec.servers[0].hosts[0]"),
        ({"port": {"number": 443, "protocol": "HTTPS", "name": "x"}}, "spec.servers[0]"),
        ({"tls": {"mode": "SIMPLE", "credentialName": "x"}}, "spec.servers[0].tls"),
        ({"bind": "unix://a"}, "spec.servers[0].bind"),
        ({"bind": f"unix:///{'a' * 107}"}, "spec.servers[0].bind"),
    ],
)
def test_gateways_that_are_refused(server: dict[str, Any], field: str) -> None:
    whole = {"hosts": ["a.b"], "port": {"number": 80, "protocol": "http", "name": "x"}, **server}
    assert field in _fields("Gateway", {"servers": [whole]})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"hosts": ["*"], "resolution": "STATIC"}, "spec.hosts[0]"),
        ({"addresses": ["10.0.0.0/8"]}, "spec.addresses[0]"),
        ({"hosts": ["*.a.b"]}, "spec.hosts[0]"),
        ({"hosts": ["a.b", "c.d"], "ports": [{"number": 1, "name": "x", "protocol": "TCP"}]}, "spec.ports[0]"),
        ({"endpoints": [{"address": "a.b", "ports": {"other": 1}}]}, "spec.endpoints[0].ports.other"),
        ({"exportTo": ["~", "a"]}, "spec.exportTo"),
    ],
)
def test_service_entries_that_are_refused(change: dict[str, Any], field: str) -> None:
    ports = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    assert _fields("ServiceEntry", {"hosts": ["a.b"], "ports": ports, "resolution": "DNS", **change}) == [field]


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({"from": []}, "spec.rules[0].from"),
        ({"from": [{"source": {}}]}, "spec.rules[0].from[0]"),
        ({"from": [{"source": {"ipBlocks": ["1.2.3"]}}]}, "spec.rules[0].from[0].source.ipBlocks[0]"),
        ({"to": [{"operation": {"ports": ["http"]}}]}, "spec.rules[0].to[0].operation.ports[0]"),
        ({"to": [{"operation": {"paths": ["/{**}/{*}"]}}]}, "spec.rules[0].to[0].operation.paths[0]"),
        ({"to": [{"operation": {"paths": ["/ok{**}"]}}]}, "spec.rules[0].to[0].operation.paths[0]"),
        ({"to": [{"operation": {"paths": ["/{*}x"]}}]}, "spec.rules[0].to[0].operation.paths[0]"),
        ({"to": [{"operation": {"notPaths": ["{*}/a"]}}]}, "spec.rules[0].to[0].operation.notPaths[0]"),
        ({"to": [{"operation": {"methods": [""]}}]}, "spec.rules[0].to[0].operation.methods"),
        ({"when": [{"key": "source.mood", "values": ["a"]}]}, "spec.rules[0].when[0].key"),
        ({"when": [{"key": "source.ip"}]}, "spec.rules[0].when[0]"),
        ({"when": [{"key": "source.serviceAccount", "values": ["a/*"]}]}, "spec.rules[0].when[0].values[0]"),
        ({"when": [{"key": "source.serviceAccount", "notValues": ["b", "a/"]}]}, "spec.rules[0].when[0].notValues[1]"),
        (
            {"from": [{"source": {"notServiceAccounts": ["a/b/c"]}}]},
            "spec.rules[0].from[0].source.notServiceAccounts[0]",
        ),
    ],
)
def test_authorization_rules_that_are_refused(rule: dict[str, Any], field: str) -> None:
    assert _fields("AuthorizationPolicy", {"rules": [rule]}) == [field]


@pytest.mark.parametrize(
    ("rule", "field", "severity"),
    [
        ({"from": [{"source": {"principals": ["spiffe://td/ns/a/sa/b"]}}]}, "from[0].source.principals[0]", "warning"),
        ({"when": [{"key": "source.principal", "notValues": ["spiffe://a"]}]}, "when[0].notValues[0]", "warning"),
        ({"to": [{"operation": {"paths": ["/a?b=c"]}}]}, "to[0].operation.paths[0]", "info"),
        ({"to": [{"operation": {"notPaths": ["admin"]}}]}, "to[0].operation.notPaths[0]", "info"),
        ({"to": [{"operation": {"paths": ["/a/{id}"]}}]}, "to[0].operation.paths[0]", "error"),
        ({"to": [{"operation": {"notPaths": ["/a}"]}}]}, "to[0].operation.notPaths[0]", "error"),
        ({"to": [{"operation": {"methods": ["get"]}}]}, "to[0].operation.methods[0]", "info"),
    ],
)
def test_authorization_rules_that_match_nothing_are_told(rule: dict[str, Any], field: str, severity: str) -> None:
    assert _fields("AuthorizationPolicy", {"rules": [rule]}, severity) == [f"spec.rules[0].{field}"]


def test_authorization_policies() -> None:
    target = {"kind": "Gateway", "group": "gateway.networking.k8s.io", "name": "g"}
    both = {"selector": {"matchLabels": {"a": "b"}}, "targetRefs": [target]}
    assert _fields("AuthorizationPolicy", both) == ["spec"]
    assert _fields("AuthorizationPolicy", {"targetRefs": [{**target, "namespace": "x"}]}) == [
        "spec.targetRefs[0].namespace"
    ]
    deny = {"action": "DENY", "rules": [{"to": [{"operation": {"methods": ["GET"]}}]}]}
    assert _fields("AuthorizationPolicy", deny, "warning") == ["spec.rules[0]"]
    by_header = {"key": "request.headers[x-a]", "values": ["b"]}
    assert _fields("AuthorizationPolicy", {"action": "DENY", "rules": [{"when": [by_header]}]}, "info") == [
        "spec.rules[0]"
    ]
    by_port = {"key": "destination.port", "values": ["80"]}
    assert _fields("AuthorizationPolicy", {"action": "DENY", "rules": [{"when": [by_header, by_port]}]}, "info") == []
    dry = {"istio.io/dry-run": "maybe"}
    assert _fields("AuthorizationPolicy", {"rules": [{}]}, annotations=dry) == ["metadata.annotations.istio.io/dry-run"]
    assert _fields("VirtualService", _http(), annotations=dry) == ["metadata.annotations.istio.io/dry-run"]


def test_an_annotation_of_our_own_that_there_is_not_is_told_with_the_one_that_was_meant() -> None:
    verdict = _judge("DestinationRule", {"host": "a"}, annotations={"lateen.io/helth-check": "{tcp: {}}"})
    (finding,) = verdict.findings
    assert finding.origin.field == "metadata.annotations.lateen.io/helth-check"
    assert (finding.severity.value, finding.remedy) == ("warning", "write lateen.io/health-check")


@pytest.mark.parametrize(
    ("kind", "spec", "field"),
    [
        ("PeerAuthentication", {"portLevelMtls": {"80": {"mode": "STRICT"}}}, "spec.portLevelMtls"),
        ("PeerAuthentication", {"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {}}, "spec.portLevelMtls"),
        ("RequestAuthentication", {"jwtRules": [{"issuer": "i", "jwks": "x"}]}, "spec.jwtRules[0].jwks"),
        ("RequestAuthentication", {"jwtRules": [{"issuer": "i", "jwks": '{"keys": []}'}]}, "spec.jwtRules[0].jwks"),
        ("RequestAuthentication", {"jwtRules": [{"jwksUri": "ftp://a/b"}]}, "spec.jwtRules[0].jwksUri"),
        *(
            ("RequestAuthentication", {"jwtRules": [{"issuer": "i", **rule}]}, f"spec.jwtRules[0].{field}")
            for rule, field in (
                ({"fromHeaders": [{"name": "x\n"}]}, "fromHeaders[0].name"),
                ({"fromHeaders": [{"name": ":path"}]}, "fromHeaders[0].name"),
                ({"fromHeaders": [{"name": "x", "prefix": "a\nb"}]}, "fromHeaders[0].prefix"),
                ({"outputPayloadToHeader": "x y"}, "outputPayloadToHeader"),
                ({"outputPayloadToHeader": "Host"}, "outputPayloadToHeader"),
                ({"outputClaimToHeaders": [{"header": "host", "claim": "a"}]}, "outputClaimToHeaders[0].header"),
            )
        ),
        ("RequestAuthentication", {"jwtRules": [{"jwksUri": "https://me:pw@a/b"}]}, "spec.jwtRules[0].jwksUri"),
        ("Sidecar", {"egress": [{"hosts": ["a"]}]}, "spec.egress[0].hosts[0]"),
        (
            "Sidecar",
            {"ingress": [{"port": {"number": 1}, "defaultEndpoint": "1.2.3.4:1"}]},
            "spec.ingress[0].defaultEndpoint",
        ),
        (
            "EnvoyFilter",
            {"configPatches": [{"applyTo": "CLUSTER", "match": {"listener": {}}, "patch": {"operation": "REMOVE"}}]},
            "spec.configPatches[0].match",
        ),
        (
            "Telemetry",
            {"accessLogging": [{"filter": {"expression": "response.code >="}}]},
            "spec.accessLogging[0].filter.expression",
        ),
        ("WasmPlugin", {"url": "ftp://a/b"}, "spec.url"),
        ("WorkloadGroup", {"template": {}, "probe": {"httpGet": {}}}, "spec.probe.httpGet.port"),
        ("Service", {"ports": [{"port": 0}]}, "spec.ports[0].port"),
        ("Service", {"clusterIP": "none"}, "spec.clusterIP"),
    ],
)
def test_other_kinds_that_are_refused(kind: str, spec: Any, field: str) -> None:
    assert _fields(kind, spec) == [field]


def test_a_private_key_among_public_ones_is_told() -> None:
    private = {"kty": "OKP", "crv": "Ed25519", "x": "A" * 43, "d": "A" * 43}
    rule = {"issuer": "i", "jwks": json.dumps({"keys": [private]})}
    assert _fields("RequestAuthentication", {"jwtRules": [rule]}, "warning") == ["spec.jwtRules[0].jwks"]


@pytest.mark.parametrize(
    ("key", "good"),
    [
        ({"httpHeaderName": "x-user"}, True),
        ({"httpHeaderName": ":path"}, True),
        ({"httpHeaderName": "x\n"}, False),
        ({"httpHeaderName": ""}, False),
        ({"httpQueryParameterName": ""}, False),
    ],
)
def test_keys_of_a_consistent_hash(key: dict[str, str], good: bool) -> None:
    spec = {"host": "a", "trafficPolicy": {"loadBalancer": {"consistentHash": key}}}
    field = f"spec.trafficPolicy.loadBalancer.consistentHash.{next(iter(key))}"
    assert _fields("DestinationRule", spec) == ([] if good else [field])


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("100%%", True),
        ("%REQ(x)%-%HOSTNAME%", True),
        ('%UPSTREAM_METADATA(["a", "b"])%', True),
        ("%PER_REQUEST_STATE(a)%", True),
        ('%UPSTREAM_METADATA(["a" b])', False),
        ("%HOST_NAME%", False),
        ("50%", False),
    ],
)
def test_formats_of_headers(text: str, good: bool) -> None:
    field = "spec.http[0].headers.request.set.x-a"
    assert _fields("VirtualService", _http(headers={"request": {"set": {"x-a": text}}})) == ([] if good else [field])


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"accessLogFormat": "%FOO%"}, "accessLogFormat"),
        ({"accessLogFormat": '{"a": ["%FOO%"]}', "accessLogEncoding": "JSON"}, "accessLogFormat.a[0]"),
        ({"envoyFileAccessLog": {"logFormat": {"text": "%REQ%"}}}, "envoyFileAccessLog.logFormat.text"),
        ({"envoyFileAccessLog": {"path": "\0"}}, "envoyFileAccessLog.path"),
        (
            {"envoyFileAccessLog": {"logFormat": {"labels": {"a": {"b": "%"}}}}},
            "envoyFileAccessLog.logFormat.labels.a.b",
        ),
        (
            {
                "opentelemetry": {
                    "service": "a.b",
                    "port": 80,
                    "grpc": {"initialMetadata": [{"name": "a", "value": "a\nb"}]},
                }
            },
            "opentelemetry.grpc.initialMetadata[0].value",
        ),
        (
            {"envoyOtelAls": {"service": "a.b", "port": 80, "logFormat": {"labels": {"a": "b", "c": {"d": 1}}}}},
            "envoyOtelAls.logFormat.labels.c",
        ),
        (
            {"zipkin": {"service": "a.b", "port": 80, "headers": [{"name": "a", "envName": "A)"}]}},
            "zipkin.headers[0].envName",
        ),
    ],
)
def test_formats_of_a_mesh_that_envoy_would_refuse_are_refused(content: dict[str, Any], field: str) -> None:
    provided = not field.startswith("accessLog")
    said = {"extensionProviders": [{"name": "a", **content}]} if provided else content
    (verdict,) = judge(yaml.safe_dump({"kind": "MeshConfig", **said}).encode(), "file.yaml")
    (finding,) = [finding for finding in verdict.findings if finding.is_error]
    assert finding.origin.field == (f"extensionProviders[0].{field}" if provided else field)


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"inclusionPrefixes": [""]}, "inclusionPrefixes[0]"),
        ({"inclusionSuffixes": ["upstream_rq_2xx", ""]}, "inclusionSuffixes[1]"),
        ({"inclusionRegexps": ["(?=cluster)"]}, "inclusionRegexps[0]"),
    ],
)
def test_inclusions_of_statistics_that_can_name_none_are_refused(said: dict[str, Any], field: str) -> None:
    document = {"kind": "MeshConfig", "defaultConfig": {"proxyStatsMatcher": said}}
    (verdict,) = judge(yaml.safe_dump(document).encode(), "file.yaml")
    (finding,) = [finding for finding in verdict.findings if finding.is_error]
    assert finding.origin.field == f"defaultConfig.proxyStatsMatcher.{field}"
    assert finding.remedy


@pytest.mark.parametrize("name", BAD_EDITS)
def test_what_is_wrong_with_a_security_resource_is_told_with_line_field_and_remedy(name: str) -> None:
    good, bad = BAD_EDITS[name]
    assert not [
        finding for verdict in judge(good.encode(), "a.yaml") for finding in verdict.findings if finding.is_error
    ]
    errors = [finding for verdict in judge(bad.encode(), "a.yaml") for finding in verdict.findings if finding.is_error]
    assert errors
    for finding in errors:
        assert finding.origin.path == "a.yaml"
        assert finding.origin.line >= 4
        assert finding.remedy, finding.render()
        is_text = finding.code in ("too-deep", "invalid-yaml", "duplicate-key")
        assert is_text or finding.origin.field.startswith("spec"), finding.render()


@pytest.mark.parametrize("name", ["a b", "a\nb", "x]-rule[0]", "a/b", "-a", "a" * 254])
def test_names_that_could_be_taken_for_something_else_are_refused(name: str) -> None:
    assert _fields("AuthorizationPolicy", {"rules": [{}]}, name=name) == ["metadata.name"]
    assert _fields("VirtualService", _http(), namespace=name) == ["metadata.namespace"]


def test_a_star_within_a_text_is_told_and_what_is_wrong_is_not_quoted_without_end() -> None:
    operation = {"paths": ["/a/*/b", "/a/{*}/b", "*x", "x*", "*", "*/admin*"], "methods": ["G*T"], "hosts": ["**"]}
    rule = {"to": [{"operation": {**operation, "ports": ["80"]}}]}
    warned = _fields("AuthorizationPolicy", {"rules": [rule]}, "warning")
    places = ("hosts[0]", "methods[0]", "paths[0]", "paths[5]")
    assert sorted(warned) == [f"spec.rules[0].to[0].operation.{place}" for place in places]
    (finding,) = _judge("AuthorizationPolicy", {"action": "A" * 1_000_000}).findings
    assert len(finding.render()) < 2000


def test_a_star_of_namespaces_and_trust_domains_is_free_wherever_it_stands() -> None:
    source = {"namespaces": ["a*b"], "notNamespaces": ["*c*"], "trustDomains": ["*.x.*"], "notTrustDomains": ["a*b"]}
    when = [{"key": f"source.{name}", "values": ["a*b"], "notValues": ["*c*"]} for name in ("namespace", "trustDomain")]
    assert _fields("AuthorizationPolicy", {"rules": [{"from": [{"source": source}], "when": when}]}, "warning") == []
    when = [{"key": "source.principal", "values": ["a*b"]}]
    told = _fields("AuthorizationPolicy", {"rules": [{"when": when}]}, "warning")
    assert told == ["spec.rules[0].when[0].values[0]"]


@pytest.mark.parametrize(
    "path", ["/a//{*}", "//{*}", "/{*}//", "/a b/{*}", "/a?b/{*}", '/"/{*}', "/a|b/{*}", "/\u00fc/{**}", "/a\n/{*}"]
)
def test_templates_of_what_envoy_does_not_take_are_refused(path: str) -> None:
    operation = {"paths": [path], "ports": ["80"]}
    told = _fields("AuthorizationPolicy", {"rules": [{"to": [{"operation": operation}]}]})
    assert told == ["spec.rules[0].to[0].operation.paths[0]"]


@pytest.mark.parametrize("path", ["/{*}", "/{**}/", "/a/{*}/", "/-._~%41/{*}/!$&'()+,;:@="])
def test_templates_that_envoy_takes_are_accepted(path: str) -> None:
    assert not _judge("AuthorizationPolicy", {"rules": [{"to": [{"operation": {"paths": [path]}}]}]}).findings


@pytest.mark.parametrize(("name", "is_told"), [("x y", True), ("\u00fc", True), ("X-User", False), (":path", False)])
def test_a_header_that_no_request_has_is_told(name: str, is_told: bool) -> None:
    when = [{"key": f"request.headers[{name}]", "values": ["a"]}]
    told = _fields("AuthorizationPolicy", {"rules": [{"when": when}]}, "info")
    assert told == (["spec.rules[0].when[0].key"] if is_told else [])


def test_addresses_of_ipv4_in_the_form_of_ipv6_are_told_as_they_match_nobody() -> None:
    source = {"ipBlocks": ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::/32"], "notRemoteIpBlocks": ["::ffff:0.0.0.0/96"]}
    when = [{"key": "source.ip", "values": ["::ffff:10.0.0.1"]}]
    told = _fields("AuthorizationPolicy", {"rules": [{"from": [{"source": source}], "when": when}]}, "warning")
    place = "spec.rules[0].from[0].source"
    assert told == [f"{place}.ipBlocks[1]", f"{place}.notRemoteIpBlocks[0]", "spec.rules[0].when[0].values[0]"]


def test_a_port_with_two_modes_is_refused() -> None:
    spec = {"selector": {"matchLabels": {"app": "a"}}, "mtls": {"mode": "STRICT"}}
    modes = {"080": {"mode": "DISABLE"}, "80": {"mode": "STRICT"}, "08": {"mode": "STRICT"}}
    assert _fields("PeerAuthentication", {**spec, "portLevelMtls": modes}) == ["spec.portLevelMtls.080"]


def test_of_a_policy_on_trial_nothing_is_said_to_be_denied() -> None:
    trial = {"annotations": {"istio.io/dry-run": "true"}}
    denies = {"action": "DENY", "rules": [{"to": [{"operation": {"methods": ["POST"]}}]}]}
    for spec in ({}, denies):
        (tried,) = _judge("AuthorizationPolicy", spec, **trial).findings
        (enforced,) = _judge("AuthorizationPolicy", spec).findings
        assert "would" in tried.message and "would" not in enforced.message


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"timeout": "-1s"}, ".timeout"),
        ({"statusOnError": "418"}, ".statusOnError"),
        ({"statusOnError": "403", "timeout": "0s"}, ""),
        ({"includeAdditionalHeadersInCheck": {"x-a": "50%"}}, ".includeAdditionalHeadersInCheck.x-a"),
        ({"includeAdditionalHeadersInCheck": {"x-a": "b\nc"}}, ".includeAdditionalHeadersInCheck.x-a"),
        ({"includeAdditionalHeadersInCheck": {"x a": "b"}}, ".includeAdditionalHeadersInCheck.x a"),
        ({"includeAdditionalHeadersInCheck": {"x-a": "%REQ(x-b)%"}}, ""),
    ],
)
def test_providers_that_envoy_would_refuse_are_told_where_it_stands(content: dict[str, Any], field: str) -> None:
    provider = {"name": "a", "envoyExtAuthzHttp": {"service": "a.example", "port": 80, **content}}
    document = yaml.safe_dump({"kind": "MeshConfig", "extensionProviders": [provider]})
    (verdict,) = judge(document.encode(), "file.yaml")
    told = [finding.origin.field for finding in verdict.findings if finding.is_error]
    assert told == ([f"extensionProviders[0].envoyExtAuthzHttp{field}"] if field else [])
