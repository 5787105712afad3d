"""Our validator against verdicts from outside the project; the cases stand beside the repository, not in it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from lateen.resources.judge import judge

CASES = Path(__file__).parents[3] / "shared" / "conformance" / "validation"
FLOOR = 98
"""Per cent of all cases; a case whose document was mangled on its way here stays a failure."""

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the conformance cases are not beside this repository")


def _verdict(case: dict[str, Any], kind: str) -> str:
    verdicts = judge(yaml.safe_dump(case["object"], sort_keys=False).encode(), "case.yaml", kind=kind)
    assert len(verdicts) == 1
    severities = {finding.severity.value for finding in verdicts[0].findings}
    if "error" in severities:
        return "invalid"
    return "warning" if "warning" in severities else "valid"


def _agrees(case: dict[str, Any], got: str) -> bool:
    want = case["expect"]
    return got == want or (want == "valid" and got == "warning" and not case.get("warnings_checked"))


def test_verdicts_agree_with_the_cases_from_outside() -> None:
    counts: Counter[str] = Counter()
    failures = []
    for path in sorted(CASES.glob("*.yaml")):
        content = yaml.safe_load(path.read_text())
        kind = content["kind"]
        hint = kind if kind in ("MeshConfig", "MeshNetworks") else ""
        for case in content["cases"]:
            if case.get("schema_rejects"):
                continue
            got = _verdict(case, hint)
            agrees = _agrees(case, got)
            counts["good" if agrees else "bad"] += 1
            if not agrees:
                failures.append(f"{kind}/{case['name']}: want {case['expect']}, got {got}")
    assert counts["good"] * 100 >= FLOOR * counts.total() > 0, "\n".join(failures)
