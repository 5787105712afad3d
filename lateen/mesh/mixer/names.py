"""What the names in rules of Mixer mean.

A name means what stands in the rule's own namespace; ``name.namespace`` what stands there; of the older form
``name.kind`` and ``name.kind.namespace``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from lateen.resources.mixer.adapters import ADAPTERS
from lateen.resources.mixer.kinds import HandlerSpec, RuleSpec
from lateen.resources.mixer.templates import TEMPLATES
from lateen.resources.resource import Resource
from lateen.values.names import ResourceKey

HANDLER, INSTANCE = "handler", "instance"
RBAC, ADAPTER = "rbac", "adapter"
HANDLER_KINDS = (HANDLER, *ADAPTERS)
INSTANCE_KINDS = (INSTANCE, *TEMPLATES)
MANIFEST = "attributemanifest"
QUOTA_SPEC = "QuotaSpec"
MIXER_KINDS = frozenset(
    {
        *HANDLER_KINDS,
        *INSTANCE_KINDS,
        "rule",
        ADAPTER,
        MANIFEST,
        QUOTA_SPEC,
        "QuotaSpecBinding",
        "HTTPAPISpec",
        "HTTPAPISpecBinding",
    }
)
"""All that rules are made of."""
_KINDS = {HANDLER: HANDLER_KINDS, INSTANCE: INSTANCE_KINDS}


class NameInRule(msgspec.Struct, frozen=True):
    """A name that a rule has: where it stands, and what it is of (``handler`` or ``instance``)."""

    field: str
    name: str
    what: str


def names_in(spec: RuleSpec) -> Iterator[NameInRule]:
    """Every handler and instance that a rule names."""
    for index, action in enumerate(spec.actions):
        place = f"spec.actions[{index}]"
        yield NameInRule(f"{place}.handler", action.handler, HANDLER)
        for number, name in enumerate(action.instances):
            yield NameInRule(f"{place}.instances[{number}]", name, INSTANCE)


def meant(named: NameInRule, namespace: str, present: Mapping[ResourceKey, Resource]) -> Resource | None:
    """The resource that a name in a rule of this namespace means; None if there is none."""
    kinds = _KINDS[named.what]
    for kind, home, short in _readings(named.name, namespace, kinds):
        for one in kinds if kind == "" else (kind,):
            found = present.get(ResourceKey(one, home, short))
            if found is not None:
                return found
    return None


def asks_roles(by_kind: Mapping[str, Sequence[Resource]]) -> bool:
    """Whether there is a handler of the adapter that decides by ServiceRoles."""
    return bool(by_kind.get(RBAC)) or any(
        RBAC in (one.spec.compiled_adapter, one.spec.adapter) for one in by_kind.get(HANDLER, ())
    )


def adapter_outside(handler: Resource) -> str:
    """The adapter outside Mixer that a handler names, as NAME or NAME.NAMESPACE; empty if none."""
    spec = handler.spec
    if not isinstance(spec, HandlerSpec) or spec.connection is None or spec.compiled_adapter:
        return ""
    return spec.adapter


def described_by(name: str, namespace: str, adapters: Mapping[ResourceKey, Resource]) -> Resource | None:
    """The resource of the adapter that a handler of this namespace names; None if there is none."""
    first, _, home = name.rpartition(".")
    return adapters.get(ResourceKey(ADAPTER, namespace, name)) or adapters.get(ResourceKey(ADAPTER, home, first))


def full_name(resource: Resource) -> str:
    """The name as messages say it, with its namespace: ``deny.denier.default``, or ``deny.default``."""
    kind = "" if resource.key.kind in (HANDLER, INSTANCE) else f".{resource.key.kind}"
    return f"{resource.key.name}{kind}.{resource.key.namespace}"


def _readings(name: str, namespace: str, known: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """What a name may mean: (kind, namespace, name), the likeliest first; no kind: any of them."""
    yield "", namespace, name
    parts = name.rsplit(".", 2)
    if len(parts) == 3 and parts[1] in known:
        yield parts[1], parts[2], parts[0]
    rest, dot, last = name.rpartition(".")
    if dot and last in known:
        yield last, namespace, rest
    if dot:
        yield "", last, rest
