"""The page on Mixer's kinds, adapters, templates, functions and attributes, from the code's tables."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping

import msgspec
from msgspec.structs import fields

from lateen.expressions.functions import FUNCTIONS, Signature
from lateen.expressions.vocabulary import BUILT_IN, ValueType
from lateen.mesh.build import build_snapshot
from lateen.mesh.model import Workload
from lateen.mixer import check_bag, report_bag
from lateen.mixer.bags import OF_TOKENS
from lateen.mixer.inputs import BY_API
from lateen.plan.mixer.place import port_attributes, proxy_attributes, workload_attributes
from lateen.plan.planner import proxy_of
from lateen.resources.base import Duration, Spec
from lateen.resources.mixer.adapters import ADAPTERS, ALL_TEMPLATES
from lateen.resources.mixer.kinds import HandlerSpec, InstanceSpec, RuleSpec
from lateen.resources.mixer.templates import ANY, OUT, TEMPLATES, TEXT, Template
from lateen.resources.registry import KINDS, MIXER
from lateen.resources.support import UNSUPPORTED, WITHOUT_MEANING
from lateen.settings import Settings

PAGE = """# Mixer: kinds, adapters, templates, expressions

Generated from the code (`python -m docs.generate`). How to use them: [Rules of Mixer](../how-to/mixer.md). Field
names are read in both spellings: `validDuration` and `valid_duration`.

## Kinds of `config.istio.io/v1alpha2`

| Kind | What it is for |
|---|---|
%(kinds)s
The older form has a kind for each adapter (`kind: denier`, for a handler) and each template (`kind: checknothing`,
for an instance), with the parameters right under `spec`.

- Fields of `handler`: %(handler)s.
- Fields of `instance`: %(instance)s.
- Fields of `rule`: %(rule)s; `name` of an action is refused. `sampling` thins out reports, not checks.

## Adapters

| Adapter | Takes | Parameters |
|---|---|---|
%(adapters)s
The annotation `lateen.io/counted-by: proxy` on a handler of `memquota` has each proxy count by itself, where it can;
`mixer` is what holds without it.

Refused, with what does their job:

| Adapter | In its place |
|---|---|
%(gone)s
## Templates

Each field is an expression; a field of type `any` takes values of all types, one of `map` names with expressions of
any type.

| Template | Variety | Fields |
|---|---|---|
%(templates)s
## Expressions

The syntax is Go's: texts (`"a"`, `` `a` ``), integers, floating-point numbers, `true`, `false`; `==` `!=` `<` `<=`
`>` `>=` `&&` `||` `!` `+`, parentheses; `m["key"]` is an entry of a map; `a | b` is `a`, or `b` where `a` is
absent. Durations are texts (`"10ms"`) where a duration belongs. An attribute that is absent is a failure of the
whole but for `|`: such a match does not hold. An entry that a map lacks is an empty text, but absent at the left of
`|`: `request.headers["x-pass"] != "a"` holds where there is no such header. An expression may have
8192 characters, 50 levels of parentheses and 200 operators within one another.

| Function | Result |
|---|---|
%(functions)s
`match` takes `prefix*`, `*suffix` or the whole text. The receiver of `matches` is the pattern, of RE2, which may
match any part. Addresses, times, DNS names, e-mail addresses and URIs are compared as what they are.

With the annotation `policy.istio.io/lang: CEL`, the expressions of a rule or an instance are CEL: operators as
above, without `|`; `test ? a : b`; `x in ["a", "b"]`; `"key" in map`; `has(map.key)`, `has(attribute)` for all but
maps; `map.key`; the methods `startsWith`, `endsWith`, `contains` (a literal), `matches` (here the argument is the
pattern), `size`; `duration("10ms")`; the functions above that are no methods. As in CEL, `&&` and `||` do not mind a
side that is absent, or fails, where the other one decides. Macros, lists elsewhere, null, unsigned numbers, bytes,
other arithmetic and conversions are refused.

## Attributes

`check` and `report`: whether checks and reports tell it. One that is told by neither is absent unless an instance of
`kubernetes` binds it: give another by `|`. Attributes of `source` are those of the caller's certificate, and of its
workload where its sidecar named it.

