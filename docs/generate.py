"""Writes the parts of the reference that come from the code: ``python -m docs.generate``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import fields

from docs.catalogue import monitoring, page
from docs.coverage import coverage
from docs.mixer import mixer
from lateen.resources.mesh_config import MeshConfigSpec
from lateen.resources.mesh_support import DEFAULT_CONFIG, REFUSED, WITHOUT_EFFECT
from lateen.resources.proxy_config import DefaultConfig
from lateen.resources.support import KUBERNETES, UNSUPPORTED

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
- DestinationRule: `zoneAwareLbSetting`, as it needs proxies that discover their own replicas; `localityLbSetting`
  works. `retryBudget.budgetInterval`, as the API with which Lateen speaks to Envoy does not have it yet.
- WorkloadGroup: the whole kind, as no workload registers itself here. `network` of endpoints: there is one network.
- Every kind: text that YAML takes for something else, such as an address that ends in a colon (`2001:db8::`) without
  quotes, which is a mapping. Other readers of YAML may guess; here the finding says to quote it.
- ServiceRole and `actions` of bindings: constraints on `destination.user`, and wildcards in values of
  `destination.labels[...]`.
- Policy and MeshPolicy: origins with different `triggerRules`, and origins of single ports.
- RateLimit: claims whose names hold `:`, `%`, parentheses or quotes.
- Every kind: the label `istio.io/rev` with a revision other than `default`.
- Ingress: backends that are not Services, TLS without a Secret.
- VirtualService: redirects with a status other than 301, 302, 303, 307 and 308, which Envoy does not have;
  `fault.abort.http2Error` and `fault.delay.exponentialDelay`, as Envoy's faults are statuses and fixed
  delays. Claims of tokens are matched at gateways alone, as in Istio.

ProxyConfig: `concurrency` holds from the next start of a proxy on; who says nothing gets one worker for a sidecar and
two for a gateway. `environmentVariables` and `image` have no effect here, each with a warning. Workloads of
`lateen.yaml` have no annotations but `policy.istio.io/*`: `proxy.istio.io/config` and `traffic.sidecar.istio.io/*`
are refused, and all TCP of a workload is captured. Ingress listeners of a Sidecar are always captured
(`captureMode: NONE` is refused, `bind` has no effect); egress listeners with NONE need a port, and abstract
Unix sockets are refused.

Where Lateen differs from Istio on purpose:

- The mesh is STRICT unless a PeerAuthentication says otherwise.
- Slashes in paths are merged before routes and rules see them. Many servers read `//admin` as `/admin`, and a rule
  on the one has to hold for the other.
- Tokens in different places each have to be good. Istio takes a request with one good token, whatever the others are.
- Symmetric keys (`oct`) verify no tokens, and issuers that are described as another are not believed.
- Panic routing is off: when all members of a pool are out, requests fail instead of going to members that are out.
"""


def supported_fields() -> str:
    """The page ``docs/reference/fields.md``."""
    rows = []
    for kind, refused in sorted(UNSUPPORTED.items()):
        listed = ", ".join(f"`{field}`" for field in sorted(refused)) or "none"
        rows.append(f"| {kind} | {listed} |\n")
    return HEAD + "".join(rows) + f"| {', '.join(sorted(KUBERNETES))} | none |\n" + VALUES


MESH_CONFIG = """# MeshConfig

Generated from the code (`python -m docs.generate`). Options of the whole mesh, as in Istio. They stand

- in `lateen.yaml`, as `meshConfig:`,
- in a file of their own: `lateen up --mesh-config FILE`, also of `lateen xds` and `lateen validate`,
- or as a document with `apiVersion: mesh.istio.io/v1alpha1` and `kind: MeshConfig` among the resources.

An edit takes effect as it is saved; only `trustDomain` needs a new start, as certificates are of it. Where there are
several, the one in the first file by name holds; each other one is a finding. What is wrong keeps the last good one.
A MeshConfig wins over `mesh:` of `lateen.yaml`. `outboundTrafficPolicy: {}` means REGISTRY_ONLY, as in Istio.

Envoy's own statistics (on the admin socket of each proxy in the run directory) are all kept, but for the router's
counts and times of answers by status (`cluster.<name>.upstream_rq_200`, `..._2xx`, `..._time`, those of virtual
clusters and routes): each request pays for them, and Istio's metrics say the same. They are made where an inclusion
of `defaultConfig.proxyStatsMatcher` may name them, by `cluster.` or `vhost.` as a prefix, by any suffix or
expression; and where a route has a `statPrefix`.

In the code, single values are in `snapshot.settings` and blocks in `snapshot.mesh_config`.

Fields that work: %s.

Refused, with an error; the whole document is not used then:

| Field | Why |
|---|---|
%s
Without effect here; each is a warning, and the rest holds:

| Field | Why |
|---|---|
%s"""


def mesh_config() -> str:
    """The page ``docs/reference/mesh-config.md``."""
    without = {**WITHOUT_EFFECT, **{f"defaultConfig.{name}": why for name, why in DEFAULT_CONFIG.items()}}
    config = [f"defaultConfig.{field.encode_name}" for field in fields(DefaultConfig)]
    known = [field.encode_name for field in fields(MeshConfigSpec) if field.encode_name != "defaultConfig"]
    working = ", ".join(f"`{name}`" for name in (*known, *config) if name not in REFUSED and name not in without)
    return MESH_CONFIG % (working, _rows(REFUSED), _rows(without))


def _rows(reasons: Mapping[str, str]) -> str:
    return "".join(f"| `{name}` | {why} |\n" for name, why in sorted(reasons.items()))


def main() -> None:
    folder = Path(__file__).parent / "reference"
    (folder / "fields.md").write_text(supported_fields())
    (folder / "coverage.md").write_text(coverage())
    (folder / "mesh-config.md").write_text(mesh_config())
    (folder / "mixer.md").write_text(mixer())
    (folder / "metrics.md").write_text(page())
    for name, text in monitoring().items():
        (folder.parent / "monitoring" / name).write_text(text)


if __name__ == "__main__":
    main()
