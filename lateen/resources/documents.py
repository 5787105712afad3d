"""YAML text to documents: plain values with the line of every field.

Comes in: the bytes of a file. Goes out: one ``Document`` for each YAML document (lists of resources are taken apart)
and findings for what is no YAML. A document that is broken costs only itself: what stands before and behind the next
``---`` is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from lateen.findings import Finding, error
from lateen.resources.yaml_reader import JSON_SCALARS, YamlProblem, read_yaml
from lateen.values.names import Origin

MAX_BYTES = 16 * 1024 * 1024
MAX_DOCUMENTS = 20_000
_SEPARATOR = re.compile(rb"^(?:---|\.\.\.)(?=\s|$)", re.MULTILINE)
_DIRECTIVES = re.compile(rb"(?:[ \t]*(?:[%#].*)?(?:\r?\n|$))*")


class Document(msgspec.Struct, frozen=True):
    """One document: its value, where it stands, and the 1-based line of every field path (``spec.http[0]``)."""

    value: Any
    path: str
    line: int
    lines: Mapping[str, int]

    def origin(self, kind: str = "Document", namespace: str = "", name: str = "") -> Origin:
        return Origin(kind, namespace, name or self.path, self.path, self.line)


def parse_documents(data: bytes, path: str) -> tuple[tuple[Document, ...], tuple[Finding, ...]]:
    """Read every document of a file. ``path`` is what findings call the file."""
    documents: list[Document] = []
    findings: list[Finding] = []
    if len(data) > MAX_BYTES:
        origin = Origin("File", "", path, path, 1)
        message = f"the file is larger than {MAX_BYTES >> 20} MiB"
        return (), (error("too-large", message, origin, "split it into several files"),)
    found = chunks(data)
    if len(found) > MAX_DOCUMENTS:
        origin = Origin("File", "", path, path, found[MAX_DOCUMENTS][1] + 1)
        message = f"the file has more than {MAX_DOCUMENTS} documents"
        return (), (error("too-large", message, origin, "split it into several files"),)
    for chunk, first_line in found:
        try:
            read = read_yaml(chunk, JSON_SCALARS, before=first_line)
        except YamlProblem as problem:
            origin = Origin("File", "", path, path, problem.line)
            findings.append(error(problem.code, problem.message, origin, problem.remedy))
            continue
        if read.value is not None:
            documents.extend(_taken_apart(Document(read.value, path, read.line, read.lines)))
    return tuple(documents), tuple(findings)


def section_document(data: bytes, path: str, section: str) -> tuple[tuple[Document, ...], bool]:
    """One mapping of a file that is no resource (``meshConfig`` of ``lateen.yaml``), as a document of its own.

    Gives no document where the file has no such mapping, and whether the file could be read at all.
    """
    try:
        read = read_yaml(data, JSON_SCALARS)
    except YamlProblem:
        return (), False
    if not isinstance(read.value, dict) or read.value.get(section) is None:
        return (), True
    line = read.lines.get(section, read.line)
    return (Document(read.value[section], path, line, _below(read.lines, section)),), True


def chunks(data: bytes) -> list[tuple[bytes, int]]:
    """The text between separators, each with the number of lines before it. What holds comments alone is left out."""
    found_chunks = []
    start, line = 0, 0
    for found in _SEPARATOR.finditer(data):
        found_chunks.append((data[start : found.start()], line))
        line += data.count(b"\n", start, found.end())
        start = found.end()
    found_chunks.append((data[start:], line))
    return [(chunk, before) for chunk, before in found_chunks if not _DIRECTIVES.fullmatch(chunk)]


def _taken_apart(document: Document) -> list[Document]:
    """The items of a Kubernetes ``List``, each as a document of its own; anything else as it is."""
    value = document.value
    if not (isinstance(value, dict) and str(value.get("kind", "")).endswith("List") and "items" in value):
        return [document]
    items = value["items"] if isinstance(value["items"], list) else []
    parts = []
    for index, item in enumerate(items):
        prefix = f"items[{index}]"
        line = document.lines.get(prefix, document.line)
        parts.append(Document(item, document.path, line, _below(document.lines, prefix)))
    return parts


def _below(lines: Mapping[str, int], prefix: str) -> dict[str, int]:
    """The lines of the fields below one, by their paths from there."""
    return {
        path.removeprefix(prefix).lstrip("."): line
        for path, line in lines.items()
        if path == prefix or path.startswith((f"{prefix}.", f"{prefix}["))
    }