| Attribute | Type | check | report |
|---|---|---|---|
%(attributes)s"""
PURPOSES: Mapping[str, str] = {
    "handler": "an adapter with its parameters",
    "instance": "a template, filled with expressions",
    "rule": "which handlers are given which instances, and when; operations on headers",
    "attributemanifest": "further attributes and their types",
    "QuotaSpec": "which requests are charged to which quotas, and how much",
    "QuotaSpecBinding": "to which services a QuotaSpec belongs",
    "HTTPAPISpec": "which attributes requests to an API have by their paths, and where its keys are",
    "HTTPAPISpecBinding": "to which services an HTTPAPISpec belongs",
    "adapter": "an adapter outside Mixer, which answers over gRPC: its templates, and the type of its parameters",
    "template": "a template that is known here anyway; others are refused",
}
_WORDS: Mapping[object, str] = {
    str: "text",
    int: "number",
    float: "number",
    bool: "true or false",
    Duration: "duration",
}


def mixer() -> str:
    """The page ``docs/reference/mixer.md``."""
    return PAGE % {
        "kinds": "".join(_kinds()),
        "handler": _names(HandlerSpec, {"name"}),
        "instance": _names(InstanceSpec, {"name"}),
        "rule": _names(RuleSpec, set()),
        "adapters": "".join(
            f"| `{one.name}` | {_templates(one.templates)} | {_parameters(one.params)} |\n"
            for one in ADAPTERS.values()
            if one.params is not None
        ),
        "gone": "".join(f"| `{one.name}` | {one.remedy} |\n" for one in ADAPTERS.values() if one.params is None),
        "templates": "".join(_template(one) for one in TEMPLATES.values()),
        "functions": "".join(_function(name, one) for name, one in sorted(FUNCTIONS.items())),
        "attributes": "".join(_attributes()),
    }


def _kinds() -> Iterable[str]:
    for kind in KINDS:
        if kind.group != MIXER or kind.name in ADAPTERS or kind.name in TEMPLATES:
            continue
        if kind.name in UNSUPPORTED:
            yield f"| `{kind.name}` | {PURPOSES[kind.name]} |\n"
        else:
            why, instead = WITHOUT_MEANING[kind.name]
            yield f"| `{kind.name}` | refused, as {why}: {instead} |\n"


def _names(struct: type[Spec], without: set[str]) -> str:
    return ", ".join(f"`{field.encode_name}`" for field in fields(struct) if field.encode_name not in without)


def _templates(found: frozenset[str]) -> str:
    if found >= ALL_TEMPLATES:
        return "all"
    return ", ".join(f"`{name}`" for name in sorted(found))


def _parameters(struct: type[Spec] | None) -> str:
    if struct is None or not fields(struct):
        return "none"
    return ", ".join(_leaves(struct, ""))


def _leaves(struct: type[Spec], prefix: str) -> Iterable[str]:
    for field in fields(struct):
        name = f"{prefix}{field.encode_name}"
        below, shape = _inner(field.type)
        if isinstance(below, type) and issubclass(below, msgspec.Struct):
            yield from _leaves(below, f"{name}{shape}.")
        elif typing.get_origin(below) is typing.Literal:
            values = " ".join(str(value) for value in typing.get_args(below))
            yield f"`{name}{shape}` ({values})"
        else:
            yield f"`{name}{shape}` ({_WORDS.get(below, 'text')})"


def _inner(kind: object) -> tuple[object, str]:
    """What a field holds in the end, and how it is reached: ``[]`` or ``{}``."""
    arguments = [one for one in typing.get_args(kind) if one is not type(None)]
    origin = typing.get_origin(kind)
    if origin is tuple:
        return _inner(arguments[0])[0], "[]"
    if origin is dict:
        return _inner(arguments[1])[0], "{}"
    if origin is typing.Annotated:
        return _inner(arguments[0])
    if origin is typing.Literal or not arguments:
        return kind, ""
    return _inner(arguments[0])


def _template(template: Template) -> str:
    found = ", ".join(_expressions(template.params, "", template.types)) or "none"
    if template.outputs:
        found += "; finds " + ", ".join(
            f"`{OUT}{name}`" + ("" if kind is ValueType.STRING else f" ({kind.value})")
            for name, kind in template.outputs.items()
        )
    return f"| `{template.name}` | {template.variety.value} | {found} |\n"


def _expressions(struct: type[Spec], prefix: str, types: Mapping[str, tuple[ValueType, ...]]) -> Iterable[str]:
    for field in fields(struct):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from _expressions(field.type, f"{prefix}{field.encode_name}.", {})
        elif field.name != "attribute_bindings":
            wanted = types.get(field.name, TEXT)
            kind = "any" if wanted == ANY else " or ".join(one.value for one in wanted)
            is_map = typing.get_origin(field.type) is dict
            yield f"`{prefix}{field.encode_name}`" + (" (map)" if is_map else "" if wanted == TEXT else f" ({kind})")


def _function(name: str, signature: Signature) -> str:
    kinds = [kind.value if kind is not None else "any" for kind in signature.arguments]
    call = f"{kinds[0]}.{name}({', '.join(kinds[1:])})" if signature.method else f"{name}({', '.join(kinds)})"
    return f"| `{call}` | {signature.result.value if signature.result is not None else 'any'} |\n"


def _attributes() -> Iterable[str]:
    workload = Workload("a-0", "default", "a", (), "a", "10.0.0.1", ())
    snapshot = build_snapshot(Settings(), [], [workload])
    proxy = proxy_of(workload)
    always = {
        *proxy_attributes(snapshot, proxy),
        *port_attributes(snapshot, proxy, (), 80),
        *workload_attributes("source", "", "default", "a", ()),
        "source.serviceAccount",
    }
    for name, kind in sorted(BUILT_IN.items()):
        sides = (check_bag.ATTRIBUTES, report_bag.ATTRIBUTES)
        told = [
            "by HTTPAPISpec"
            if name in BY_API
            else "of tokens"
            if name in OF_TOKENS
            else "yes"
            if name in always | side
            else ""
            for side in sides
        ]
        yield f"| `{name}` | {kind.value} | {told[0]} | {told[1]} |\n"
