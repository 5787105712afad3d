"""Routing tests: files that say of a proxy and its configuration where calls must end.

Comes in: the text of a case file. Goes out: for each call what it meets, by a walk over the configuration that such a
proxy gets. A file has ``proxy``, ``config`` (Istio resources), ``kubernetes`` (Services, Secrets and so on),
``meshConfig`` and ``calls``; ``docs/reference/routing-tests.md`` describes them. The defaults are Istio's: the mesh is
PERMISSIVE and a gateway listens on all addresses.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from lateen.control.coordinator import Coordinator, ProxyOptions
from lateen.control.offline import PROXY_ID, own_ports
from lateen.control.stand_in import stand_in_credentials
from lateen.control.store import ResourceStore
from lateen.envoy.resources import EnvoyResources
from lateen.explain.call import DEFAULT_ADDRESS, DEFAULT_SOURCE, Call, Mode, Protocol, Tls
from lateen.explain.simulate import Configuration, simulate
from lateen.explain.verdict import Verdict
from lateen.findings import Finding, error
from lateen.mesh.model import Workload
from lateen.mesh.visibility import full_host
from lateen.plan.server_tls import SECRET_SCHEME
from lateen.resources.fields import set_fields
from lateen.resources.kubernetes import SecretSpec
from lateen.resources.resource import Resource
from lateen.resources.virtual_service import Destination
from lateen.resources.yaml_reader import JSON_SCALARS, YamlProblem, read_yaml
from lateen.settings import Settings
from lateen.sources.files import FileEvent
from lateen.values.names import Origin, ResourceKey, SpiffeId

SETTINGS = Settings(default_mtls="PERMISSIVE")
ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - a walk binds nothing
SECTIONS = ("config", "kubernetes")
FIELDS = ("error", "listener", "filterChain", "routeConfig", "virtualHost", "route", "cluster")
CALL_FIELDS = frozenset(
    {
        "mode", "address", "port", "protocol", "tls", "alpn", "sni", "host", "path", "method", "headers",
        "mtlsSecretConfigName", "note", "principal", "source", "claims",
    }
)  # fmt: skip


class BadCase(Exception):
    """A case file that cannot be used; ``finding`` says where and why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


class CallResult(msgspec.Struct, frozen=True):
    """One call: what was expected, what it met, and how they differ (empty: they do not)."""

    name: str
    call: Call
    expected: Mapping[str, Any]
    verdict: Verdict
    differences: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.differences

    @property
    def actual(self) -> dict[str, str]:
        return actual_of(self.verdict)


class CaseResult(msgspec.Struct, frozen=True):
    """One case: its calls in order, and what is wrong with its configuration."""

    file: str
    name: str
    results: tuple[CallResult, ...]
    findings: tuple[Finding, ...]
    resources: EnvoyResources
    namespace: str
    trust_domain: str

    @property
    def passed(self) -> bool:
        return all(result.passed for result in self.results)


def actual_of(verdict: Verdict) -> dict[str, str]:
    """A verdict in the names of the file format."""
    return {
        "error": verdict.error.value if verdict.error is not None else "",
        "listener": verdict.listener,
        "filterChain": verdict.filter_chain,
        "routeConfig": verdict.route_config,
        "virtualHost": verdict.virtual_host,
        "route": verdict.route,
        "cluster": verdict.cluster,
    }


def run_case(data: bytes, path: str, mesh_config: FileEvent | None = None) -> CaseResult:
    """Run one file. ``mesh_config`` holds below the file's own MeshConfig. Raises BadCase where it is not a case."""
    reading = _Reading(path)
    value, lines = reading.document(data)
    findings: list[Finding] = []
    workload = _workload(reading, reading.mapping(value, "proxy"))
    resources = _resources(reading, value, lines, findings, workload.namespace, mesh_config)
    made, coordinator = _configure(workload, resources)
    findings.extend(coordinator.findings)
    configuration = Configuration(made)
    domain = (coordinator.snapshot.settings if coordinator.snapshot is not None else SETTINGS).trust_domain
    results = []
    calls = reading.listed(value, "calls")
    if not calls:
        raise reading.bad("calls", "the test has no calls, so it would show nothing", "write calls: [{call: ...}]")
    for index, entry in enumerate(calls):
        name, call, expected = reading.call(entry, f"calls[{index}]", lines)
        if call.tls is Tls.MTLS and not call.identity:
            call = msgspec.structs.replace(call, identity=str(SpiffeId(domain, workload.namespace, "default")))
        verdict = simulate(configuration, call)
        results.append(CallResult(name, call, expected, verdict, differences(expected, verdict)))
    name = str(value.get("name") or path)
    return CaseResult(path, name, tuple(results), tuple(findings), made, workload.namespace, domain)


