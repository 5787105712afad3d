"""Writes the parts of the reference that come from the code: ``python -m docs.generate``."""

from __future__ import annotations

from pathlib import Path

from docs.coverage import coverage
from lateen.resources.support import UNSUPPORTED

HEAD = """# Supported resources

This page is generated from the code (`python -m docs.generate`). A field that is not listed here as refused has its
effect on the real Envoy. A refused field makes the resource unusable, with a finding that names it: nothing is accepted
and ignored. `lateen validate` judges all kinds by Istio's rules; a mesh takes the kinds of this page.

| Kind | Fields that are refused for now |
|---|---|
"""
VALUES = """
Refused values:

- Gateway: protocol UDP; credentials that are not a Secret of the gateway's own namespace (`sds://...`, `other/name`).
- AuthorizationPolicy: path templates (`{*}`), the annotation `istio.io/dry-run`.
- Every kind: the label `istio.io/rev` with a revision other than `default`.
- ServiceEntry: resolutions NONE and DYNAMIC_DNS, wildcard hosts, address ranges.
- AuthorizationPolicy: actions CUSTOM and AUDIT.
- Service: type ExternalName.
- VirtualService: matching on JWT claims; `tls` and `tcp` where it is not bound to Gateways alone.

Where Lateen differs from Istio on purpose:

- The mesh is STRICT unless a PeerAuthentication says otherwise.
- Slashes in paths are merged before routes and rules see them. Many servers read `//admin` as `/admin`, and a rule
  on the one has to hold for the other.
- A port without a declared protocol is plain TCP; protocols are not guessed.
- Panic routing is off: when all members of a pool are out, requests fail instead of going to members that are out.
"""


def supported_fields() -> str:
    """The page ``docs/reference/fields.md``."""
    rows = []
    for kind, fields in sorted(UNSUPPORTED.items()):
        listed = ", ".join(f"`{field}`" for field in sorted(fields)) or "none"
        rows.append(f"| {kind} | {listed} |\n")
    return HEAD + "".join(rows) + "| Service, Secret | none |\n" + VALUES


def main() -> None:
    folder = Path(__file__).parent / "reference"
    (folder / "fields.md").write_text(supported_fields())
    (folder / "coverage.md").write_text(coverage())


if __name__ == "__main__":
    main()
