"""What configuration holds right now: the last good version of every resource.

Comes in: file events. Goes out: the resources that hold, and every finding. A document that is wrong changes nothing:
the resource of that name keeps its last good version. A file that cannot be read at all keeps everything it said.
A document that is gone from a readable file is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from lateen.envoy.patches.check import check_patches
from lateen.findings import Finding, error
from lateen.resources.decode import decode, identify
from lateen.resources.documents import Document, parse_documents, section_document
from lateen.resources.resource import Resource
from lateen.resources.support import check_support
from lateen.resources.validate import validate_resource
from lateen.sources.files import FileEvent
from lateen.values.names import Origin, ResourceKey


class FileState(msgspec.Struct, frozen=True):
    """What one file gives: its resources, what is wrong with it, and which keys it names without a good version."""

    resources: Mapping[ResourceKey, Resource]
    findings: tuple[Finding, ...]
    broken: frozenset[ResourceKey] = frozenset()


EMPTY = FileState({}, ())
MESH_CONFIG = "MeshConfig"


class ResourceStore:
    """Keeps one ``FileState`` a file. Where two files define one key, the first path in alphabetical order holds."""

    def __init__(
        self, default_namespace: str = "default", *, project: str = "", mesh_configs: Iterable[str] = ()
    ) -> None:
        """``project`` is a ``lateen.yaml``, of which ``meshConfig`` is read; ``mesh_configs`` are files of nothing but
        a MeshConfig, which need not say so."""
        self._files: dict[str, FileState] = {}
        self._default_namespace = default_namespace
        self._project = project
        self._mesh_configs = frozenset(mesh_configs)

    def apply(self, event: FileEvent) -> None:
        """Take in one file as it is now."""
        if event.data is None:
            self._files.pop(event.path, None)
            return
        before = self._files.get(event.path, EMPTY)
        origin = Origin("File", "", event.path, event.path, 1)
        if event.error:
            finding = error("unreadable-file", event.error, origin)
            self._files[event.path] = FileState(before.resources, (finding,), before.broken)
            return
        self._files[event.path] = self._read(event.path, event.data, before)

    def _read(self, path: str, data: bytes, before: FileState) -> FileState:
        documents, findings, lost = self._documents(path, data)
        hint = MESH_CONFIG if path == self._project or path in self._mesh_configs else ""
        resources: dict[ResourceKey, Resource] = {}
        broken: set[ResourceKey] = set()
        for document in documents:
            resource, problems = _judged(document, self._default_namespace, hint)
            findings.extend(problems)
            key = resource.key if resource is not None else identify(document, self._default_namespace, hint)
            if resource is None or any(problem.is_error for problem in problems):
                if key is not None:
                    broken.add(key)
            elif key in resources:
                findings.append(
                    error("duplicate-resource", f"{key} stands twice in this file", resource.origin, "remove one")
                )
            else:
                resources[resource.key] = resource
        for key, resource in before.resources.items():
            if key not in resources and (lost or key in broken):
                resources[key] = resource
        return FileState(resources, tuple(findings), frozenset(broken))

    def _documents(self, path: str, data: bytes) -> tuple[Iterable[Document], list[Finding], bool]:
        """The documents of a file, what is wrong with its text, and whether some of it could not be read.

        What is wrong with the project's own text is told by those who read the whole of it.
        """
        if path == self._project:
            documents, is_readable = section_document(data, path, "meshConfig")
            return documents, [], not is_readable
        documents, found = parse_documents(data, path)
        return documents, list(found), any(finding.is_error for finding in found)

    def holds(self, path: str) -> bool:
        """Whether a file could be read and everything in it holds."""
        return not any(finding.is_error for finding in self._files.get(path, EMPTY).findings)

    def resources(self) -> tuple[Resource, ...]:
        """Every resource that holds, each key once."""
        found: dict[ResourceKey, Resource] = {}
        for _, state in sorted(self._files.items()):
            for key, resource in state.resources.items():
                found.setdefault(key, resource)
        return tuple(found.values())

    def findings(self) -> tuple[Finding, ...]:
        """Everything that is wrong, in order of file and line; with resources that two files define."""
        found = [finding for _, state in sorted(self._files.items()) for finding in state.findings]
        owners: dict[ResourceKey, str] = {}
        for path, state in sorted(self._files.items()):
            for key, resource in state.resources.items():
                first = owners.setdefault(key, path)
                if first != path:
                    message = f"{key} is already defined in {first}; this one is not used"
                    found.append(error("duplicate-resource", message, resource.origin, "remove one of the two"))
        return tuple(found)


def _judged(document: Document, namespace: str, hint: str) -> tuple[Resource | None, tuple[Finding, ...]]:
    """Decode and check one document. A failure of ours costs this document alone."""
    try:
        resource, problems = decode(document, namespace, hint)
        if resource is not None:
            problems = (*problems, *validate_resource(resource), *check_support(resource), *check_patches(resource))
    except Exception as problem:  # what is wrong with our own check must not stop the mesh
        return None, (internal_error(problem, document.origin(), "this document"),)
    return resource, problems


def internal_error(problem: Exception, origin: Origin, what: str) -> Finding:
    """A finding for a failure of Lateen itself."""
    message = f"Lateen failed on {what}: {type(problem).__name__}: {problem}; the last good state goes on"
    return error("internal-error", message, origin, "please report this with the file")