def differences(expected: Mapping[str, Any], verdict: Verdict) -> tuple[str, ...]:
    """What a call met otherwise than expected. Only the fields given count, and an error that was not expected."""
    actual = actual_of(verdict)
    compared = FIELDS if expected.get("strict") else [name for name in FIELDS if name in expected or name == "error"]
    return tuple(
        f"{name} is {actual[name] or 'empty'}, expected {expected.get(name) or 'none'}"
        for name in compared
        if (expected.get(name) or "") != actual[name]
    )


# --- the configuration -----------------------------------------------------------------------------------------------


def _resources(
    reading: _Reading,
    value: Mapping[str, Any],
    lines: Mapping[str, int],
    findings: list[Finding],
    namespace: str,
    mesh_config: FileEvent | None,
) -> tuple[Resource, ...]:
    store = ResourceStore("default", mesh_configs=[mesh_config.path] if mesh_config is not None else ())
    for section in SECTIONS:
        text = value.get(section) or ""
        if not isinstance(text, str):
            raise reading.bad(section, f"{section} is a text of YAML documents", "begin it with |")
        padding = "\n" * lines.get(section, 0)
        place = reading.path if section == "config" else f"{reading.path} ({section})"
        store.apply(FileEvent(place, (padding + text).encode()))
    options = _mesh_config(reading, reading.mapping(value, "meshConfig"), mesh_config)
    if options is not None:
        store.apply(options)
    findings.extend(store.findings())
    return _with_credentials(_with_short_names(store.resources()), namespace)


def _mesh_config(reading: _Reading, own: Mapping[str, Any], given: FileEvent | None) -> FileEvent | None:
    """The MeshConfig of the file, over the one that is given beside it."""
    if not own:
        return given
    body = {"apiVersion": "mesh.istio.io/v1alpha1", "kind": "MeshConfig"}
    if given is not None:
        try:
            under = read_yaml(given.data or b"", JSON_SCALARS).value
        except YamlProblem as problem:
            raise _Reading(given.path).bad("", problem.message, problem.remedy) from problem
        body |= under if isinstance(under, dict) else {}
    return FileEvent(f"{reading.path} (meshConfig)", msgspec.json.encode(_laid_over(body, own)))


