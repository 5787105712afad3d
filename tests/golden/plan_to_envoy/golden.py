"""The golden files of the seam plan -> Envoy: one JSON file for each case, in protobuf JSON."""

from __future__ import annotations

import json
from pathlib import Path

from lateen.envoy.static import to_json
from lateen.envoy.translate import translate
from lateen.plan.model import ProxyPlan
from tests.golden.plan_to_envoy.cases import CASES
from tests.golden.writing import rewrite_folder

FOLDER = Path(__file__).parent / "expected"


def rendered(plan: ProxyPlan) -> str:
    """What the plan becomes, with the references between resources, as the file holds it."""
    resources = translate(plan)
    references = {
        f"{type_url.rsplit('.', 1)[-1]} {name}": [
            f"{kind.rsplit('.', 1)[-1]} {needed}" for kind, needed in found.references
        ]
        for type_url, by_name in resources.by_type.items()
        for name, found in sorted(by_name.items())
        if found.references
    }
    return json.dumps({**to_json(resources), "references": references}, indent=1, sort_keys=True) + "\n"


def path_of(case: str) -> Path:
    return FOLDER / f"{case}.json"


def rewrite() -> list[Path]:
    """Write every file that differs and remove those of no case; gives what changed."""
    return rewrite_folder(FOLDER, {case: rendered(build()) for case, build in CASES.items()})
