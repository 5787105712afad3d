"""Documents that have something wrong with them, without what has nothing to do with it.

Hypothesis makes what it found smaller in hundreds of steps, which takes too long where a step starts an Envoy. Here a
document, a field or an entry of a list is left out at a time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

HEAD = ("apiVersion", "kind", "metadata")
Documents = list[dict[str, Any]]


def smallest(documents: Documents, is_wrong: Callable[[Documents], bool]) -> Documents:
    """The documents with as much left out as can be. ``is_wrong`` says whether what is left is still wrong."""
    found = True
    while found:
        found = False
        for path in _paths(documents):
            less = _without(documents, path)
            if less and is_wrong(less):
                documents, found = less, True
                break
    return documents


def _paths(documents: Documents) -> Iterator[tuple[Any, ...]]:
    """Of what can be left out: the large things first."""
    level: list[tuple[tuple[Any, ...], Any]] = [((), documents)]
    while level:
        below = []
        for path, value in level:
            keys = list(value) if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
            for key in keys:
                if len(path) != 1 or key not in HEAD:
                    yield (*path, key)
                    below.append(((*path, key), value[key]))
        level = below


def _without(documents: Documents, path: tuple[Any, ...]) -> Documents:
    less = copy.deepcopy(documents)
    place: Any = less
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return less