def _laid_over(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both, and where both have a value that of ``over``; mappings in them alike."""
    made = {**under, **over}
    for name in under.keys() & over.keys():
        if isinstance(under[name], dict) and isinstance(over[name], dict):
            made[name] = _laid_over(under[name], over[name])
    return made


def _with_credentials(resources: tuple[Resource, ...], namespace: str) -> tuple[Resource, ...]:
    """Stand-ins for the Secrets that a proxy asks for and the file does not have: routing does not depend on them."""
    present = {resource.key for resource in resources}
    names = {name for resource in resources for name in _credential_names(resource)}
    wanted = sorted({ResourceKey("Secret", namespace, name) for name in names} - present)
    if not wanted:
        return resources
    parts = (base64.b64encode(part).decode() for part in stand_in_credentials())
    spec = SecretSpec(data=dict(zip(("tls.crt", "tls.key", "ca.crt"), parts, strict=True)))
    return (*resources, *(Resource(key, Origin(key.kind, key.namespace, key.name), spec) for key in wanted))


def _credential_names(resource: Resource) -> Iterator[str]:
    if resource.key.kind == "Ingress":
        yield from (tls.secret_name for tls in resource.spec.tls)
    if resource.key.kind in ("Gateway", "DestinationRule"):
        for _, shape, value in set_fields(resource.spec):
            if shape.endswith((".credentialName", ".caCertCredentialName")):
                yield value.removeprefix(SECRET_SCHEME)
            elif shape.endswith(".credentialNames"):
                yield from (name.removeprefix(SECRET_SCHEME) for name in value)


def _with_short_names(resources: tuple[Resource, ...]) -> tuple[Resource, ...]:
    """Destinations without dots that are no known service stand for ``name.namespace``, as the format says."""
    known = {
        full_host(name, resource.key.namespace, SETTINGS.domain)
        for resource in resources
        for name in _defined(resource)
    }
    return tuple(
        msgspec.structs.replace(resource, spec=_expanded(resource.spec, resource.key.namespace, known))
        for resource in resources
    )


def _defined(resource: Resource) -> Iterable[str]:
    if resource.key.kind == "Service":
        return (resource.key.name,)
    return resource.spec.hosts if resource.key.kind == "ServiceEntry" else ()


def _expanded(value: Any, namespace: str, known: set[str]) -> Any:
    if isinstance(value, Destination):
        is_known = "." in value.host or full_host(value.host, namespace, SETTINGS.domain) in known
        return value if is_known else msgspec.structs.replace(value, host=f"{value.host}.{namespace}")
    if isinstance(value, msgspec.Struct):
        changed = {
            name: new
            for name in value.__struct_fields__
            if (new := _expanded(old := getattr(value, name), namespace, known)) is not old
        }
        return msgspec.structs.replace(value, **changed) if changed else value
    if isinstance(value, tuple):
        new = tuple(_expanded(item, namespace, known) for item in value)
        return new if any(one is not other for one, other in zip(new, value, strict=True)) else value
    return value


def _workload(reading: _Reading, proxy: Mapping[str, Any]) -> Workload:
    labels = {str(name): str(text) for name, text in (proxy.get("labels") or {}).items()}
    addresses = proxy.get("addresses") or ["1.1.1.1"]
    kind = proxy.get("type", "sidecar")
    if kind not in ("sidecar", "router"):
        raise reading.bad("proxy.type", f"there is no proxy of type {kind}", "write sidecar or router")
    return Workload(
        id=PROXY_ID,
        namespace=proxy.get("namespace") or "default",
        name=labels.get("app", PROXY_ID),
        labels=tuple(sorted(labels.items())),
        service_account=proxy.get("serviceAccount") or "default",
        address=str(addresses[0]),
        is_gateway=kind == "router",
        ready=True,
    )


def _configure(workload: Workload, resources: tuple[Resource, ...]) -> tuple[EnvoyResources, Coordinator]:
    published: dict[str, EnvoyResources | None] = {}
    coordinator = Coordinator(SETTINGS, published.__setitem__, lambda _: ProxyOptions(gateway_address=ANY_ADDRESS))
    coordinator.update(resources, [workload])
    ports = own_ports(coordinator, workload)
    if ports:
        coordinator.update(resources, [msgspec.structs.replace(workload, ports=ports)])
    return published[PROXY_ID] or EnvoyResources({}), coordinator


# --- reading ---------------------------------------------------------------------------------------------------------


class _Reading:
    """Reads one file; what is wrong with it names its line."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lines: Mapping[str, int] = {}

    def bad(self, field: str, message: str, remedy: str = "") -> BadCase:
        place = field
        while place and place not in self._lines:
            place = place[: max(place.rfind("."), place.rfind("["), 0)]
        origin = Origin("RoutingTest", "", self.path, self.path, self._lines.get(place, 1), field)
        return BadCase(error("bad-routing-test", message, origin, remedy))

    def document(self, data: bytes) -> tuple[Mapping[str, Any], Mapping[str, int]]:
        try:
            found = read_yaml(data, JSON_SCALARS)
        except YamlProblem as problem:
            self._lines = {"": problem.line}
            raise self.bad("", problem.message, problem.remedy) from problem
        self._lines = found.lines
        if not isinstance(found.value, dict):
            raise self.bad("", "a routing test is a mapping with proxy, config and calls")
        return found.value, found.lines

    def mapping(self, value: Mapping[str, Any], field: str) -> Mapping[str, Any]:
        found = value.get(field) or {}
        if not isinstance(found, dict):
            raise self.bad(field, f"{field} is a mapping")
        return found

    def listed(self, value: Mapping[str, Any], field: str) -> list[Any]:
        found = value.get(field)
        if found is not None and not isinstance(found, list):
            raise self.bad(field, f"{field} is a list")
        return found or []

    def call(self, entry: Any, place: str, _: object) -> tuple[str, Call, Mapping[str, Any]]:
        """The name, the call and what is expected of one entry of ``calls``."""
        if not isinstance(entry, dict) or not isinstance(entry.get("call"), dict):
            raise self.bad(place, "an entry of calls has a mapping call", "write call: {port: 80, mode: outbound}")
        given = entry["call"]
        unknown = sorted(given.keys() - CALL_FIELDS)
        if unknown:
            raise self.bad(f"{place}.call.{unknown[0]}", f"a call has no field {unknown[0]}")
        expected = self.mapping(entry, "expect")
        wrong = sorted(expected.keys() - {*FIELDS, "strict", "note"})
        if wrong:
            raise self.bad(f"{place}.expect.{wrong[0]}", f"nothing is known of {wrong[0]} of a call")
        try:
            return str(entry.get("name") or place), _call(given), expected
        except (ValueError, KeyError, TypeError) as problem:
            raise self.bad(f"{place}.call", f"this is not a call: {problem}") from problem


def _call(given: Mapping[str, Any]) -> Call:
    headers = given.get("headers") or {}
    return Call(
        port=int(given["port"]),
        mode=Mode(given.get("mode", "outbound")),
        address=str(given.get("address") or DEFAULT_ADDRESS),
        protocol=Protocol(given.get("protocol") or "tcp"),
        tls=Tls(given.get("tls") or ("tls" if given.get("sni") else "plaintext")),
        host=str(given.get("host") or ""),
        path=str(given.get("path") or "/"),
        method=str(given.get("method") or "GET"),
        headers=tuple(sorted((str(name).lower(), str(text)) for name, text in headers.items())),
        alpn=given.get("alpn"),
        sni=given.get("sni"),
        certificate=str(given.get("mtlsSecretConfigName") or ""),
        identity=f"spiffe://{given['principal']}" if given.get("principal") else "",
        source=str(ipaddress.ip_address(given.get("source") or DEFAULT_SOURCE)),
        claims=dict(given["claims"]) if given.get("claims") is not None else None,
    )
