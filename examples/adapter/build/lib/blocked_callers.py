"""Two adapters of Mixer: one asks a database whether somebody is blocked, one counts what is reported."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from lateen.mixer.adapter import PERMISSION_DENIED, CheckAdapter, CheckResult, ReportAdapter


class Blocked(CheckAdapter):
    """Refuses the names that the table ``blocked`` has."""

    templates = frozenset({"listentry"})
    blocking = True  # sqlite3 waits for the disk: the methods are ordinary functions, called in threads

    class Params(msgspec.Struct, frozen=True):
        """``good_for``: for how many seconds a verdict may be kept."""

        database: str
        good_for: float = 5.0

    def __init__(self, params: Params) -> None:
        self._params = params

    def check(self, instance: Any) -> CheckResult:  # type: ignore[override]
        with closing(sqlite3.connect(f"file:{self._params.database}?mode=ro", uri=True)) as database:
            row = database.execute("SELECT why FROM blocked WHERE name = ?", (str(instance.value),)).fetchone()
        if row is None:
            return CheckResult(valid=self._params.good_for)
        return CheckResult(PERMISSION_DENIED, row[0], valid=self._params.good_for)


class Tally(ReportAdapter):
    """Counts instances by a dimension, and keeps the counts in a file."""

    templates = frozenset({"metric"})

    class Params(msgspec.Struct, frozen=True):
        file: str
        dimension: str = "code"

    def __init__(self, params: Params) -> None:
        self._params = params
        self._counts: Counter[str] = Counter()

    async def report(self, template: str, instances: Sequence[Any]) -> None:
        self._counts.update(str(instance.dimensions.get(self._params.dimension)) for instance in instances)
        Path(self._params.file).write_text(json.dumps(self._counts))
