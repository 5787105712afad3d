"""What a handler or an instance says, whichever of the two forms it is written in.

Comes in: a resource of kind handler or instance, or of a kind that is named for its adapter (``denier``) or its
template (``checknothing``). Goes out: adapter or template with typed parameters, or what is wrong.
"""

from __future__ import annotations

import difflib
from typing import Any

import msgspec

from lateen.expressions.language import CEXL
from lateen.resources.base import Spec
from lateen.resources.mixer.adapters import ADAPTERS, OWN, AdapterKind, adapter_named
from lateen.resources.mixer.kinds import HandlerSpec, InstanceSpec
from lateen.resources.mixer.outside import OutsideParams, outside, short_name
from lateen.resources.mixer.templates import TEMPLATES, KubernetesParams, Template
from lateen.resources.resource import Resource
from lateen.resources.shape import Problem, walk

LANGUAGE = "policy.istio.io/lang"
"""The annotation that says what expressions are written in."""
COUNTED_BY = "lateen.io/counted-by"
"""The annotation of a memquota that says who counts."""
PROXY, MIXER = "proxy", "mixer"


def language_of(resource: Resource) -> str:
    """What the expressions of a resource are written in."""
    return resource.annotations.get(LANGUAGE, CEXL)


def is_counted_by_proxies(resource: Resource) -> bool:
    """Whether each proxy counts by itself, in place of the mixer for all."""
    return resource.annotations.get(COUNTED_BY) == PROXY


class HandlerContent(msgspec.Struct, frozen=True):
    """``place`` is the path of the parameters, as ``spec.params``."""

    adapter: AdapterKind
    params: Spec
    place: str


class InstanceContent(msgspec.Struct, frozen=True):
    """``bindings``: which attributes take which outputs (``$out.pod_ip``) of an attribute generator."""

    template: Template
    params: Spec
    place: str
    bindings: dict[str, str] = {}


def handler_content(resource: Resource) -> HandlerContent | list[Problem]:
    """Adapter and parameters of a handler."""
    spec = resource.spec
    if not isinstance(spec, HandlerSpec):
        own = ADAPTERS[resource.key.kind]
        return HandlerContent(own, spec, "spec") if own.params is not None else [_gone(own, "kind")]
    name, place = spec.compiled_adapter or spec.adapter, _field(spec.compiled_adapter, "compiledAdapter", "adapter")
    if spec.connection is not None and spec.adapter and not spec.compiled_adapter:
        return HandlerContent(outside(spec.adapter), OutsideParams(spec.connection, spec.params or {}), "spec")
    kind = adapter_named(name)
    if kind is None:
        what = f"there is no adapter {name}" if name else "no adapter is named"
        near = difflib.get_close_matches(name, (*ADAPTERS, *OWN), 1)
        remedy = f"did you mean {near[0]}?" if near else "docs/reference/mixer.md lists them"
        if spec.adapter and not near:
            remedy = "give connection, for an adapter outside Mixer, or write one that docs/reference/mixer.md lists"
        return [Problem("unknown-adapter", what, place, remedy)]
    if kind.params is None:
        return [_gone(kind, place)]
    params = _params(spec.params, kind.params)
    return HandlerContent(kind, params, "spec.params") if isinstance(params, Spec) else params


def instance_content(resource: Resource) -> InstanceContent | list[Problem]:
    """Template and parameters of an instance."""
    spec = resource.spec
    if not isinstance(spec, InstanceSpec):
        template = TEMPLATES[resource.key.kind]
        bindings = spec.attribute_bindings if isinstance(spec, KubernetesParams) else {}
        return InstanceContent(template, spec, "spec", bindings)
    name, place = (
        spec.compiled_template or spec.template,
        _field(spec.compiled_template, "compiledTemplate", "template"),
    )
    known = TEMPLATES.get(short_name(name))
    if known is None:
        what = f"there is no template {name}" if name else "no template is named"
        return [Problem("unknown-template", what, place, f"the templates are {', '.join(sorted(TEMPLATES))}")]
    params = _params(spec.params, known.params)
    if not isinstance(params, Spec):
        return params
    below = params.attribute_bindings if isinstance(params, KubernetesParams) else {}
    return InstanceContent(known, params, "spec.params", {**below, **spec.attribute_bindings})


def _gone(kind: AdapterKind, place: str) -> Problem:
    return Problem("unsupported-adapter", f"Lateen has no adapter {kind.name}", place, kind.remedy)


def _field(value: str, first: str, second: str) -> str:
    return f"spec.{first if value else second}"


def _params(value: dict[str, Any] | None, struct: type[Spec]) -> Spec | list[Problem]:
    from lateen.resources.decode import read_scalar

    cleaned, problems = walk(value or {}, struct, "spec.params")
    if problems:
        return problems
    try:
        return msgspec.convert(cleaned, struct, dec_hook=read_scalar, str_keys=True)
    except (msgspec.ValidationError, ValueError) as problem:
        return [Problem("invalid-value", str(problem), "spec.params")]
