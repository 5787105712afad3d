"""Which variables of the environment proxies see, so that a configuration may name them."""

from __future__ import annotations

FOR_PROXIES = "LATEEN_PROXY_"
"""What the name of a variable begins with that is meant for proxies."""
OTEL_ATTRIBUTES = "OTEL_RESOURCE_ATTRIBUTES"


def is_seen(name: str) -> bool:
    """Whether proxies see a variable that a configuration may name."""
    return name.startswith(FOR_PROXIES)
