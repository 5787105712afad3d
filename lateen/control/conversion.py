"""Security resources of the first generation, written as those of the present kinds: what ``lateen convert`` does.

Comes in: the texts of files. Goes out: the text of each file without its old resources and with new ones at its end,
every other document as it was; and findings: notes where the new ones do not say all that the old ones did, and errors,
with which nothing is written. What a mesh makes of the old kinds is made of them here too (``mesh/legacy.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import yaml

from lateen.control.conversion_notes import conversion_notes
from lateen.findings import Finding, Severity
from lateen.local.project_file import read_project
from lateen.local.project_names import is_project
from lateen.local.registry import service_document
from lateen.mesh.legacy import KINDS, legacy_security, makes_room, selector_of
from lateen.mesh.mesh_config import with_mesh_config
from lateen.mesh.security_policy import is_on_trial
from lateen.mesh.services import define_services
from lateen.mesh.visibility import selects
from lateen.resources.checks.metadata import DRY_RUN
from lateen.resources.decode import decode
from lateen.resources.documents import Document, chunks, parse_documents
from lateen.resources.registry import AUTHENTICATION, RBAC
from lateen.resources.resource import Resource
from lateen.resources.support import check_support
from lateen.resources.validate import validate_resource
from lateen.settings import Settings
from lateen.values.names import Origin

API_VERSION = "security.istio.io/v1"
LONGEST_NAME = 253
_GROUPS = (f"{RBAC}/", f"{AUTHENTICATION}/")


class InputFile(msgspec.Struct, frozen=True):
    """A file to convert; a project (``lateen.yaml``) is only read for its services."""

    name: str
    data: bytes

    @property
    def is_project(self) -> bool:
        return is_project(self.name.rpartition("/")[2], self.data)


class Conversion(msgspec.Struct, frozen=True):
    """The new texts by the names of their files; a file of which nothing is left has none."""

    texts: Mapping[str, str]
    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        """Whether there is nothing that has to be mended first."""
        return not any(finding.is_error for finding in self.findings)


def convert(files: Sequence[InputFile], default_namespace: str = "default") -> Conversion:
    """Convert files together: policies of one file are made with the services of all."""
    by_kind, problems = _resources(files, default_namespace)
    if any(problem.is_error for problem in problems):
        return Conversion({}, problems)
    settings, _ = with_mesh_config(Settings(), next(iter(by_kind.get("MeshConfig", ())), None))
    settings = msgspec.structs.replace(settings, root_namespace=_root_namespace(files, settings))
    defined = define_services(by_kind.get("Service", ()), by_kind.get("ServiceEntry", ()), settings)
    services = [definition.service for found in defined.by_host.values() for definition in found]
    legacy, findings = legacy_security(by_kind, services, settings.root_namespace)
    closed = tuple(one for one in legacy.access if not _is_at_gateway(one, by_kind))
    made = [
        one
        for found, kind in (
            (legacy.peers, "PeerAuthentication"),
            (legacy.tokens, "RequestAuthentication"),
            (legacy.demands, "RequestAuthentication"),
            (closed, "AuthorizationPolicy"),
        )
        for one in found
        if not any(makes_room(one, other, settings.root_namespace) for other in by_kind.get(kind, ()))
    ]
    notes = conversion_notes(by_kind, services, made, settings.root_namespace)
    told = sorted({*problems, *map(_as_note, findings), *notes}, key=lambda one: (one.origin.path, one.origin.line))
    return Conversion(_texts(files, _named(made, by_kind)), tuple(told))


def _as_note(finding: Finding) -> Finding:
    """What has no effect in a mesh is no reason not to convert: it is told, and has none afterwards."""
    return msgspec.structs.replace(finding, severity=Severity.WARNING) if finding.is_error else finding


def _root_namespace(files: Iterable[InputFile], settings: Settings) -> str:
    for file in files:
        project = read_project(file.data, file.name)[0] if file.is_project else None
        if project is not None:
            return project.options.root_namespace
    return settings.root_namespace


def _resources(
    files: Iterable[InputFile], default_namespace: str
) -> tuple[dict[str, list[Resource]], tuple[Finding, ...]]:
    """The resources by kind, oldest first, and what is wrong with them. Only old kinds have to be right."""
    found: list[Resource] = []
    problems: list[Finding] = []
    for file in files:
        if file.is_project:
            found.extend(_project_services(file, problems))
            continue
        documents, broken = parse_documents(file.data, file.name)
        problems.extend(broken)
        for document in documents:
            resource, findings = decode(document, default_namespace)
            if resource is not None and _is_old(document.value):
                findings = (*findings, *validate_resource(resource), *check_support(resource))
            if _is_old(document.value) or resource is None:
                problems.extend(findings)
            if resource is not None:
                found.append(resource)
    by_kind: dict[str, list[Resource]] = {}
    for resource in sorted(found, key=lambda one: (not one.creation, one.creation, one.key.name, one.key.namespace)):
        by_kind.setdefault(resource.key.kind, []).append(resource)
    return by_kind, tuple(problems)


def _project_services(file: InputFile, problems: list[Finding]) -> Iterator[Resource]:
    project, findings = read_project(file.data, file.name)
    problems.extend(finding for finding in findings if finding.is_error)
    for service in project.services if project is not None else ():
        resource, _ = decode(Document(service_document(service), file.name, 0, {}))
        if resource is not None:
            yield resource


def _is_old(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return value.get("kind") in KINDS and str(value.get("apiVersion")).startswith(_GROUPS)


# --- what is left out ------------------------------------------------------------------------------------------------


def _is_at_gateway(made: Resource, by_kind: Mapping[str, Sequence[Resource]]) -> bool:
    """Whether a policy made of roles would select a gateway, where roles have no effect."""
    return any(
        gateway.spec.selector and selects(gateway.spec.selector, selector_of(made))
        for gateway in by_kind.get("Gateway", ())
    )


# --- texts -----------------------------------------------------------------------------------------------------------


def _named(made: Iterable[Resource], by_kind: Mapping[str, Sequence[Resource]]) -> list[Resource]:
    """The same, each with a name that no other has."""
    taken = {one.key for found in by_kind.values() for one in found}
    found = []
    for resource in made:
        key, number = resource.key, 1
        name = key.name[:LONGEST_NAME]
        while msgspec.structs.replace(key, name=name) in taken:
            number += 1
            name = f"{key.name[: LONGEST_NAME - 5]}-{number}"
        key = msgspec.structs.replace(key, name=name)
        taken.add(key)
        found.append(msgspec.structs.replace(resource, key=key))
    return found


def _texts(files: Iterable[InputFile], made: Sequence[Resource]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for file in files:
        if file.is_project:
            continue
        new = [_written(one) for one in made if one.origin.path == file.name]
        documents, _ = parse_documents(file.data, file.name)
        if not new and not any(_is_old(document.value) for document in documents):
            texts[file.name] = file.data.decode(errors="replace")
        elif parts := [*_kept(file), *new]:
            texts[file.name] = "---\n".join(parts)
    return texts


def _kept(file: InputFile) -> Iterator[str]:
    """The documents that are not old, as they stand; the rest of a list that had some of them is written anew."""
    for chunk, _ in chunks(file.data):
        documents, _ = parse_documents(chunk, file.name)
        text = chunk.decode(errors="replace").lstrip("\n").rstrip() + "\n"
        rest = [document.value for document in documents if not _is_old(document.value)]
        if len(rest) == len(documents):
            yield text
        else:
            yield from (_dumped(value) for value in rest)


def _written(resource: Resource) -> str:
    metadata: dict[str, Any] = {"name": resource.key.name, "namespace": resource.key.namespace}
    if is_on_trial(resource):
        metadata["annotations"] = {DRY_RUN: "true"}
    value = {"apiVersion": API_VERSION, "kind": resource.key.kind, "metadata": metadata}
    value["spec"] = msgspec.to_builtins(resource.spec)
    return f"# made of {_source(resource.origin)}\n{_dumped(value)}"


def _source(origin: Origin) -> str:
    place = f" ({origin.path.rpartition('/')[2]}:{origin.line})" if origin.path else ""
    text = f"{origin.kind} {origin.namespace}/{origin.name}{place}"
    return "".join(character if character.isprintable() else "?" for character in text)


def _dumped(value: Any) -> str:
    return str(yaml.dump(value, Dumper=yaml.CSafeDumper, sort_keys=False, width=120, allow_unicode=True))
