"""Documents to typed resources, strictly.

Comes in: a ``Document``. Goes out: a ``Resource``, or findings that name every field that is wrong. A good document
takes one pass of msgspec; only one that it refuses is walked field by field, to find all that is wrong and not just
the first.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from lateen.findings import Finding, Severity, error
from lateen.resources.base import Duration, Spec
from lateen.resources.documents import Document
from lateen.resources.registry import BARE, BY_GROUP_AND_NAME, KNOWN_GROUPS, Kind
from lateen.resources.resource import Resource
from lateen.resources.shape import Problem, walk
from lateen.values.names import Origin, ResourceKey

_DURATION = re.compile(
    r"^-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|ms|s|m|h)(?:(?:[0-9]+(?:\.[0-9]*)?)(?:ns|us|ms|s|m|h))*$"
)
_DURATION_PART = re.compile(r"([0-9.]+)(ns|us|ms|s|m|h)")
_HEADER = frozenset({"apiVersion", "kind", "metadata"})
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
LONGEST_S = 9_223_372_036
"""As many nanoseconds as 64 bits hold: what Istio reads, and Envoy takes."""


class TooLong(ValueError):
    """A duration that nobody could wait for."""


class _Names(Spec, frozen=True):
    name: str = ""
    namespace: str = ""


def parse_duration(text: str) -> Duration:
    """Read ``10s``, ``0.5s``, ``1m30s``. Raises ValueError where it is not a length of time with units, and TooLong."""
    if not _DURATION.match(text) or len(text) > 64:
        raise ValueError(f"{text!r} is not a duration")
    total = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))
    if total > LONGEST_S:
        raise TooLong(f"{text!r} is longer than 292 years")
    return Duration(-total if text.startswith("-") else total)


def read_scalar(wanted: type, value: Any) -> Any:
    """The hook by which msgspec reads our own scalar types."""
    if wanted is Duration and isinstance(value, str):
        return parse_duration(value)
    if wanted is Duration:
        raise ValueError("a duration is text with a unit, such as 10s")
    raise NotImplementedError(wanted)


def identify(document: Document, default_namespace: str = "default", kind_hint: str = "") -> ResourceKey | None:
    """Which resource a document means to be, however wrong the rest of it is."""
    value = document.value
    if not isinstance(value, dict):
        return ResourceKey(kind_hint, "", kind_hint) if kind_hint in BARE else None
    metadata = value.get("metadata")
    if value.get("kind", kind_hint) in BARE:
        return _bare_key(value, str(value.get("kind", kind_hint)))
    kind, name = value.get("kind"), metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(kind, str) or not isinstance(name, str):
        return None
    namespace = metadata.get("namespace") if isinstance(metadata, dict) else None
    return ResourceKey(kind, namespace if isinstance(namespace, str) and namespace else default_namespace, name)


def decode(
    document: Document, default_namespace: str = "default", kind_hint: str = ""
) -> tuple[Resource | None, tuple[Finding, ...]]:
    """Read one document. Gives a resource, or None with findings (errors, or a note that the kind is not ours).

    ``kind_hint`` is taken where a document names no kind.
    """
    value = document.value
    if not isinstance(value, dict):
        return None, (error("not-a-resource", "a resource is a mapping with apiVersion and kind", document.origin()),)
    kind, problem = _kind(document, value, kind_hint)
    if kind is None:
        return None, (problem,) if problem is not None else ()
    if kind.bare:
        return _decode_bare(document, kind)
    key = identify(document, default_namespace)
    metadata = value.get("metadata")
    wrong = tuple(_wrong_metadata(document, kind, metadata)) if isinstance(metadata, dict) else ()
    if wrong:
        return None, wrong
    if key is None or not isinstance(metadata, dict):
        origin = document.origin(kind.name).at("metadata.name", document.lines.get("metadata", document.line))
        return None, (error("missing-name", "the resource has no name", origin, "give metadata.name"),)
    origin = Origin(kind.name, key.namespace, key.name, document.path, document.line)
    spec, findings = _spec(document, kind, origin)
    if findings:
        return None, findings
    return (
        Resource(
            key=key,
            origin=origin,
            spec=spec,
            labels=_texts(metadata.get("labels")),
            annotations=_texts(metadata.get("annotations")),
            creation=str(metadata.get("creationTimestamp") or ""),
            lines=document.lines,
        ),
        (),
    )


def _decode_bare(document: Document, kind: Kind) -> tuple[Resource | None, tuple[Finding, ...]]:
    """A document of its own form: what is not apiVersion, kind and metadata is its content."""
    key = _bare_key(document.value, kind.name)
    origin = Origin(kind.name, key.namespace, key.name, document.path, document.line)
    content = {name: value for name, value in document.value.items() if name not in _HEADER}
    spec, findings = _content(content, kind, "", document, origin)
    if findings:
        return None, findings
    return Resource(key=key, origin=origin, spec=spec, lines=document.lines), ()


def _bare_key(value: dict[str, Any], kind: str) -> ResourceKey:
    metadata = value.get("metadata")
    named = metadata if isinstance(metadata, dict) else {}
    return ResourceKey(kind, str(named.get("namespace") or ""), str(named.get("name") or kind))


def _wrong_metadata(document: Document, kind: Kind, metadata: dict[str, Any]) -> Iterator[Finding]:
    """Name and namespace that are there and no text, labels and annotations that are no mapping. A namespace that YAML
    reads as a number is not the default one."""
    names = {field: metadata[field] for field in ("name", "namespace") if metadata.get(field) is not None}
    for problem in walk(names, _Names, "metadata")[1]:
        line = document.lines.get(problem.field, document.lines.get("metadata", document.line))
        place = document.origin(kind.name).at(problem.field, line)
        yield error(problem.code, problem.message, place, problem.remedy)
    for field in ("labels", "annotations"):
        said = metadata.get(field)
        if said is not None and not isinstance(said, dict):
            place = document.origin(kind.name).at(f"metadata.{field}", document.lines.get(f"metadata.{field}", 0))
            yield error("wrong-type", f"{field} are no mapping", place, "write a name and a text for each")


def _texts(value: Any) -> dict[str, str]:
    """Labels or annotations; ``true`` without quotes is meant as it is written."""
    if not isinstance(value, dict):
        return {}
    return {str(name): str(text).lower() if isinstance(text, bool) else str(text) for name, text in value.items()}


def _kind(document: Document, value: dict[str, Any], hint: str) -> tuple[Kind | None, Finding | None]:
    api_version, name = value.get("apiVersion"), value.get("kind")
    if name is None and api_version is None and hint in BARE:
        return BARE[hint], None
    if isinstance(name, str) and name in BARE and api_version in (None, *BARE[name].versions):
        return BARE[name], None
    origin = document.origin(str(name or "Document"))
    if not isinstance(api_version, str) or not isinstance(name, str):
        message = "a resource needs apiVersion and kind"
        return None, error("missing-kind", message, origin, "for example apiVersion: networking.istio.io/v1")
    group, _, version = api_version.rpartition("/")
    kind = BY_GROUP_AND_NAME.get((group, name))
    place = origin.at("apiVersion", document.lines.get("apiVersion", 0))
    if kind is not None and version in kind.versions:
        return kind, None
    if kind is not None:
        versions = " or ".join(f"{group}/{known}" if group else known for known in kind.versions)
        return None, error("unknown-version", f"{name} has no version {version}", place, f"write {versions}")
    if group in KNOWN_GROUPS:
        names = [known for known_group, known in BY_GROUP_AND_NAME if known_group == group]
        if not names:
            return None, error("unsupported-kind", f"Lateen does not support {api_version} yet", place)
        close = difflib.get_close_matches(name, names, 1)
        remedy = f"did you mean {close[0]}?" if close else ""
        return None, error("unknown-kind", f"there is no kind {name} in {group}", place, remedy)
    note = f"{api_version} {name} means nothing to Lateen and is left alone"
    return None, Finding("ignored-kind", Severity.INFO, note, place)


def _spec(document: Document, kind: Kind, origin: Origin) -> tuple[Any, tuple[Finding, ...]]:
    value = document.value
    prefix = "" if kind.flat else "spec"
    content = value if kind.flat else value.get("spec")
    return _content({} if content is None else content, kind, prefix, document, origin)


def _content(
    content: Any, kind: Kind, prefix: str, document: Document, origin: Origin
) -> tuple[Any, tuple[Finding, ...]]:
    try:
        return msgspec.convert(content, kind.struct, dec_hook=read_scalar, str_keys=True), ()
    except (msgspec.ValidationError, ValueError):
        pass
    cleaned, problems = walk(content, kind.struct, prefix)
    if problems:
        return None, tuple(_finding(problem, document, origin) for problem in problems)
    try:
        return msgspec.convert(cleaned, kind.struct, dec_hook=read_scalar, str_keys=True), ()
    except (msgspec.ValidationError, ValueError) as problem:
        return None, (error("invalid-value", str(problem), origin.at(prefix)),)


def _finding(problem: Problem, document: Document, origin: Origin) -> Finding:
    lines = document.lines
    field = problem.field
    while field and field not in lines:
        cut = max(field.rfind("."), field.rfind("["))
        field = field[:cut] if cut > 0 else ""
    return error(problem.code, problem.message, origin.at(problem.field, lines.get(field, 0)), problem.remedy)
