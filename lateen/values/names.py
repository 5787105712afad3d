"""Names: of resources, of the places they came from, and of workload identities.

Comes in: plain strings. Goes out: frozen, hashable structs with a canonical text form.
"""

from __future__ import annotations

import msgspec


class ResourceKey(msgspec.Struct, frozen=True, order=True):
    """Identifies one resource in the mesh: kind, namespace and name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class Origin(msgspec.Struct, frozen=True, order=True):
    """Says where a value came from, so that every decision can be explained.

    ``path`` is the file (empty for a built-in default), ``line`` is 1-based (0 where unknown) and ``field`` is the
    path inside the resource, such as ``spec.http[0].timeout``.
    """

    kind: str
    namespace: str
    name: str
    path: str = ""
    line: int = 0
    field: str = ""

    def __str__(self) -> str:
        owner = f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"
        place = f" ({self.path}:{self.line})" if self.path else ""
        return f"{owner} {self.field}{place}" if self.field else f"{owner}{place}"

    def at(self, field: str, line: int = 0) -> Origin:
        """The same resource, pointing at one of its fields; ``line`` 0 keeps the present line."""
        return msgspec.structs.replace(self, field=field, line=line or self.line)


BUILT_IN = Origin(kind="Default", namespace="", name="mesh")
"""Origin of what nobody wrote: the mesh's defaults."""


class SpiffeId(msgspec.Struct, frozen=True, order=True):
    """Workload identity ``spiffe://<trust domain>/ns/<namespace>/sa/<service account>``."""

    trust_domain: str
    namespace: str
    service_account: str

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"

    @property
    def principal(self) -> str:
        """The form that AuthorizationPolicy writes: without the scheme."""
        return f"{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"

    @classmethod
    def parse(cls, uri: str) -> SpiffeId:
        """Read the URI form. Raises ValueError where it is not a workload identity of this shape."""
        scheme, _, rest = uri.partition("://")
        parts = rest.split("/")
        if scheme != "spiffe" or len(parts) != 5 or parts[1] != "ns" or parts[3] != "sa" or not all(parts):
            raise ValueError(f"not a workload identity: {uri!r}")
        return cls(trust_domain=parts[0], namespace=parts[2], service_account=parts[4])
