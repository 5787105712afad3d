"""Which workload a pod belongs to, by the names that Kubernetes gives pods."""

from __future__ import annotations

import re

_DRAWN = "[bcdfghjklmnpqrstvwxz2456789]"
"""What Kubernetes draws endings from: no vowels, and no digits that look like some."""
_PODS = (
    re.compile(rf"(.+)-{_DRAWN}{{6,10}}-{_DRAWN}{{5}}"),
    re.compile(r"(.+)-[0-9]+"),
    re.compile(rf"(.+)-{_DRAWN}{{5}}"),
)
"""Pods of a Deployment, of a StatefulSet, and of what makes pods itself."""


def workload_of_pod(name: str) -> str:
    """``reviews-v1`` for ``reviews-v1-66b6955995-9w8xf`` and ``reviews-v1-0``; another name stands for itself."""
    found = next((match for form in _PODS if (match := form.fullmatch(name)) is not None), None)
    return found[1] if found is not None else name
