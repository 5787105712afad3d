"""Localities: which members a client prefers, and where it turns when these fail.

Comes in: endpoints by locality, the client's locality and labels, and the setting that holds. Goes out: the groups with
their priorities or weights. ``distribute`` gives each locality a share of the traffic; failover, which needs outlier
detection to notice that something fails, orders them: same subzone, same zone, same region, elsewhere, with the regions
that nobody fails over to last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from lateen.mesh.locality import locality_of
from lateen.mesh.model import Labels
from lateen.plan.clusters import Endpoint, LocalityEndpoints
from lateen.resources.destination_rule import (
    LoadBalancerSettings,
    LocalityDistribute,
    LocalityLbSetting,
)

NEAREST = LocalityLbSetting()
"""The nearest members, whether or not anything would notice that they fail."""


class Place(msgspec.Struct, frozen=True):
    """Where a client stands, and its labels."""

    locality: str = ""
    labels: Labels = ()


class Located(msgspec.Struct, frozen=True):
    """One endpoint with what decides on its preference."""

    endpoint: Endpoint
    locality: str
    labels: Labels


def place_of(labels: Labels) -> Place:
    """Where a client with these labels stands."""
    return Place(locality_of(labels), labels)


def setting_in_force(
    block: LoadBalancerSettings | None, mesh: LocalityLbSetting | None, *, prefers_close: bool
) -> LocalityLbSetting | None:
    """The DestinationRule's setting as a whole, else what the service prefers, else the mesh's; None where localities
    are not looked at."""
    own = block.locality_lb_setting if block is not None else None
    if own is None and prefers_close:
        return NEAREST
    chosen = own if own is not None else mesh or LocalityLbSetting()
    return None if chosen.enabled is False else chosen


def grouped(
    found: Iterable[Located], place: Place, setting: LocalityLbSetting | None, *, fails_over: bool
) -> tuple[LocalityEndpoints, ...]:
    """The endpoints by locality, in order of priority and name."""
    located = list(found)
    if setting is None or not place.locality:
        return _groups((one, 0) for one in located)
    if setting.distribute:
        return _distributed(located, place, setting.distribute)
    if not fails_over:
        return _groups((one, 0) for one in located)
    if setting.failover_priority:
        return _compact([(one, _by_labels(one, place, setting)) for one in located])
    return _compact([(one, _by_locality(one, place, setting)) for one in located])


def weighs(setting: LocalityLbSetting | None, place: Place, *, fails_over: bool) -> bool:
    """Whether the weights of localities count."""
    return setting is not None and bool(place.locality) and (bool(setting.distribute) or fails_over)


def _parts(locality: str) -> tuple[str, str, str]:
    region, zone, subzone = (*locality.split("/"), "", "", "")[:3]
    return region, zone, subzone


def _by_locality(one: Located, place: Place, setting: LocalityLbSetting) -> int:
    own, other = _parts(place.locality), _parts(one.locality)
    if own == other:
        return 0
    if own[:2] == other[:2]:
        return 1
    if own[0] == other[0]:
        return 2
    targets = [rule.to for rule in setting.failover if rule.from_ == own[0]]
    return 4 if targets and other[0] not in targets else 3


def _by_labels(one: Located, place: Place, setting: LocalityLbSetting) -> int:
    """How many labels are missing from the first on: members that agree in all of them come first."""
    own, other = dict(place.labels), dict(one.labels)
    matched = 0
    for entry in setting.failover_priority:
        name, fixed, value = entry.partition("=")
        wanted = value if fixed else own.get(name)
        if other.get(name) != wanted:
            break
        matched += 1
    tier = len(setting.failover_priority) - matched
    targets = [rule.to for rule in setting.failover if rule.from_ == _parts(place.locality)[0]]
    if not targets:
        return tier
    return tier * 5 + _by_locality(one, place, setting)


def _compact(ranked: Sequence[tuple[Located, int]]) -> tuple[LocalityEndpoints, ...]:
    """Priorities without gaps, as Envoy wants them."""
    order = {rank: place for place, rank in enumerate(sorted({rank for _, rank in ranked}))}
    return _groups(((one, order[rank]) for one, rank in ranked), weighted=True)


def _groups(ranked: Iterable[tuple[Located, int]], *, weighted: bool = False) -> tuple[LocalityEndpoints, ...]:
    groups: dict[tuple[int, str], list[Endpoint]] = {}
    for one, priority in ranked:
        groups.setdefault((priority, one.locality), []).append(one.endpoint)
    return tuple(
        LocalityEndpoints(
            locality, tuple(endpoints), priority, sum(found.weight for found in endpoints) if weighted else None
        )
        for (priority, locality), endpoints in sorted(groups.items(), key=lambda item: item[0])
    )


def _distributed(
    located: Sequence[Located], place: Place, rules: Iterable[LocalityDistribute]
) -> tuple[LocalityEndpoints, ...]:
    """Each locality gets its part of the share of the entry that names it; those that no entry names get nothing."""
    rule = next((rule for rule in rules if _within(place.locality, rule.from_)), None)
    groups = _groups(((one, 0) for one in located), weighted=True)
    if rule is None:
        return tuple(msgspec.structs.replace(group, weight=None) for group in groups)
    shares: list[tuple[LocalityEndpoints, str]] = []
    for group in groups:
        entry = next((to for to in sorted(rule.to, key=_specific) if _within(group.locality, to)), None)
        if entry is not None:
            shares.append((group, entry))
    totals: dict[str, int] = {}
    for group, entry in shares:
        totals[entry] = totals.get(entry, 0) + (group.weight or 1)
    return tuple(
        msgspec.structs.replace(
            group, weight=max(1, round(rule.to[entry] * 1000 * (group.weight or 1) / totals[entry]))
        )
        for group, entry in shares
    )


def _specific(pattern: str) -> tuple[int, str]:
    return (-len([part for part in pattern.split("/") if part != "*"]), pattern)


def _within(locality: str, pattern: str) -> bool:
    """Whether a locality lies in ``region/zone/*``, ``region/zone/subzone`` or a shorter form."""
    wanted = [part for part in pattern.split("/") if part]
    present = locality.split("/")
    for index, part in enumerate(wanted):
        if part == "*":
            return True
        if index >= len(present) or present[index] != part:
            return False
    return True
