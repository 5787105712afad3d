"""The JSON schema of ``lateen.yaml``, for editors to complete and check by: made from the structs that decode it."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from lateen.local.fields import ProjectFields


def project_schema() -> dict[str, Any]:
    """The schema as a JSON value (draft 2020-12)."""
    schema = msgspec.json.schema(ProjectFields)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "lateen.yaml", **schema}


def render_schema() -> str:
    """The schema as it stands in ``docs/reference/lateen.schema.json``."""
    return json.dumps(project_schema(), indent=2) + "\n"
