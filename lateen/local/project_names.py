"""Which files are projects and no resources: by their names, or by what stands in them. Pure."""

from __future__ import annotations

PROJECT_FILES = ("lateen.yaml", "lateen.yml")
FIELDS = frozenset({"name", "namespace", "services", "gateways", "mesh", "meshConfig"})
"""What may stand at the top of a project."""
TELLING = frozenset({"services", "gateways"})


def is_project(name: str, data: bytes) -> bool:
    """Whether a file of this name and content is a project: a resource has ``kind``, which no project has."""
    if name in PROJECT_FILES:
        return True
    if b"services" not in data and b"gateways" not in data:
        return False
    import yaml

    try:
        value = yaml.load(data, yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return False
    return isinstance(value, dict) and value.keys() <= FIELDS and not TELLING.isdisjoint(value)
