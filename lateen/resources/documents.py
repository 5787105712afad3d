"""YAML text to documents: plain values with the line of every field.

Comes in: the bytes of a file. Goes out: one ``Document`` for each YAML document (lists of resources are taken apart)
and findings for what is no YAML. A document that is broken costs only itself: what stands before and behind the next
``---`` is read. Scalars are read as JSON and Kubernetes users mean them: ``on``, ``yes`` and ``1:30`` are text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
import yaml

from lateen.findings import Finding, error
from lateen.values.names import Origin

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 64
MAX_UNCHECKED = 2000
MAX_NODES = 500_000
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


class _Loader(yaml.CSafeLoader):
    """The C parser with the scalar rules of YAML 1.2's core: only true/false, plain numbers and null are not text."""


_Loader.yaml_implicit_resolvers = {}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF")
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]{0,18})$"), "-+0123456789")
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)$"),
    "-+0123456789.",
)


class _Problem(Exception):
    """Something in a document that makes it unusable as a whole."""

    def __init__(self, code: str, message: str, line: int, remedy: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.line, self.remedy = code, message, line, remedy


def parse_documents(data: bytes, path: str) -> tuple[tuple[Document, ...], tuple[Finding, ...]]:
    """Read every document of a file. ``path`` is what findings call the file."""
    documents: list[Document] = []
    findings: list[Finding] = []
    if len(data) > MAX_BYTES:
        origin = Origin("File", "", path, path, 1)
        message = f"the file is larger than {MAX_BYTES >> 20} MiB"
        return (), (error("too-large", message, origin, "split it into several files"),)
    for chunk, first_line in _chunks(data):
        try:
            document = _read(chunk, first_line, path)
        except _Problem as problem:
            origin = Origin("File", "", path, path, problem.line)
            findings.append(error(problem.code, problem.message, origin, problem.remedy))
            continue
        if document is not None:
            documents.extend(_taken_apart(document))
    return tuple(documents), tuple(findings)


def _chunks(data: bytes) -> list[tuple[bytes, int]]:
    """The text between separators, each with the number of lines before it."""
    chunks = []
    start, line = 0, 0
    for found in _SEPARATOR.finditer(data):
        chunks.append((data[start : found.start()], line))
        line += data.count(b"\n", start, found.end())
        start = found.end()
    chunks.append((data[start:], line))
    return [(chunk, before) for chunk, before in chunks if not _DIRECTIVES.fullmatch(chunk)]


def _read(chunk: bytes, before: int, path: str) -> Document | None:
    try:
        chunk.decode()
        _check_depth(chunk, before)
        loader = _Loader(chunk)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            reader = _Reader(loader, before)
            value = reader.value(node, "", 0)
            if value is None:
                return None
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as problem:
        line = before + chunk.decode().count("\n", 0, problem.position) + 1
        raise _Problem("invalid-yaml", f"this is not YAML: {problem.reason}", line, "remove the character") from None
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        text = " ".join(str(getattr(problem, "problem", None) or problem).split())
        line = before + (mark.line if mark is not None else 0) + 1
        raise _Problem("invalid-yaml", f"this is not YAML: {text}", line, "correct the text of the document") from None
    except UnicodeDecodeError as problem:
        line = before + chunk.count(b"\n", 0, problem.start) + 1
        raise _Problem("invalid-yaml", "the text is not UTF-8", line, "save the file as UTF-8") from None
    return Document(value, path, before + node.start_mark.line + 1, reader.lines)


def _check_depth(chunk: bytes, before: int) -> None:
    """Refuse nesting so deep that the composer, which recurses in C, would run out of stack.

    Few texts have signs enough to nest that deep at all; only those are parsed once more, event by event.
    """
    if sum(chunk.count(sign) for sign in (b"[", b"{", b"-", b"?")) <= MAX_UNCHECKED:
        return
    depth = 0
    for event in yaml.parse(chunk, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise _too_deep(before + (event.start_mark.line if event.start_mark else 0) + 1)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _too_deep(line: int) -> _Problem:
    return _Problem("too-deep", f"the document is nested more than {MAX_DEPTH} levels deep", line)


class _Reader:
    """Builds values from nodes; aliases are shared by reference and counted, so that they cannot blow up."""

    def __init__(self, loader: yaml.CSafeLoader, before: int) -> None:
        self._loader = loader
        self._before = before
        self._count = 0
        self.lines: dict[str, int] = {}

    def value(self, node: yaml.Node, path: str, depth: int) -> Any:
        line = self._before + node.start_mark.line + 1
        self._count += 1
        if depth > MAX_DEPTH:
            raise _too_deep(line)
        if self._count > MAX_NODES:
            raise _Problem("too-large", f"the document has more than {MAX_NODES} values, aliases counted out", line)
        self.lines.setdefault(path, line)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if node.tag not in _PLAIN_TAGS:
            raise _Problem("unknown-tag", f"the tag {node.tag} has no meaning here", line, "remove the tag")
        return self._loader.construct_object(node)

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: list[yaml.Node] = []
        for key, item in node.value:
            line = self._before + key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise _Problem("invalid-key", "a key has to be plain text", line)
            name = str(key.value)
            below = f"{path}.{name}" if path else name
            if name == "<<" and not key.style:
                merged.append(item)
                continue
            if name in result:
                first = self.lines.get(below, line)
                raise _Problem("duplicate-key", f"{below} stands twice; first in line {first}", line, "remove one")
            self.lines[below] = line
            result[name] = self.value(item, below, depth + 1)
        for item in merged:
            self._merge(item, result, path, depth)
        return result

    def _merge(self, node: yaml.Node, result: dict[str, Any], path: str, depth: int) -> None:
        """``<<: *defaults``: what the mapping itself does not say, it takes from others, the first of them first."""
        others = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for other in others:
            if not isinstance(other, yaml.MappingNode):
                line = self._before + node.start_mark.line + 1
                raise _Problem("invalid-key", "<< takes a mapping or a list of mappings", line)
            for name, value in self._mapping(other, path, depth + 1).items():
                result.setdefault(name, value)


_PLAIN_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null"))


def _taken_apart(document: Document) -> list[Document]:
    """The items of a Kubernetes ``List``, each as a document of its own; anything else as it is."""
    value = document.value
    if not (isinstance(value, dict) and str(value.get("kind", "")).endswith("List") and "items" in value):
        return [document]
    items = value["items"] if isinstance(value["items"], list) else []
    parts = []
    for index, item in enumerate(items):
        prefix = f"items[{index}]"
        lines = {
            path.removeprefix(prefix).lstrip("."): line
            for path, line in document.lines.items()
            if path == prefix or path.startswith((f"{prefix}.", f"{prefix}["))
        }
        parts.append(Document(item, document.path, document.lines.get(prefix, document.line), lines))
    return parts
