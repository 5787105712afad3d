"""AuthorizationPolicies against filters from outside the project: the same verdicts in the real Envoy.

For each case our rules and the expected ones stand beside each other in one Envoy, whole and term by term (the whole of
a case may be impossible to meet), each in a route of its own that a header chooses. Requests are made up from the texts
of the case. Addresses of peers are moved into 127.0.0.0/8, as they have to be real; all others come by PROXY protocol.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import ipaddress
import json
import random
import re
import socket
import ssl
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from envoy.config.rbac.v3 import rbac_pb2
from envoy.extensions.path.match.uri_template.v3 import uri_template_match_pb2  # noqa: F401 - read by its name
from google.protobuf import json_format

from lateen.envoy import external, rbac
from lateen.mesh.build import build_snapshot
from lateen.plan.access.model import AccessPolicy
from lateen.plan.access.rules import access_policy
from lateen.resources.decode import decode
from lateen.resources.documents import parse_documents
from lateen.resources.resource import Resource
from lateen.settings import Settings
from tests.envoy.harness import free_port, run_file, unverified
from tests.envoy.tls_support import EdgeAuthority
from tests.envoy.token_support import Issuer

CASES = Path(__file__).parents[3] / "shared" / "conformance" / "authz"
REQUESTS = 40
SEED = 7

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the conformance cases are not beside this repository")


def _cases() -> list[Any]:
    if not CASES.is_dir():
        return []
    return [pytest.param(case, id=case["name"]) for case in yaml.safe_load((CASES / "cases.yaml").read_text())["cases"]]


# --- what is compared ------------------------------------------------------------------------------------------------


def _moved(address: str) -> str:
    """An address or block in 127.0.0.0/8 that stands for this one."""
    return re.sub(r"^\d+\.", "127.", address)


def _policies(case: dict[str, Any]) -> list[dict[str, Any]]:
    """The policies, with addresses of peers where peers of a test can be."""
    text = (CASES / case["dir"] / "in.yaml").read_text()
    found = [policy for policy in yaml.safe_load_all(text) if policy]
    for policy in found:
        for rule in policy["spec"].get("rules") or ():
            for entry in rule.get("from") or ():
                for field in ("ipBlocks", "notIpBlocks"):
                    if field in entry["source"]:
                        entry["source"][field] = [_moved(block) for block in entry["source"][field]]
            for when in rule.get("when") or ():
                if when["key"] == "source.ip":
                    for field in when.keys() - {"key"}:
                        when[field] = [_moved(block) for block in when[field]]
    return found


def _ours(case: dict[str, Any], policies: list[dict[str, Any]]) -> AccessPolicy:
    documents = list(policies)
    config = {"kind": "MeshConfig", "trustDomainAliases": case.get("trustDomainAliases") or []}
    if "meshConfig" in case:
        config.update(yaml.safe_load((CASES / case["dir"] / case["meshConfig"]).read_text()))
    documents.append(config)
    for service in case.get("services") or ():
        namespace, host = service.split("/")
        ports = [{"name": "grpc", "number": 9000, "protocol": "GRPC"}]
        spec = {"hosts": [host], "ports": ports, "resolution": "STATIC"}
        metadata = {"name": "service", "namespace": namespace}
        head = {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": metadata}
        documents.append({**head, "spec": spec})
    parsed, findings = parse_documents(yaml.safe_dump_all(documents).encode(), "in.yaml")
    assert not findings
    resources: list[Resource] = []
    for document in parsed:
        resource, problems = decode(document)
        assert resource is not None, problems
        resources.append(resource)
    settings = Settings(trust_domain=case.get("trustDomain") or "cluster.local")
    snapshot = build_snapshot(settings, resources, [])
    workload = case["workload"]
    found = access_policy(snapshot, workload["namespace"], tuple(sorted(workload["labels"].items())))
    return found.policy if case["protocol"] == "http" else rbac.for_bytes(found.policy)


def _expected(case: dict[str, Any]) -> list[tuple[str, Any]]:
    """Each expected filter: its name, and its rules (None: it has none)."""
    found = []
    for name in case.get("outputs") or ():
        output = yaml.safe_load((CASES / case["dir"] / name).read_text())
        config = output["typedConfig"]
        rules = config.get("rules", config.get("shadowRules"))
        message = None
        if rules is not None:
            message = json_format.ParseDict(_with_moved_peers(rules), rbac_pb2.RBAC())
        found.append((output["name"], message))
    return found


def _with_moved_peers(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_moved_peers(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {name: _with_moved_peers(item) for name, item in value.items()}
    if "directRemoteIp" in found:
        found["directRemoteIp"]["addressPrefix"] = _moved(found["directRemoteIp"]["addressPrefix"])
    return found


def _our_filters(case: dict[str, Any], policy: AccessPolicy) -> list[tuple[str, Any]]:
    """The same of ours, as far as the case is about it."""
    http = case["protocol"] == "http"
    name = "envoy.filters.http.rbac" if http else "envoy.filters.network.rbac"
    if case["generator"] == "custom":
        asking = external.HTTP_FILTER if http else external.NETWORK_FILTER
        return [
            entry
            for check in policy.external
            for entry in ((name, rbac.rule_set(rbac.DENY, check.rules)), (asking, None))
        ]
    sets = []
    if policy.audit:
        sets.append(rbac.rule_set(rbac.LOG, policy.audit))
    if policy.deny:
        sets.append(rbac.rule_set(rbac.DENY, policy.deny))
    if policy.allow is not None:
        sets.append(rbac.rule_set(rbac.ALLOW, policy.allow))
    return [(name, rules) for rules in sets]


def _parts(message: Any) -> tuple[str, Any]:
    """``and``, ``or`` or empty, and what is joined so."""
    kind = message.WhichOneof("rule" if isinstance(message, rbac_pb2.Permission) else "identifier")
    value = getattr(message, kind)
    if kind in ("and_rules", "or_rules", "and_ids", "or_ids"):
        return kind.partition("_")[0], value.rules if kind.endswith("rules") else value.ids
    return "", ()


def _terms(message: Any) -> Iterator[Any]:
    """What all has to hold of a permission or a principal, one by one; of several sources, of each."""
    kind, parts = _parts(message)
    if kind == "and" or (kind == "or" and (len(parts) == 1 or any(_parts(part)[0] == "and" for part in parts))):
        for part in parts:
            yield from _terms(part)
    elif kind or not (isinstance(message.any, bool) and message.any):
        yield message


def _alone(rules: Any) -> Iterator[tuple[str, Any]]:
    """Each term of each policy as rules of its own, with the name of the policy."""
    for name in sorted(rules.policies):
        policy = rules.policies[name]
        for permission in policy.permissions:
            for term in _terms(permission):
                yield name, _only(rbac_pb2.Policy(permissions=[term], principals=[rbac_pb2.Principal(any=True)]))
        for principal in policy.principals:
            for term in _terms(principal):
                yield name, _only(rbac_pb2.Policy(permissions=[rbac_pb2.Permission(any=True)], principals=[term]))


def _only(policy: Any) -> Any:
    return rbac_pb2.RBAC(policies={"only": policy})


# --- requests --------------------------------------------------------------------------------------------------------


class Requests:
    """Requests made up from the texts of a case's policies."""

    def __init__(self, policies: Iterable[dict[str, Any]]) -> None:
        self._random = random.Random(SEED)
        self._texts: dict[str, list[str]] = {}
        for policy in policies:
            self._collect("", policy["spec"].get("rules"))

    def _collect(self, name: str, value: Any) -> None:
        if isinstance(value, dict):
            if "key" in value:
                texts = [*(value.get("values") or ()), *(value.get("notValues") or ())]
                self._texts.setdefault(value["key"], []).extend(texts)
                return
            for field, item in value.items():
                self._collect(field, item)
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, str):
                    plain = name[3].lower() + name[4:] if name.startswith("not") else name
                    self._texts.setdefault(plain, []).append(item)
                else:
                    self._collect(name, item)

    def _pick(self, *names: str, other: str) -> str:
        """A text that one of these fields means, or nearly means, or another."""
        texts = [text for name in names for text in self._texts.get(name, ())]
        if not texts or self._random.random() < 0.15:
            return other
        text = self._random.choice(texts)
        text = text.replace("{**}", self._random.choice(("x/y", "x"))).replace("{*}", "x").replace("*", "x")
        return text + self._random.choice(("", "", "", "x"))

    def _address(self, *names: str, other: str) -> str:
        texts = [text for name in names for text in self._texts.get(name, ())]
        if not texts or self._random.random() < 0.2:
            return other
        return str(ipaddress.ip_network(self._random.choice(texts), strict=False)[0])

    def next(self) -> dict[str, Any]:
        principal = self._pick("principals", "source.principal", other="")
        account = self._pick("serviceAccounts", other="far/any").split("/")
        namespace = self._pick("namespaces", "source.namespace", other="any")
        domain = self._pick("trustDomains", "source.trustDomain", other="cluster.local")
        choices = (
            principal,
            f"{domain}/ns/{(['foo', *account])[-2]}/sa/{account[-1]}",
            f"{domain}/ns/{namespace}/sa/any",
            "",
        )
        identity = self._random.choice([choice for choice in choices[:3] if choice] + [""])
        headers = {"host": self._pick("hosts", other="other.example")}
        for key in self._texts:
            if key.startswith("request.headers[") and ":" not in key:
                headers[key.removeprefix("request.headers[").removesuffix("]")] = self._pick(key, other="none")
        return {
            "identity": f"spiffe://{identity}" if identity else "",
            "source": self._address("ipBlocks", "source.ip", other="127.0.0.1"),
            "remote": self._address("remoteIpBlocks", "remote.ip", other="8.8.8.8"),
            "address": self._address("destination.ip", other="8.8.4.4"),
            "port": int(re.sub(r"\D", "", self._pick("ports", "destination.port", other="1"))[:4] or 1),
            "server_name": self._pick("connection.sni", other="other.example"),
            "method": re.sub(r"[^A-Za-z]", "", self._pick("methods", "request.headers[:method]", other="GET")) or "GET",
            "path": self._pick("paths", other="/other"),
            "headers": headers,
            "claims": self._claims() if self._random.random() < 0.8 else None,
        }

    def _claims(self) -> dict[str, Any]:
        who = self._pick("requestPrincipals", "request.auth.principal", other="any/any")
        issuer, _, subject = who.rpartition("/")
        claims: dict[str, Any] = {"iss": issuer or "any", "sub": subject}
        claims["aud"] = self._pick("request.auth.audiences", other="any")
        claims["azp"] = self._pick("request.auth.presenter", other="any")
        for key in self._texts:
            if key.startswith("request.auth.claims["):
                *above, last = key.removeprefix("request.auth.claims[").removesuffix("]").split("][")
                place = claims
                for name in above:
                    place = place.setdefault(name, {})
                value: Any = self._pick(key, other="none")
                place[last] = [value, "more"] if self._random.random() < 0.5 and last != "iss" else value
        return claims


