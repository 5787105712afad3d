"""Read one YAML document together with the line of every field in it.

Comes in: bytes. Goes out: the plain value, a function from a field's path to its 1-based line, and findings where the
text is no YAML, holds a key twice or has more than one document.
"""

from __future__ import annotations

import yaml

from lateen.findings import Finding, error
from lateen.local.shape import FieldPath, LineOf, field_text
from lateen.values.names import Origin

MAX_DEPTH = 32


def read_yaml(data: bytes, origin: Origin) -> tuple[object, LineOf, list[Finding]]:
    """The value (None for an empty file), the lines of its fields, and what is wrong with the text."""
    lines: dict[FieldPath, int] = {}
    findings: list[Finding] = []

    def line_of(path: FieldPath) -> int:
        while path and path not in lines:
            path = path[:-1]
        return lines.get(path, 1)

    try:
        loader = yaml.CSafeLoader(data)
        try:
            node = loader.get_single_node()
            if node is None:
                return None, line_of, findings
            _walk(loader, node, (), lines, findings, origin)
            if findings:
                return None, line_of, findings
            return loader.construct_document(node), line_of, findings
        finally:
            loader.dispose()
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        text = " ".join(str(getattr(problem, "problem", None) or problem).split())
        line = min(mark.line, data.count(b"\n", 0, len(data) - 1)) + 1 if mark else 1
        findings.append(error("invalid-yaml", f"the text is no YAML: {text}", origin.at("", line)))
    except (UnicodeDecodeError, ValueError, RecursionError) as problem:
        findings.append(error("invalid-yaml", f"the text is no YAML: {problem}", origin))
    return None, line_of, findings


def _walk(
    loader: yaml.CSafeLoader,
    node: yaml.Node,
    path: FieldPath,
    lines: dict[FieldPath, int],
    findings: list[Finding],
    origin: Origin,
) -> None:
    """Note the line of every field below ``node``; keys are noted by their text, as YAML 1.1 reads some as numbers."""
    lines.setdefault(path, node.start_mark.line + 1)
    if len(path) > MAX_DEPTH:
        findings.append(error("invalid-yaml", "the text is nested too deeply", origin.at(field_text(path[:3]))))
        return
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _walk(loader, item, (*path, index), lines, findings, origin)
        return
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, item in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            findings.append(error("invalid-yaml", "a key is not plain text", origin.at(field_text(path), line)))
            continue
        name = str(loader.construct_object(key)) if key.tag != "tag:yaml.org,2002:merge" else key.value
        below = (*path, name)
        if name in seen:
            message = f"{name} stands here twice; the first is in line {lines[below]}"
            findings.append(error("duplicate-key", message, origin.at(field_text(below), line), "remove one of them"))
        seen.add(name)
        lines[below] = line
        _walk(loader, item, below, lines, findings, origin)
