"""One YAML document to a plain value with the line of every field.

Comes in: bytes, and the dialect that says what a plain scalar means. Goes out: the value and the 1-based lines by the
field's path (``spec.http[0].timeout``), or one ``YamlProblem``. Every YAML file that a user writes is read here, so
the limits on depth, size and aliases and what is said of a broken text stand once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import yaml

MAX_DEPTH = 64
MAX_UNCHECKED = 2000
MAX_NODES = 500_000


class _JsonLoader(yaml.CSafeLoader):
    """The C parser with the scalar rules of YAML 1.2's core: only true/false, plain numbers and null are not text."""


_JsonLoader.yaml_implicit_resolvers = {}
_JsonLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"
)
_JsonLoader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_JsonLoader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]{0,18})$"), "-+0123456789")
_JsonLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.[0-9]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)$"),
    "-+0123456789.",
)


class Dialect(NamedTuple):
    """What scalars mean: the loader with its rules, the tags it may give them, whether every key is text."""

    loader: type[yaml.CSafeLoader]
    tags: frozenset[str]
    text_keys: bool


_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null"))
JSON_SCALARS = Dialect(_JsonLoader, _TAGS, text_keys=True)
"""As users of JSON and Kubernetes mean them: ``on``, ``yes``, ``0123`` and ``1:30`` are text, and so is every key."""
YAML_1_1 = Dialect(yaml.CSafeLoader, _TAGS | {"tag:yaml.org,2002:timestamp"}, text_keys=False)
"""As YAML 1.1 says; a key such as ``1.0`` stays a number, so that the reader can be told to write it in quotes."""


class YamlText(msgspec.Struct, frozen=True):
    """What a document says: its value (None if it is empty), its first line, and the line of each field."""

    value: Any
    line: int
    lines: Mapping[str, int]


class YamlProblem(Exception):
    """Something that makes a document unusable as a whole; ``field`` is empty where it is about no field."""

    def __init__(self, code: str, message: str, line: int, remedy: str = "", field: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.line, self.remedy, self.field = code, message, line, remedy, field


def read_yaml(text: bytes, dialect: Dialect, before: int = 0) -> YamlText:
    """Read one document. ``before`` is the number of lines above it in its file. Raises YamlProblem."""
    try:
        text.decode()
        _check_size(text, before)
        loader = dialect.loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return YamlText(None, before + 1, {})
            reader = _Reader(loader, dialect, before)
            return YamlText(reader.value(node, "", 0), before + node.start_mark.line + 1, reader.lines)
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as problem:
        line = before + text.decode().count("\n", 0, problem.position) + 1
        raise YamlProblem("invalid-yaml", f"this is not YAML: {problem.reason}", line, "remove the character") from None
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        words = " ".join(str(getattr(problem, "problem", None) or problem).split())
        line = before + (min(mark.line, text.count(b"\n", 0, len(text) - 1)) if mark is not None else 0) + 1
        raise YamlProblem(
            "invalid-yaml", f"this is not YAML: {words}", line, "correct the text of the document"
        ) from None
    except UnicodeDecodeError as problem:
        line = before + text.count(b"\n", 0, problem.start) + 1
        raise YamlProblem("invalid-yaml", "the text is not UTF-8", line, "save the file as UTF-8") from None


def _check_size(text: bytes, before: int) -> None:
    """Refuse nesting so deep that the composer, which recurses in C, would run out of stack, and more values than are
    read, before anything is made of them.

    Few texts have signs or bytes enough for either at all; only those are parsed once more, event by event.
    """
    signs = sum(text.count(sign) for sign in (b"[", b"{", b"-", b"?"))
    if signs <= MAX_UNCHECKED and len(text) <= 2 * MAX_NODES:
        return
    depth = count = 0
    for event in yaml.parse(text, Loader=_JsonLoader):
        count += isinstance(event, yaml.NodeEvent)
        line = before + (event.start_mark.line if event.start_mark else 0) + 1
        if count > MAX_NODES:
            raise _too_large(line)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise _too_deep(line)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _too_large(line: int) -> YamlProblem:
    message = f"the document has more than {MAX_NODES} values, aliases counted out"
    return YamlProblem("too-large", message, line, "write several documents")


def _too_deep(line: int) -> YamlProblem:
    return YamlProblem("too-deep", f"the document is nested more than {MAX_DEPTH} levels deep", line, "nest it less")


def _not_its_tag(node: yaml.Node, line: int) -> YamlProblem:
    message = f"{node.value!r} is not what its tag {node.tag} says"
    return YamlProblem("invalid-yaml", message, line, "correct the value or remove the tag")


class _Reader:
    """Builds values from nodes; aliases are shared by reference and counted, so that they cannot blow up."""

    def __init__(self, loader: yaml.CSafeLoader, dialect: Dialect, before: int) -> None:
        self._loader = loader
        self._tags, self._text_keys = dialect.tags, dialect.text_keys
        self._before = before
        self._count = 0
        self.lines: dict[str, int] = {}

    def value(self, node: yaml.Node, path: str, depth: int) -> Any:
        line = self._before + node.start_mark.line + 1
        self._count += 1
        if depth > MAX_DEPTH:
            raise _too_deep(line)
        if self._count > MAX_NODES:
            raise _too_large(line)
        self.lines.setdefault(path, line)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if node.tag not in self._tags:
            raise YamlProblem("unknown-tag", f"the tag {node.tag} has no meaning here", line, "remove the tag")
        try:
            return self._loader.construct_object(node)
        except (ValueError, KeyError, AttributeError):
            raise _not_its_tag(node, line) from None

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        merged: list[yaml.Node] = []
        for key, item in node.value:
            line = self._before + key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise YamlProblem("invalid-key", "a key has to be plain text", line)
            if key.value == "<<" and not key.style:
                merged.append(item)
                continue
            name = key.value if self._text_keys else self.value(key, path, depth)
            below = f"{path}.{name}" if path else str(name)
            if name in result:
                message = f"{below} stands twice; first in line {self.lines.get(below, line)}"
                raise YamlProblem("duplicate-key", message, line, "remove one", below)
            self.lines.setdefault(below, line)
            result[name] = self.value(item, below, depth + 1)
        for item in merged:
            self._merge(item, result, path, depth)
        return result

    def _merge(self, node: yaml.Node, result: dict[Any, Any], path: str, depth: int) -> None:
        """``<<: *defaults``: what the mapping itself does not say, it takes from others, the first of them first."""
        others = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for other in others:
            if not isinstance(other, yaml.MappingNode):
                line = self._before + node.start_mark.line + 1
                raise YamlProblem("invalid-key", "<< takes a mapping or a list of mappings", line)
            for name, value in self._mapping(other, path, depth + 1).items():
                result.setdefault(name, value)