# --- the Envoy -------------------------------------------------------------------------------------------------------


def _route(name: str, rules: Any) -> dict[str, Any]:
    config = {"rules": json_format.MessageToDict(rules)}
    own = {"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute", "rbac": config}
    return {
        "match": {"prefix": "/", "headers": [{"name": "x-term", "string_match": {"exact": name}}]},
        "direct_response": {"status": 200},
        "typed_per_filter_config": {"rbac": own},
    }


def _typed(kind: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/envoy.{kind}", **fields}


def _filter(name: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": _typed(kind, **fields)}


def _http_chain(routes: list[dict[str, Any]], issuer: Issuer) -> dict[str, Any]:
    provider = {
        "local_jwks": {"inline_string": issuer.jwks},
        "payload_in_metadata": "payload",
        "normalize_payload_in_metadata": {"space_delimited_claims": ["scope"]},
    }
    either = {"requirements": [{"provider_name": "any"}, {"allow_missing": {}}]}
    tokens = {
        "providers": {"any": provider},
        "rules": [{"match": {"prefix": "/"}, "requires": {"requires_any": either}}],
    }
    return _filter(
        "envoy.filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="cases",
        use_remote_address=True,
        normalize_path=True,
        merge_slashes=True,
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        http_filters=[
            _filter("envoy.filters.http.jwt_authn", "extensions.filters.http.jwt_authn.v3.JwtAuthentication", **tokens),
            _filter("rbac", "extensions.filters.http.rbac.v3.RBAC"),
            _filter("router", "extensions.filters.http.router.v3.Router"),
        ],
    )


def _byte_chain(rules: Any) -> list[dict[str, Any]]:
    guard = {"rules": json_format.MessageToDict(rules), "stat_prefix": "cases"}
    return [
        _filter("rbac", "extensions.filters.network.rbac.v3.RBAC", **guard),
        _filter("echo", "extensions.filters.network.echo.v3.Echo"),
    ]


def _listener(port: int, filters: list[dict[str, Any]], authority: EdgeAuthority) -> dict[str, Any]:
    pem = authority.issue("server.example")
    tls = {
        "common_tls_context": {
            "tls_certificates": [
                {
                    "certificate_chain": {"inline_string": pem.certificate.decode()},
                    "private_key": {"inline_string": pem.key.decode()},
                }
            ],
            "validation_context": {"trusted_ca": {"inline_string": pem.roots.decode()}},
        }
    }
    socket_ = {"name": "tls", "typed_config": _typed("extensions.transport_sockets.tls.v3.DownstreamTlsContext", **tls)}
    inspectors = (
        ("proxy", "extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"),
        ("tls", "extensions.filters.listener.tls_inspector.v3.TlsInspector"),
    )
    return {
        "name": str(port),
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "listener_filters": [_filter(name, kind) for name, kind in inspectors],
        "filter_chains": [
            {"filter_chain_match": {"transport_protocol": "tls"}, "transport_socket": socket_, "filters": filters},
            {"filter_chain_match": {"transport_protocol": "raw_buffer"}, "filters": filters},
        ],
    }


class Client:
    """Makes a request with each of the terms, on one connection."""

    def __init__(self, authority: EdgeAuthority, issuer: Issuer) -> None:
        self._authority, self._issuer = authority, issuer
        self._contexts: dict[str, ssl.SSLContext] = {}

    def _connected(self, port: int, request: dict[str, Any]) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(request["source"], 0))
        head = f"PROXY TCP4 {request['remote']} {request['address']} 1 {request['port']}\r\n"
        connection.sendall(head.encode())
        if not request["identity"]:
            return connection
        context = self._contexts.setdefault(request["identity"], unverified(self._authority.issue(request["identity"])))
        return context.wrap_socket(connection, server_hostname=request["server_name"])

    def verdicts(self, port: int, request: dict[str, Any], terms: list[str]) -> list[int]:
        """The status for each term."""
        headers = dict(request["headers"])
        if request["claims"] is not None:
            headers["authorization"] = f"Bearer {self._issuer.token(**request['claims'])}"
        found = []
        with contextlib.closing(self._connected(port, request)) as connection:
            for term in terms:
                lines = [f"{request['method']} {request['path']} HTTP/1.1", f"x-term: {term}", "content-length: 0"]
                lines += [f"{name}: {value}" for name, value in headers.items()]
                connection.sendall("\r\n".join([*lines, "", ""]).encode())
                response = http.client.HTTPResponse(connection, method=request["method"])
                response.begin()
                response.read()
                found.append(response.status)
                if response.will_close:
                    return [response.status] * len(terms)
        return found

    def passes(self, port: int, request: dict[str, Any]) -> int:
        """As a status, whether bytes come through."""
        with contextlib.closing(self._connected(port, request)) as connection, contextlib.suppress(OSError):
            connection.sendall(b"neither HTTP nor TLS")
            if connection.recv(1):
                return 200
        return 403


@contextlib.contextmanager
def _running(listeners: list[dict[str, Any]]) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="lt-") as name:
        folder = Path(name)
        admin = {"address": {"pipe": {"path": str(folder / "admin.sock")}}}
        (folder / "envoy.json").write_text(json.dumps({"admin": admin, "static_resources": {"listeners": listeners}}))
        with run_file(folder):
            yield


