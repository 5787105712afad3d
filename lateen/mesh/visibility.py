"""Who sees what: ``exportTo``, host names and label selectors.

Precedence: an explicit ``exportTo`` of the resource, else the mesh's default, which is everyone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lateen.mesh.model import Labels


def exported(export_to: Iterable[str], owner_namespace: str, client_namespace: str) -> bool:
    """Whether something in ``owner_namespace`` is visible to clients in ``client_namespace``.

    ``.`` is the owner's namespace, ``*`` everyone, ``~`` nobody; an empty list is the default, everyone.
    """
    entries = tuple(export_to) or ("*",)
    if "*" in entries:
        return True
    return client_namespace in entries or ("." in entries and client_namespace == owner_namespace)


def selects(selector: Mapping[str, str] | Labels, labels: Mapping[str, str] | Labels) -> bool:
    """Whether every label of the selector stands in ``labels``; an empty selector selects everything."""
    wanted, present = dict(selector), dict(labels)
    return all(present.get(name) == value for name, value in wanted.items())


def full_host(host: str, namespace: str, domain: str) -> str:
    """Expand a name without dots to its full form in ``namespace``; keep wildcards and full names, in lower case."""
    lowered = host.lower()
    return lowered if "." in lowered or lowered == "*" else f"{lowered}.{namespace}.svc.{domain}"


def host_matches(pattern: str, host: str) -> bool:
    """Whether ``host`` (itself perhaps a wildcard) lies wholly within ``pattern``."""
    if pattern == host or pattern == "*":
        return True
    return pattern.startswith("*.") and host.removeprefix("*").endswith(pattern[1:])


def hosts_overlap(one: str, other: str) -> bool:
    """Whether some name matches both patterns."""
    return host_matches(one, other) or host_matches(other, one)


def specificity(host: str) -> tuple[bool, int, str]:
    """Sort key: full names before wildcards, longer before shorter, then by alphabet."""
    return (host.startswith("*"), -len(host), host)
