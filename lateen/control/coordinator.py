"""The coordinator: owns the current snapshot, and gives every proxy what it should have.

Comes in: resources and running workloads, as they hold now. Goes out: ``EnvoyResources`` into the cache, one put for
each proxy whose configuration differs, and the findings. A change of nothing but readiness takes a short path: only
the endpoints of the services concerned are made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from lateen.control.holding import Refusal, settle, without_refused
from lateen.control.mixer_holding import settle_rules
from lateen.control.mixer_idle import idle_rules, passed_by_bytes
from lateen.control.store import internal_error
from lateen.envoy.profile import DEFAULT_PROFILE, EnvoyProfile, with_normalization
from lateen.envoy.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, EnvoyResource, EnvoyResources
from lateen.envoy.secrets import translate_file_secret, translate_secret
from lateen.envoy.translate import translate, translate_endpoints
from lateen.findings import Finding, error, warning
from lateen.mesh import credentials
from lateen.mesh.access_gaps import access_gaps
from lateen.mesh.build import build_snapshot, with_workloads
from lateen.mesh.credentials import CredentialError
from lateen.mesh.model import MeshSnapshot, Workload
from lateen.mesh.mtls_conflicts import mtls_conflicts
from lateen.mesh.port_gaps import port_gaps
from lateen.mesh.selected import nobody_selected
from lateen.mesh.token_keys import NO_KEYS, TokenKeys
from lateen.plan.planner import Planner, proxy_of
from lateen.plan.proxy import Proxy
from lateen.plan.tls import SecretRef
from lateen.resources.resource import Resource
from lateen.settings import Settings
from lateen.values.names import BUILT_IN, Origin, ResourceKey

TYPES = (CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET)
Publish = Callable[[str, EnvoyResources | None], None]


class ProxyOptions(msgspec.Struct, frozen=True):
    """What a proxy needs beside the snapshot: where its servers listen, where its access log goes, and its
    folder, where it opens sockets of its own."""

    gateway_address: str = "127.0.0.1"
    access_log: str = ""
    folder: str = ""


class Draft(msgspec.Struct, frozen=True, eq=False):
    """What the mesh would be: ``wanted`` as the files say, ``effective`` as it would hold, ``made`` for each proxy."""

    wanted: tuple[Resource, ...]
    effective: tuple[Resource, ...]
    planner: Planner
    made: Mapping[str, EnvoyResources]
    findings: tuple[Finding, ...]

    def resources(self) -> Iterator[tuple[str, EnvoyResource]]:
        """Every (type URL, resource) of every proxy; what proxies share comes once."""
        for kind in TYPES:
            found: dict[int, EnvoyResource] = {}
            for resources in self.made.values():
                named = resources.by_type.get(kind, {})
                found.update(zip(map(id, named.values()), named.values(), strict=True))
            yield from ((kind, resource) for resource in found.values())


class Coordinator:
    """Holds the mesh as it is. ``publish`` takes a proxy's resources, or None once the proxy is gone.

    ``effective`` are the resources that hold: those of the last update, but for what has to wait for another.
    """

    def __init__(
        self,
        settings: Settings,
        publish: Publish,
        options: Callable[[Workload], ProxyOptions] | None = None,
        profile: EnvoyProfile = DEFAULT_PROFILE,
    ) -> None:
        self._settings = settings
        self._publish = publish
        self._profile = profile
        self._options = options or (lambda _: ProxyOptions())
        self._resources: tuple[Resource, ...] = ()
        self.effective: tuple[Resource, ...] = ()
        self._planner: Planner | None = None
        self._published: dict[str, EnvoyResources] = {}
        self.findings: tuple[Finding, ...] = ()

    @property
    def snapshot(self) -> MeshSnapshot | None:
        return self._planner.snapshot if self._planner is not None else None

    def published(self, proxy_id: str) -> EnvoyResources | None:
        """What a proxy was given last."""
        return self._published.get(proxy_id)

    def update(
        self, resources: tuple[Resource, ...], workloads: Iterable[Workload], token_keys: TokenKeys = NO_KEYS
    ) -> None:
        """Bring every proxy up to what holds now."""
        if not self.update_readiness(resources, workloads, token_keys):
            self.adopt(self.draft(resources, workloads, token_keys=token_keys))

    def update_readiness(
        self, resources: tuple[Resource, ...], workloads: Iterable[Workload], token_keys: TokenKeys = NO_KEYS
    ) -> bool:
        """Where nothing but readiness has changed, bring endpoints up to it. Whether that was so."""
        running = {workload.id: workload for workload in workloads}
        planner = self._planner
        if planner is None or resources != self._resources or token_keys != planner.snapshot.token_keys:
            return False
        if not _only_readiness(planner.snapshot, running):
            return False
        self._update_endpoints(planner, running)
        return True

    def draft(
        self,
        resources: tuple[Resource, ...],
        workloads: Iterable[Workload],
        refused: Mapping[ResourceKey, Refusal] | None = None,
        token_keys: TokenKeys = NO_KEYS,
    ) -> Draft:
        """What every proxy would get. ``refused`` resources stay in their last version where they are as they were."""
        wanted, kept = without_refused(self.effective, resources, refused or {})
        settled, waiting = settle(self.effective, wanted, self._settings.domain)
        effective, held = settle_rules(self.effective, settled)
        planner = Planner(build_snapshot(self._settings, effective, workloads, token_keys))
        snapshot = planner.snapshot
        seen = (mtls_conflicts, port_gaps, access_gaps, nobody_selected, idle_rules, passed_by_bytes)
        told = (finding for look in seen for finding in look(snapshot))
        findings = [*kept, *waiting, *held, *snapshot.findings, *told]
        made: dict[str, EnvoyResources] = {}
        patches: dict[Origin, bool] = {}
        for workload in planner.snapshot.workloads.values():
            try:
                made[workload.id], found = self._make(planner, workload, patches)
                findings.extend(found)
            except Exception as problem:  # one proxy that cannot be planned keeps what it has; the others go on
                findings.append(internal_error(problem, BUILT_IN, f"the configuration of {workload.id}"))
        findings.extend(_without_effect(origin) for origin, applied in patches.items() if not applied)
        return Draft(resources, effective, planner, made, tuple(dict.fromkeys(findings)))

    def adopt(self, draft: Draft) -> None:
        """Give every proxy what a draft says."""
        self._resources, self.effective = draft.wanted, draft.effective
        self._planner, self.findings = draft.planner, draft.findings
        for proxy_id, resources in draft.made.items():
            self._put(proxy_id, resources)
        for gone in self._published.keys() - draft.planner.snapshot.workloads.keys():
            del self._published[gone]
            self._publish(gone, None)

    def _make(
        self, planner: Planner, workload: Workload, patches: dict[Origin, bool]
    ) -> tuple[EnvoyResources, list[Finding]]:
        """What one proxy gets. ``patches`` is told of each patch whether it found something to change."""
        proxy = proxy_of(workload)
        options = self._options(workload)
        planned = planner.plan(
            proxy, gateway_address=options.gateway_address, access_log=options.access_log, folder=options.folder
        )
        secrets, problems = self._secrets(planner.snapshot, planned.plan.secrets, proxy)
        translated = translate(
            planned.plan, with_normalization(self._profile, planner.snapshot.settings.path_normalization)
        )
        for patch in planned.plan.patches:
            patches[patch.origin] = patches.get(patch.origin, False) or patch.origin in translated.applied
        named = {secret.name: secret for secret in secrets}
        return EnvoyResources({**translated.by_type, SECRET: named}), [*planned.findings, *problems]

    def _update_endpoints(self, planner: Planner, running: Mapping[str, Workload]) -> None:
        before = planner.snapshot
        snapshot = with_workloads(before, running)
        changed = frozenset(
            host
            for host in snapshot.services
            if snapshot.members[host] != before.members[host]
            or snapshot.contested.get(host) != before.contested.get(host)
        )
        planner.move_to(snapshot)
        made: dict[int, dict[str, EnvoyResource]] = {}
        for workload in snapshot.workloads.values():
            proxy = proxy_of(workload)
            sets = planner.endpoints_of(proxy, changed)
            if id(sets) not in made:
                made[id(sets)] = {entry.cluster: translate_endpoints(entry) for entry in sets}
            present = self._published.get(proxy.id, EnvoyResources({}))
            known = present.by_type.get(ENDPOINT, {})
            fresh = {name: resource for name, resource in made[id(sets)].items() if name in known}
            endpoints = {**known, **fresh}
            self._put(proxy.id, EnvoyResources({**present.by_type, ENDPOINT: endpoints}))

    def _put(self, proxy_id: str, resources: EnvoyResources) -> None:
        self._published[proxy_id] = resources
        self._publish(proxy_id, resources)

    def _secrets(
        self, snapshot: MeshSnapshot, wanted: Iterable[SecretRef], proxy: Proxy
    ) -> tuple[list[EnvoyResource], list[Finding]]:
        """The certificates and trust bundles that a proxy asks for. One that cannot serve is a finding."""
        found, findings = [], []
        for ref in wanted:
            if ref.source is None:
                found.append(translate_file_secret(ref))
                continue
            try:
                found.append(_secret(snapshot, ref, ref.source))
            except CredentialError as problem:
                message = f"{problem}, and {proxy.workload} asks for it"
                findings.append(error(problem.code, message, BUILT_IN, problem.remedy))
        return found, findings


def _without_effect(origin: Origin) -> Finding:
    message = "the patch matches nothing in the configuration of any proxy that it is for"
    return warning("patch-without-effect", message, origin, "compare its match with what lateen xds shows")


def _secret(snapshot: MeshSnapshot, ref: SecretRef, source: ResourceKey) -> EnvoyResource:
    if ref.roots:
        roots, crl = credentials.trust_bundle(snapshot.secrets, source)
        return translate_secret(ref, b"", b"", roots, crl)
    chain, key = credentials.certificate(snapshot.secrets, source)
    return translate_secret(ref, chain, key, b"")


def _only_readiness(snapshot: MeshSnapshot, running: Mapping[str, Workload]) -> bool:
    """Whether the same workloads run as before, but for their readiness."""
    before = snapshot.workloads
    if before.keys() != running.keys():
        return False
    return all(
        workload == before[name] or msgspec.structs.replace(workload, ready=before[name].ready) == before[name]
        for name, workload in running.items()
    )
