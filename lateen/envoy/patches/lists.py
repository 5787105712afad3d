"""Operations on lists of things with names: filters, chains, virtual hosts, routes, clusters.

Comes in: a repeated field and patches. Goes out: the field changed, and which patches did it. An insertion that names
nothing to stand beside stands first (INSERT_BEFORE) or last (INSERT_AFTER).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from lateen.envoy.patches.merging import merge
from lateen.envoy.patches.values import message_of
from lateen.plan.patch_values import Patch

Applied = set[Patch]
ADDING = frozenset({"ADD", "INSERT_FIRST", "INSERT_BEFORE", "INSERT_AFTER", "REPLACE"})
MERGING = frozenset({"MERGE", "MERGE_AND_REPLACE_LIST"})


def value_of(patch: Patch) -> Any:
    """A copy of the patch's message, to be changed at will."""
    shared = message_of(patch.apply_to, patch.value)
    copy = type(shared)()
    copy.CopyFrom(shared)
    return copy


def merge_patch(target: Any, patch: Patch) -> None:
    source, written = message_of(patch.apply_to, patch.value), json.loads(patch.value)
    merge(target, source, written, replace_lists=patch.operation == "MERGE_AND_REPLACE_LIST")


def insert(
    entries: Any, patch: Patch, value: Any, matches: Callable[[Any], bool], end: int | None = None, *, named: bool
) -> bool:
    """Bring a value in where the patch says. ``end``: where ADD puts it; ``named``: the patch names a neighbour."""
    places = [index for index, entry in enumerate(entries) if named and matches(entry)]
    if patch.operation == "ADD":
        _put(entries, len(entries) if end is None else end, value)
    elif patch.operation == "INSERT_FIRST" or (patch.operation == "INSERT_BEFORE" and not named):
        _put(entries, 0, value)
    elif patch.operation == "INSERT_AFTER" and not named:
        _put(entries, len(entries) if end is None else end, value)
    elif not places:
        return False
    elif patch.operation == "INSERT_BEFORE":
        _put(entries, places[0], value)
    elif patch.operation == "INSERT_AFTER":
        _put(entries, places[-1] + 1, value)
    else:
        for index in reversed(places):
            del entries[index]
        _put(entries, places[0], value)
    return True


def _put(entries: Any, index: int, value: Any) -> None:
    behind = list(entries[index:])
    del entries[index:]
    entries.append(value)
    entries.extend(behind)


def remove_and_merge(
    entries: Any, patches: Iterable[Patch], matches: Callable[[Patch, Any], bool], applied: Applied
) -> None:
    """REMOVE and MERGE on every entry that a patch matches, in the order of the patches."""
    for patch in patches:
        for index in reversed(range(len(entries))):
            if patch.operation not in MERGING and patch.operation != "REMOVE":
                break
            if not matches(patch, entries[index]):
                continue
            applied.add(patch)
            if patch.operation == "REMOVE":
                del entries[index]
            else:
                merge_patch(entries[index], patch)
