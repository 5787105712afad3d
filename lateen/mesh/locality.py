"""Where a workload stands: region, zone and subzone, as its labels say."""

from __future__ import annotations

from lateen.mesh.model import Labels

REGION, ZONE, SUBZONE = (
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.istio.io/subzone",
)
LABEL = "istio-locality"
LOCALITY_LABELS = frozenset({REGION, ZONE, SUBZONE, LABEL})


def locality_of(labels: Labels) -> str:
    """``region/zone/subzone`` from labels, without what is missing at the end."""
    named = dict(labels)
    if LABEL in named:
        return named[LABEL].replace(".", "/")
    return "/".join((named.get(REGION, ""), named.get(ZONE, ""), named.get(SUBZONE, ""))).rstrip("/")
