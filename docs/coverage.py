"""The table from field to test: what shows that a field of a resource does what it should.

Comes in: the structs of the kinds, the golden cases and the ``covers`` marks of tests. Goes out: the page
``docs/reference/coverage.md``; ``python -m docs.generate`` writes it. A field counts as shown by a golden case that
sets it, by a live test that names it, or is refused (``support.py``).
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import inspect

from lateen.resources.fields import set_fields
from lateen.resources.mesh_support import PROXY_CONFIG
from lateen.resources.registry import KINDS, Kind
from lateen.resources.support import UNSUPPORTED
from tests.golden.fields.golden import cases, resources_of

ROOT = Path(__file__).parents[1]
TRAFFIC = (
    "VirtualService", "DestinationRule", "Gateway", "ServiceEntry", "WorkloadEntry", "WorkloadGroup", "Sidecar",
    "EnvoyFilter", "ProxyConfig", "RequestAuthentication", "RateLimit", "Telemetry",
)  # fmt: skip
INVALID: dict[str, frozenset[str]] = {
    "Sidecar": frozenset(
        {
            "ingress[].port.targetPort",
            "egress[].port.targetPort",
            "ingress[].tls.subjectAltNames",
            "ingress[].tls.httpsRedirect",
            "ingress[].tls.credentialName",
            "ingress[].tls.credentialNames",
            "ingress[].tls.tlsCertificates",
        }
    ),
}
"""Fields that are wrong wherever they stand, by Istio's own rules: ``validate_resource`` refuses them."""
HEAD = """# From field to test

This page is generated (`python -m docs.generate`). For each field of the traffic kinds: the golden cases
(`tests/golden/fields/cases`) that set it, and the tests with live traffic on the real Envoy that show what it does. A
field that only holds others is left out.
"""


class Shown(NamedTuple):
    """By kind and field: the golden cases, and the live tests as ``file::name``."""

    golden: dict[tuple[str, str], list[str]]
    live: dict[tuple[str, str], list[str]]


def leaves(kind: Kind) -> list[str]:
    """Every field of a kind that holds a value, as a path with ``[]`` for lists and ``{}`` for maps."""
    return sorted(set(_leaves(inspect.type_info(kind.struct), "", ())))


def _leaves(found: Any, path: str, above: tuple[type, ...]) -> Iterator[str]:
    if isinstance(found, inspect.UnionType):
        for part in found.types:
            if not isinstance(part, inspect.NoneType):
                yield from _leaves(part, path, above)
    elif isinstance(found, inspect.StructType):
        if found.cls in above or not found.fields:
            yield path
        for field in found.fields if found.cls not in above else ():
            yield from _leaves(field.type, f"{path}.{field.encode_name}".lstrip("."), (*above, found.cls))
    elif isinstance(found, inspect.VarTupleType) and _holds_struct(found.item_type):
        yield from _leaves(found.item_type, f"{path}[]", above)
    elif isinstance(found, inspect.DictType) and _holds_struct(found.value_type):
        yield from _leaves(found.value_type, f"{path}{{}}", above)
    else:
        yield path


def _holds_struct(found: Any) -> bool:
    parts = found.types if isinstance(found, inspect.UnionType) else (found,)
    return any(isinstance(part, inspect.StructType) for part in parts)


def shown() -> Shown:
    """What golden cases set and what live tests name."""
    result = Shown(defaultdict(list), defaultdict(list))
    for case in cases():
        for resource in resources_of(case)[1]:
            for _, shape, _ in set_fields(resource.spec):
                known = result.golden[resource.key.kind, shape]
                if case not in known:
                    known.append(case)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, field in _marks(ast.parse(path.read_text())):
            kind, _, shape = field.partition(" ")
            result.live[kind, shape].append(f"{path.relative_to(ROOT / 'tests')}::{name}")
    return result


def _marks(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(test, field) for each ``covers`` mark; module constants may stand in its texts."""
    known = {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            continue
        for mark in node.decorator_list:
            if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Attribute) and mark.func.attr == "covers":
                for argument in mark.args:
                    yield node.name, _text(argument, known)


def _text(node: ast.expr, known: Mapping[str, Any]) -> str:
    """A string, with the names of constants in an f-string replaced."""
    if isinstance(node, ast.JoinedStr):
        return "".join(
            _text(part.value if isinstance(part, ast.FormattedValue) else part, known) for part in node.values
        )
    if isinstance(node, ast.Name):
        return str(known[node.id])
    return str(ast.literal_eval(node))


def unknown_marks() -> list[str]:
    """Marks that name no field of a kind, which would cover nothing."""
    known = {(kind.name, shape) for kind in KINDS for shape in _shapes(kind)}
    return sorted(
        f"{tests[0]} {kind} {shape}"
        for (kind, shape), tests in shown().live.items()
        if kind in {found.name for found in KINDS} and (kind, shape) not in known
    )


def _shapes(kind: Kind) -> Iterator[str]:
    """Every leaf and everything above it."""
    for leaf in leaves(kind):
        parts = leaf.split(".")
        for end in range(1, len(parts) + 1):
            whole = ".".join(parts[:end])
            yield from (whole, whole.removesuffix("[]").removesuffix("{}"))


def _below(table: dict[tuple[str, str], list[str]], kind: str, leaf: str) -> list[str]:
    """The tests that name a field, or one above it."""
    parts = leaf.split(".")
    found: list[str] = []
    for end in range(len(parts), 0, -1):
        whole = ".".join(parts[:end])
        for name in dict.fromkeys((whole, whole.removesuffix("[]").removesuffix("{}"))):
            found.extend(test for test in table.get((kind, name), ()) if test not in found)
    return found


def coverage() -> str:
    """The page."""
    found = shown()
    parts = [HEAD]
    for kind in KINDS:
        if kind.name not in TRAFFIC:
            continue
        refused = _refused(kind.name)
        if refused is None:
            parts.append(f"\n## {kind.name}\n\nThe kind is refused as a whole.\n")
            continue
        parts.append(f"\n## {kind.name}\n\n| Field | Golden cases | Live tests |\n|---|---|---|\n")
        parts.extend(_row(kind.name, leaf, refused, found) for leaf in leaves(kind))
    return "".join(parts)


def _refused(kind: str) -> frozenset[str] | None:
    """The fields of a kind that have no effect, each with a finding; None: the kind is refused."""
    known = UNSUPPORTED.get(kind)
    if known is None:
        return None
    return known | INVALID.get(kind, frozenset()) | (frozenset(PROXY_CONFIG) if kind == "ProxyConfig" else frozenset())


def _is_refused(leaf: str, refused: frozenset[str]) -> bool:
    return any(leaf == field or leaf.startswith((f"{field}.", f"{field}[", f"{field}{{")) for field in refused)


def _row(kind: str, leaf: str, refused: frozenset[str], found: Shown) -> str:
    if _is_refused(leaf, refused):
        return f"| `{leaf}` | refused | |\n"
    golden = ", ".join(f"`{name}`" for name in found.golden.get((kind, leaf), ())[:2])
    live = ", ".join(f"`{name}`" for name in _below(found.live, kind, leaf)[:2])
    return f"| `{leaf}` | {golden} | {live} |\n"


def uncovered() -> list[str]:
    """Supported fields that neither a golden case nor a live test shows."""
    found = shown()
    return [
        f"{kind.name} {leaf}"
        for kind in KINDS
        if kind.name in TRAFFIC and (refused := _refused(kind.name)) is not None
        for leaf in leaves(kind)
        if not _is_refused(leaf, refused)
        and not found.golden.get((kind.name, leaf))
        and not _below(found.live, kind.name, leaf)
    ]
