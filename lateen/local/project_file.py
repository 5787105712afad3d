"""Read a ``lateen.yaml``: bytes in, a ``Project`` or findings out. Pure: the file is read by the caller.

A file with an error gives no project at all, so that a broken edit changes nothing; warnings come beside a project.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import PurePath

import msgspec

from lateen.findings import Finding, error, warning
from lateen.local.authority_fields import authority_mistakes
from lateen.local.fields import (
    Command,
    GatewayFields,
    Ports,
    ProjectFields,
    Readiness,
    ServiceFields,
    VersionFields,
)
from lateen.local.project import (
    NO_PROBE,
    Application,
    CaptureMode,
    CaService,
    MeshOptions,
    Port,
    PortPlace,
    Probe,
    ProbeKind,
    Project,
    Service,
    Workload,
)
from lateen.local.shape import FieldPath, LineOf, check_shape, field_lines, field_text
from lateen.plan.mixer.policy import ANNOTATIONS, BadAnnotation, policy_of
from lateen.resources.yaml_reader import YAML_1_1, YamlProblem, read_yaml
from lateen.values.names import Origin
from lateen.values.protocol import Protocol, parse_protocol, protocol_of_port
from lateen.values.web_address import parse_networks

KIND = "Project"
ANY_ADDRESS = "0.0.0.0"  # noqa: S104
LEAST_REFRESH_S = 1.0
LEAST_LIFE_S = 60.0
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def read_project(data: bytes, file: str, name: str | None = None) -> tuple[Project | None, list[Finding]]:
    """Read a project. ``file`` is the absolute path of the file; ``name`` stands before the mesh's name in it.

    None with findings where there is an error.
    """
    folder = str(PurePath(file).parent)
    origin = Origin(KIND, "", name or _name_of(folder), path=file, line=1)
    try:
        text = read_yaml(data, YAML_1_1)
    except YamlProblem as problem:
        return None, [error(problem.code, problem.message, origin.at(problem.field, problem.line), problem.remedy)]
    value, line_of = {} if text.value is None else text.value, field_lines(text.lines)
    written = value.get("name") if isinstance(value, Mapping) else None
    if name is None and isinstance(written, str) and written:
        origin = msgspec.structs.replace(origin, name=written)
    findings = check_shape(value, ProjectFields, origin, line_of)
    if any(finding.is_error for finding in findings):
        return None, findings
    fields = msgspec.convert(value, ProjectFields)
    builder = _Builder(fields, origin, line_of, folder, file)
    project = builder.build()
    findings += builder.findings
    return (None if any(finding.is_error for finding in findings) else project), findings


def _name_of(folder: str) -> str:
    """The name of a mesh whose file gives none."""
    return re.sub("[^a-z0-9]+", "-", PurePath(folder).name.lower()).strip("-")[:40] or "mesh"


def seconds(duration: str) -> float:
    """``500ms`` as 0.5. The text has been checked."""
    number, unit = re.fullmatch(r"([0-9.]+)(ms|s|m|h)", duration).groups()  # type: ignore[union-attr]
    return float(number) * UNITS[unit]


class _Builder:
    """Fills in defaults and gathers findings on what fits each by itself and not together."""

    def __init__(self, fields: ProjectFields, origin: Origin, line_of: LineOf, folder: str, file: str) -> None:
        self.findings: list[Finding] = []
        self._fields = fields
        self._origin = origin
        self._line_of = line_of
        self._folder = folder
        self._file = file

    def build(self) -> Project:
        fields = self._fields
        services: list[Service] = []
        workloads: list[Workload] = []
        for name, service in fields.services.items():
            services += self._service(name, service)
            workloads += self._workloads(name, service)
        workloads += [self._gateway(name, gateway) for name, gateway in fields.gateways.items()]
        self._check_names(workloads)
        self._check_jwks()
        self._check_redis()
        self._check_identity()
        self._check_gateway_ports(workloads)
        if not workloads:
            self._error((), "empty-project", "nothing would run: there is no service and no gateway", "add services")
        return Project(
            name=self._origin.name,
            namespace=fields.namespace,
            folder=self._folder,
            file=self._file,
            services=tuple(services),
            workloads=tuple(workloads),
            options=MeshOptions(
                capture=CaptureMode(fields.mesh.capture),
                resources=None if fields.mesh.resources is None else tuple(fields.mesh.resources),
                root_namespace=fields.mesh.root_namespace,
                trust_domain=self._trust_domain(),
                outbound_policy=fields.mesh.outbound_policy,
                host_ownership=fields.mesh.host_ownership,
                jwks_allow=tuple(fields.mesh.jwks.allow),
                jwks_refresh=seconds(fields.mesh.jwks.refresh),
                redis=fields.mesh.rate_limits.redis,
                ca=str(PurePath(self._folder, fields.mesh.identity.ca)) if fields.mesh.identity.ca else "",
                service=self._ca_service(),
                certificate_life=seconds(fields.mesh.identity.life),
                workload_key=fields.mesh.identity.key,
            ),
            places=tuple(self._places()),
            written_name=fields.name or _name_of(self._folder),
        )

    def _trust_domain(self) -> str:
        """Identities are made before resources are read, so that this one option of the MeshConfig is taken here."""
        said = (self._fields.meshConfig or {}).get("trustDomain")
        return said if isinstance(said, str) and said else self._fields.mesh.trust_domain

    def _places(self) -> Iterator[PortPlace]:
        for name, gateway in self._fields.gateways.items():
            names = (
                enumerate(gateway.ports)
                if isinstance(gateway.ports, Mapping)
                else enumerate(port.name for port in gateway.ports)
            )
            for index, port in names:
                below: FieldPath = ("gateways", name, "ports", port if isinstance(gateway.ports, Mapping) else index)
                yield PortPlace(name, port, field_text(below), self._line_of(below))

    def _service(self, name: str, fields: ServiceFields) -> list[Service]:
        ports = self._ports(("services", name, "ports"), fields.ports)
        if not ports:
            return []
        namespace = fields.namespace or self._fields.namespace
        return [Service(name, namespace, ports, (("app", fields.labels.get("app", name)),))]

    def _workloads(self, name: str, fields: ServiceFields) -> list[Workload]:
        path: FieldPath = ("services", name)
        if not fields.versions:
            return [self._workload(name, "", fields, VersionFields(), path)]
        return [
            self._workload(name, version, fields, overlay or VersionFields(), (*path, "versions", version))
            for version, overlay in fields.versions.items()
        ]

    def _workload(
        self, service: str, version: str, base: ServiceFields, overlay: VersionFields, path: FieldPath
    ) -> Workload:
        labels = {"app": service, **({"version": version} if version else {}), **base.labels, **overlay.labels}
        if "app" in overlay.labels and overlay.labels["app"] != base.labels.get("app", service):
            self._error(
                (*path, "labels", "app"), "label-clash", f"this label would take it out of the service {service}", ""
            )
        annotations = self._annotations(service, base, overlay, path)
        ports = self._ports(("services", service, "ports"), base.ports, report=False)
        command = self._command(path, base, overlay)
        readiness = overlay.readiness if overlay.readiness is not None else base.readiness
        own = overlay.readiness is not None
        return Workload(
            name=f"{service}-{version}" if version else service,
            service=service,
            version=labels.get("version", ""),
            namespace=base.namespace or self._fields.namespace,
            service_account=overlay.service_account or base.service_account or service,
            labels=tuple(sorted(labels.items())),
            annotations=annotations,
            ports=ports,
            replicas=base.replicas if overlay.replicas is None else overlay.replicas,
            application=Application(
                command=command,
                environment=_environment({**base.environment, **overlay.environment}),
                working_dir=str(PurePath(self._folder) / (overlay.working_dir or base.working_dir or "")),
                probe=self._probe((*(path if own else ("services", service)), "readiness"), readiness, ports),
            ),
        )

    def _command(self, path: FieldPath, base: ServiceFields, overlay: VersionFields) -> tuple[str, ...]:
        command: Command | None = overlay.command if overlay.command is not None else base.command
        if command is None:
            self._error(
                path, "missing-field", "there is no command to run", "add command to the service or the version"
            )
            return ()
        if isinstance(command, list):
            return tuple(command)
        where = (*path, "command") if overlay.command is not None else (*path[:2], "command")
        try:
            words = tuple(shlex.split(command))
        except ValueError as problem:
            words = ()
            self._error(where, "invalid-value", f"the command cannot be split into words: {problem}", "write a list")
        else:
            if not words:
                self._error(where, "too-short", "the command is empty", "")
        return words

    def _probe(self, path: FieldPath, fields: Readiness | None, ports: tuple[Port, ...]) -> Probe:
        first = ports[0].target if ports else 0
        if fields is None:
            return Probe(ProbeKind.TCP, port=first) if first else NO_PROBE
        if isinstance(fields, str):
            return NO_PROBE
        kinds = [kind for kind in ("http", "tcp", "exec") if getattr(fields, kind) is not None]
        if len(kinds) != 1:
            self._error(
                path, "invalid-value", "a probe has exactly one of http, tcp and exec", "or write readiness: none"
            )
            return NO_PROBE
        if fields.http is not None and not (fields.port or first):
            self._error(path, "missing-field", "the service has no port to probe", "add port")
        return Probe(
            kind=ProbeKind(kinds[0]),
            port=fields.tcp or fields.port or first,
            path=fields.http or "",
            command=tuple(fields.exec or ()),
            interval=max(0.1, seconds(fields.interval)),
            timeout=max(0.01, seconds(fields.timeout)),
            initial_delay=seconds(fields.initial_delay),
            success_threshold=fields.success_threshold,
            failure_threshold=fields.failure_threshold,
        )

    def _ports(self, path: FieldPath, fields: Ports, report: bool = True) -> tuple[Port, ...]:
        """The ports with their protocols; findings only where ``report``, as several workloads share them."""
        ports: list[Port] = []
        entries = (
            [((*path, name), name, number, number, None) for name, number in fields.items()]
            if isinstance(fields, Mapping)
            else [
                ((*path, index), entry.name, entry.port, entry.target_port or entry.port, entry.protocol)
                for index, entry in enumerate(fields)
            ]
        )
        for where, name, number, target, protocol in entries:
            spoken = protocol_of_port(name, number=number) if protocol is None else parse_protocol(protocol)
            if spoken is None:
                known = ", ".join(one.value for one in Protocol if one.value)
                self._error(
                    (*where, "protocol"), "invalid-value", f"there is no protocol {protocol!r}", f"one of: {known}"
                )
                spoken = Protocol.UNSPECIFIED
            if report and any(name == port.name or number == port.number for port in ports):
                self._error(where, "duplicate-port", f"the port {name} {number} repeats a name or a number", "")
            if report and spoken is Protocol.UDP:
                self._error(where, "unsupported-protocol", "UDP does not pass through the mesh", "leave the port out")
            if report and spoken is Protocol.UNSPECIFIED and path[0] == "services":
                message = (
                    f"the name of the port {name} says no protocol: it is told from the client's first bytes, "
                    "and a server that speaks first is never heard"
                )
                self._warning(where, "unnamed-protocol", message, "call it http, grpc, tcp, or tcp-" + name)
            ports.append(Port(name, number, target, spoken))
        return tuple(ports)

    def _annotations(
        self, service: str, base: ServiceFields, overlay: VersionFields, path: FieldPath
    ) -> tuple[tuple[str, str], ...]:
        """Those of a version; one that means nothing here, or cannot be, is told and left out."""
        found = {**base.annotations, **overlay.annotations}
        places = {name: path if name in overlay.annotations else ("services", service) for name in found}
        for name in sorted(found.keys() - set(ANNOTATIONS)):
            del found[name]
            message, remedy = f"no annotation {name} has an effect here", f"there are {', '.join(ANNOTATIONS)}"
            self._error((*places[name], "annotations", name), "unknown-annotation", message, remedy)
        try:
            policy_of(found)
        except BadAnnotation as problem:
            place = places.get(problem.name, path)
            self._error((*place, "annotations", problem.name), "invalid-value", str(problem), problem.remedy)
            return ()
        return tuple(sorted(found.items()))

    def _gateway(self, name: str, fields: GatewayFields) -> Workload:
        path: FieldPath = ("gateways", name)
        try:
            ipaddress.IPv4Address(fields.bind)
        except ValueError:
            self._error(
                (*path, "bind"), "invalid-value", f"{fields.bind!r} is no IPv4 address", "write 127.0.0.1 or 0.0.0.0"
            )
        ports = self._ports((*path, "ports"), fields.ports)
        if not ports:
            self._error((*path, "ports"), "too-short", "a gateway without a port", "add one, as in {http: 8080}")
        return Workload(
            name=name,
            service=name,
            version="",
            namespace=fields.namespace or self._fields.namespace,
            service_account=fields.service_account or name,
            labels=tuple(sorted((fields.labels or {"istio": name}).items())),
            ports=ports,
            bind=fields.bind,
        )

    def _check_names(self, workloads: list[Workload]) -> None:
        seen: dict[str, Workload] = {}
        for workload in workloads:
            path: FieldPath = ("gateways" if workload.is_gateway else "services", workload.service)
            other = seen.setdefault(workload.name, workload)
            if other is not workload:
                message = f"two workloads would be named {workload.name}: of {other.service} and of {workload.service}"
                self._error(path, "duplicate-name", message, "rename a service, a version or a gateway")
            if len(workload.name) > 40:
                message = f"{workload.name} is longer than the 40 characters that a socket's path has room for"
                self._error(path, "name-too-long", message, "shorten the name or the version")

    def _check_jwks(self) -> None:
        jwks, path = self._fields.mesh.jwks, ("mesh", "jwks")
        for index, text in enumerate(jwks.allow):
            try:
                parse_networks([text])
            except ValueError as problem:
                self._error((*path, "allow", index), "invalid-value", str(problem), "such as 127.0.0.0/8")
        if seconds(jwks.refresh) < LEAST_REFRESH_S:
            self._error((*path, "refresh"), "out-of-range", f"{jwks.refresh} is too short", "at least 1s")

    def _check_redis(self) -> None:
        url = self._fields.mesh.rate_limits.redis
        scheme, _, rest = url.partition("://")
        if url and (scheme not in ("redis", "rediss", "unix") or not rest or (scheme == "unix" and rest[0] != "/")):
            message = "this is no address of a Redis"
            self._error(("mesh", "rate_limits", "redis"), "invalid-value", message, "such as redis://127.0.0.1:6379/0")

    def _ca_service(self) -> CaService:
        said = self._fields.mesh.identity
        accounts = said.account_tokens
        return CaService(
            listen=said.listen,
            listen_mutual=said.listen_mutual,
            names=tuple(said.names),
            account_issuer=accounts.issuer if accounts is not None else "",
            account_audiences=tuple(accounts.audiences) if accounts is not None else (),
            account_jwks=str(PurePath(self._folder, accounts.jwks)) if accounts is not None else "",
        )

    def _check_identity(self) -> None:
        life = self._fields.mesh.identity.life
        for place, message, remedy in authority_mistakes(self._fields.mesh.identity):
            self._error(("mesh", "identity", *place), "invalid-value", message, remedy)
        if seconds(life) < LEAST_LIFE_S:
            self._error(("mesh", "identity", "life"), "out-of-range", f"{life} is too short", "at least 1m")

    def _check_gateway_ports(self, workloads: list[Workload]) -> None:
        seen: dict[int, Workload] = {}
        for workload in workloads:
            for port in workload.ports if workload.is_gateway else ():
                other = seen.setdefault(port.target, workload)
                if other is not workload and (
                    other.bind == workload.bind or ANY_ADDRESS in (other.bind, workload.bind)
                ):
                    path: FieldPath = ("gateways", workload.name, "ports")
                    message = f"port {port.target} is taken by the gateway {other.name} as well"
                    self._error(path, "port-clash", message, "give one of them another port")

    def _error(self, path: FieldPath, code: str, message: str, remedy: str) -> None:
        self.findings.append(error(code, message, self._origin.at(field_text(path), self._line_of(path)), remedy))

    def _warning(self, path: FieldPath, code: str, message: str, remedy: str) -> None:
        self.findings.append(warning(code, message, self._origin.at(field_text(path), self._line_of(path)), remedy))


def _environment(values: Mapping[str, str | int | float | bool]) -> tuple[tuple[str, str], ...]:
    """As a process gets it: numbers as YAML wrote them, true and false in small letters."""
    return tuple(
        (name, str(value).lower() if isinstance(value, bool) else str(value)) for name, value in sorted(values.items())
    )