# --- the comparison --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", _cases())
def test_our_rules_and_the_expected_ones_give_the_same_verdicts(case: dict[str, Any]) -> None:
    policies = _policies(case)
    ours, expected = _our_filters(case, _ours(case, policies)), _expected(case)
    assert [name for name, _ in ours] == [name for name, _ in expected]
    assert [rules and rules.action for _, rules in ours] == [rules and rules.action for _, rules in expected]
    sides = [
        [entry for _, whole in side if whole is not None for entry in (("whole", whole), *_alone(whole))]
        for side in (ours, expected)
    ]
    requests = Requests(policies)
    made = [requests.next() for _ in range(REQUESTS)]
    found = _over_http(made, sides) if case["protocol"] == "http" else _over_bytes(made, sides)
    assert found[0] == found[1]


Named = tuple[str, Any]
Verdicts = set[tuple[str, tuple[int, ...]]]
"""Of one side, the series of verdicts of each term, with the policy's name; the order of terms does not matter."""


def _over_http(made: list[dict[str, Any]], sides: list[list[Named]]) -> list[Verdicts]:
    issuer, authority, port = Issuer("any"), EdgeAuthority(), free_port()
    terms = [(side, policy, rules) for side, found in enumerate(sides) for policy, rules in found]
    routes = [_route(str(index), rules) for index, (_, _, rules) in enumerate(terms)]
    client = Client(authority, issuer)
    listener = _listener(port, [_http_chain(routes, issuer)], authority)
    names = list(map(str, range(len(terms))))
    with _running([listener]), concurrent.futures.ThreadPoolExecutor(2) as pool:
        rows = list(pool.map(lambda request: client.verdicts(port, request, names), made))
    found: list[Verdicts] = [set(), set()]
    for (side, policy, _), series in zip(terms, zip(*rows, strict=True), strict=True):
        found[side].add((policy, series))
    return found


def _over_bytes(made: list[dict[str, Any]], sides: list[list[Named]]) -> list[Verdicts]:
    authority = EdgeAuthority()
    free: set[int] = set()
    while len(free) < sum(map(len, sides)):
        free.add(free_port())
    ports = [[free.pop() for _ in side] for side in sides]
    listeners = [
        _listener(port, _byte_chain(rules), authority)
        for side, own in zip(sides, ports, strict=True)
        for (_, rules), port in zip(side, own, strict=True)
    ]
    client = Client(authority, Issuer("any"))
    with _running(listeners):
        return [
            {
                (policy, tuple(client.passes(port, request) for request in made))
                for (policy, _), port in zip(side, own, strict=True)
            }
            for side, own in zip(sides, ports, strict=True)
        ]
