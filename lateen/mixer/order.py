"""What the control plane tells the mixer to do: one file of the run directory, written whole.

It holds the resources of config.istio.io that hold, and what is constant about each proxy. The mixer makes of it what
the control plane made of it, by the same code.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import msgspec

from lateen.expressions.functions import to_ip
from lateen.expressions.language import CEXL
from lateen.mesh.mixer.model import MixerRules
from lateen.mesh.mixer.names import asks_roles
from lateen.mesh.mixer.resolve import resolve
from lateen.plan.mixer.pods import Pod
from lateen.resources.base import Duration
from lateen.resources.decode import read_scalar
from lateen.resources.mixer.content import LANGUAGE, language_of
from lateen.resources.mixer.own import Description, know
from lateen.resources.registry import BY_GROUP_AND_NAME, MIXER, RBAC
from lateen.resources.resource import Resource
from lateen.values.names import Origin, ResourceKey

ADDRESS = "destination.ip"
KINDS = frozenset(name for group, name in BY_GROUP_AND_NAME if group == MIXER)
ROLES = frozenset({"ServiceRole", "ServiceRoleBinding"})


class OrderedResource(msgspec.Struct, frozen=True):
    """One resource, with its content as JSON. ``language``: what its expressions are written in."""

    key: ResourceKey
    origin: Origin
    spec: dict[str, Any]
    language: str = CEXL


class Place(msgspec.Struct, frozen=True):
    """What is constant about a proxy, and (``ports``) about each of its inbound ports: attributes by name.

    ``fail_open``: whether what no handler decides goes on; None: as it does elsewhere.
    """

    attributes: dict[str, Any] = {}
    ports: dict[str, dict[str, Any]] = {}
    fail_open: bool | None = None


class MixerOrder(msgspec.Struct, frozen=True):
    """``generation`` changes with the rest. ``workloads``: what is known of callers, by domain/namespace/workload.

    ``fetch_allowed``: networks that lists may be fetched from beside the public internet. ``redis``: where limits that
    all proxies count together are counted; empty: in memory. ``adapters`` are those that are installed beside Lateen.
    ``pods`` are what ``kubernetesenv`` knows, where rules name it.
    """

    generation: str = ""
    root_namespace: str = "istio-system"
    fail_open: bool = False
    fetch_allowed: tuple[str, ...] = ()
    redis: str = ""
    adapters: tuple[Description, ...] = ()
    resources: tuple[OrderedResource, ...] = ()
    places: dict[str, Place] = {}
    workloads: dict[str, dict[str, Any]] = {}
    pods: tuple[Pod, ...] = ()


def ordered(resources: Iterable[Resource]) -> tuple[OrderedResource, ...]:
    """The resources among these that are Mixer's; with the roles, where a handler asks for them."""
    found = tuple(resources)
    by_kind: dict[str, list[Resource]] = {}
    for one in found:
        by_kind.setdefault(one.key.kind, []).append(one)
    kinds = KINDS | ROLES if asks_roles(by_kind) else KINDS
    return tuple(
        OrderedResource(one.key, one.origin, msgspec.to_builtins(one.spec, enc_hook=_written), language_of(one))
        for one in found
        if one.key.kind in kinds
    )


def encoded(order: MixerOrder) -> bytes:
    """The file of an order."""
    return msgspec.json.encode(order, order="sorted", enc_hook=str)


def generation_of(order: MixerOrder) -> str:
    """A hash of all that an answer may depend on."""
    return blake2b(encoded(order), digest_size=8).hexdigest()


def rules_of(order: MixerOrder) -> MixerRules:
    """The rules that an order means. This process knows the order's adapters from now on."""
    know(order.adapters)
    by_kind: dict[str, list[Resource]] = {}
    for one in order.resources:
        struct = BY_GROUP_AND_NAME[(RBAC if one.key.kind in ROLES else MIXER, one.key.kind)].struct
        spec = msgspec.convert(one.spec, struct, dec_hook=read_scalar, str_keys=True)
        by_kind.setdefault(one.key.kind, []).append(
            Resource(one.key, one.origin, spec, annotations={LANGUAGE: one.language})
        )
    return resolve(by_kind, order.root_namespace)[0]


def _written(value: Any) -> Any:
    if isinstance(value, Duration):
        return f"{float(value):.9f}s"
    raise NotImplementedError(type(value))


def read_order(data: bytes) -> MixerOrder:
    """The order of a file. Raises ValueError if it is none."""
    order = msgspec.json.decode(data, type=MixerOrder)
    for place in order.places.values():
        if isinstance(place.attributes.get(ADDRESS), str):
            place.attributes[ADDRESS] = to_ip(place.attributes[ADDRESS])
    return order
