"""The control plane as a process: the thin shell that joins sources, coordinator, xDS, authority and its own API.

Comes in: a run directory. Everything that it knows stands in files there or in the user's resource files, so it can be
killed and started again at any moment; proxies go on with what they have.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import resource
import signal
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from lateen.control.api import serve_control
from lateen.control.approval import Approval
from lateen.control.authority_report import authority_findings, trusted_root_findings
from lateen.control.coordinator import Coordinator, ProxyOptions
from lateen.control.debounce import Debounce
from lateen.control.key_book import KeyBook
from lateen.control.last_good import LastGood, write_whole
from lateen.control.mixer_link import MixerLink
from lateen.control.rollout import Rollout
from lateen.control.store import ResourceStore
from lateen.control.tokens import TokenBook
from lateen.control.trial import Trial
from lateen.envoy.profile import EnvoyProfile
from lateen.envoy.resources import EnvoyResources
from lateen.findings import Finding, error
from lateen.identity.account_tokens import AccountFile
from lateen.identity.authority import Authority
from lateen.identity.csr_server import CertificateServer
from lateen.identity.join_tokens import JoinTokens
from lateen.identity.keystore import KeystoreError
from lateen.identity.proofs import local_tokens, tokens_from_elsewhere
from lateen.local.project_names import is_project as is_project_file
from lateen.local.rundir import RunRecord
from lateen.mesh.federation import TrustedDomains, trusted_domains
from lateen.mesh.model import Workload
from lateen.mesh.proxy_config import ConcurrencyRule, concurrency_rules
from lateen.mesh.token_keys import key_uses
from lateen.mixer.own_adapters import Unusable, installed
from lateen.plan.name_table import NameTable, name_table
from lateen.resources.mixer.own import know
from lateen.settings import Settings
from lateen.sources.files import FileEvent, FileSource
from lateen.sources.registry import apply_registry
from lateen.sources.web import WebFetcher
from lateen.values.names import BUILT_IN, Origin, SpiffeId
from lateen.values.web_address import parse_networks
from lateen.xds.cache import ResourceCache
from lateen.xds.server import AdsServer
from lateen.xds.session import RETRY_S
from lateen.xds.status import StatusBoard
from lateen.xds.subscription import Rejection, bind_problem

LOG = logging.getLogger("lateen.control")
SERVICES_FILE = "services.yaml"
REWRITTEN_WITHIN_S = 0.1
"""Editors may take a file away before they write it anew: that is one change, and nothing stops to hold meanwhile."""
AUTHORITY_LOOK_S = 1.0
CA_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class ControlPlane:
    """One control plane on one run directory."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.options = msgspec.json.decode((run / "run.json").read_bytes(), type=RunRecord)
        self.settings = Settings(
            trust_domain=self.options.trust_domain,
            root_namespace=self.options.root_namespace,
            outbound_policy=self.options.outbound_policy,
            host_ownership=self.options.host_ownership,
            trust_domain_is_fixed=True,
            mixer_socket=str(run / "mixer.sock"),
        )
        self.cache = ResourceCache()
        self.status = StatusBoard()
        self.coordinator = Coordinator(
            self.settings, self._publish, self._proxy_options, EnvoyProfile(system_roots=system_roots())
        )
        self.tokens = TokenBook(run / "tokens.json", self.settings.trust_domain)
        self._rollout = Rollout(self._deliver, lambda name: self.status.settled(name, self.cache.get(name)))
        self._progress = asyncio.Event()
        self.ads = AdsServer(self.cache, self.tokens.proxy, self.status, on_quiet=self._progress.set)
        self._config_files = tuple(name for name in (self.options.project, self.options.mesh_config) if name)
        self._store = ResourceStore(
            self.options.namespace, project=self.options.project, mesh_configs=[self.options.mesh_config]
        )
        self._last_good = LastGood(run / "last-good")
        self._files: dict[str, bytes] = {}
        self._services = ResourceStore(self.options.namespace)
        self._workloads: dict[str, Workload] = {}
        self._debounce = Debounce(self._changed)
        self._approval = Approval(Trial())
        fetcher = WebFetcher(parse_networks(self.options.jwks_allow), system_roots())
        self._keys = KeyBook(run / "jwks", fetcher, self.options.jwks_refresh, self._debounce.trigger)
        self._one_at_a_time = asyncio.Lock()
        self._rebuilding: set[asyncio.Task[None]] = set()
        self._is_queued = False
        self._names: NameTable | None = None
        self._authority: Authority | None = None
        self.join_tokens = JoinTokens(run / "join-tokens.json", utc_now)
        self._service_findings: list[Finding] = []
        self._service_origin = Origin("Project", "", self.options.name, self.options.project, 0, "mesh.identity")
        self._concurrency: tuple[ConcurrencyRule, ...] | None = None
        self._trusted: TrustedDomains | None = None
        adapters, unusable = installed()
        know(adapters)
        self._service_findings.extend(self._unusable(one) for one in unusable)
        self._mixer = MixerLink(run, self._service_origin, self.options.redis, tuple(adapters))

    def _unusable(self, adapter: Unusable) -> Finding:
        message = f"the installed adapter {adapter.name} cannot be used: {adapter.why}"
        origin = Origin("Project", "", self.options.name, self.options.project, 1)
        return error("unusable-adapter", message, origin, "correct its package, or take it away")

    @property
    def is_settled(self) -> bool:
        """Whether all that was seen of files and registry has gone out; what Envoys make of it, the status tells."""
        return not (self._debounce.pending or self._rebuilding) and self._rollout.done

    def findings(self) -> tuple[Finding, ...]:
        """Everything that is wrong now: in files, in what they mean together, and in what an Envoy refuses."""
        refused = dict.fromkeys(_refusal(rejection) for _, rejection in self.status.rejections())
        keys = self._keys.findings(key_uses(self.coordinator.effective))
        expiring = authority_findings(self._authority) if self._authority is not None else ()
        others = trusted_root_findings(self.coordinator.effective, utc_now())
        own = (*self._store.findings(), *self._services.findings(), *self.coordinator.findings)
        return (*own, *keys, *refused, *expiring, *others, *self._service_findings, *self._mixer.findings)

    def _publish(self, proxy_id: str, resources: EnvoyResources | None) -> None:
        workload = self._workloads.get(proxy_id)
        self._rollout.aim(proxy_id, resources, is_gateway=workload is not None and workload.is_gateway)

    async def _roll_out(self) -> None:
        """Follow proxies through the steps of a change."""
        while True:
            self._progress.clear()
            deadline = self._rollout.progress(time.monotonic())
            with contextlib.suppress(TimeoutError):
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                async with asyncio.timeout(left):
                    await self._progress.wait()

    def _deliver(self, proxy_id: str, resources: EnvoyResources | None) -> None:
        self.cache.put(proxy_id, resources)
        if resources is None:
            self.status.forget(proxy_id)

    def _proxy_options(self, workload: Workload) -> ProxyOptions:
        folder = self.run / "proxies" / workload.id
        address = workload.bind or "127.0.0.1"
        return ProxyOptions(gateway_address=address, access_log=str(folder / "access.log"), folder=str(folder))

    async def serve(self, stop: asyncio.Event) -> None:
        """Read everything once, then open the sockets, then follow changes until ``stop`` is set.

        Raises what keeps a change from being followed: better a new control plane than one that follows no more.
        """
        named = [Path(name) for name in (*self._config_files, *self.options.resources)]
        files = FileSource(named, back_s=REWRITTEN_WITHIN_S)
        registry = FileSource([self.run / "registry"])
        self._apply_registry(registry.changed())
        await self._take_up(files.changed())
        self.open_authority()
        certificates = CertificateServer(self.authority, utc_now)
        await self._serve_certificates(certificates)
        await self.ads.start(self.run / "xds.sock")
        rolling = asyncio.gather(self._roll_out(), self._follow_authority())
        async with serve_control(self, self.run / "control.sock"):
            followers = [
                asyncio.ensure_future(self._follow(files, self._apply_files, stop)),
                asyncio.ensure_future(self._follow(registry, self._apply_registry, stop)),
            ]
            working: list[asyncio.Future[Any]] = [asyncio.ensure_future(stop.wait()), rolling, *followers]
            await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
            stop.set()
            ended: list[object] = await asyncio.gather(*followers, return_exceptions=True)
        await self._keys.stop()
        rolling.cancel()
        ended.extend(await asyncio.gather(rolling, return_exceptions=True))
        await self.ads.stop()
        await certificates.stop()
        for one in ended:
            if isinstance(one, Exception):
                raise one

    async def _serve_certificates(self, certificates: CertificateServer) -> None:
        """On the Unix socket, and over TLS if that was asked for. What cannot be is a finding, and the rest goes on."""
        said = self.options.service
        elsewhere = tokens_from_elsewhere(self.join_tokens, self._account_tokens())
        await certificates.start(self.run / "ca.sock", local_tokens(self.tokens.workload, elsewhere))
        own = SpiffeId(self.settings.trust_domain, self.settings.root_namespace, "istiod")
        hosts = (service_name(self.settings), *said.names)
        for address, tokens in ((said.listen, elsewhere), (said.listen_mutual, None)):
            if not address:
                continue
            try:
                await certificates.start_tls(address, own, (*hosts, address.rpartition(":")[0].strip("[]")), tokens)
            except OSError as problem:
                self._service_findings.append(
                    error("port-taken", str(problem), self._service_origin, "use another port")
                )

    def _account_tokens(self) -> AccountFile | None:
        said = self.options.service
        if not said.account_issuer:
            return None
        try:
            return AccountFile(
                said.account_issuer, said.account_audiences, Path(said.account_jwks), self.settings.trust_domain
            )
        except (OSError, ValueError) as problem:
            message = f"service-account tokens are not taken: {problem}"
            self._service_findings.append(error("account-keys", message, self._service_origin, "correct the keys"))
            return None

    def open_authority(self) -> None:
        """Read the authority's files. Raises KeystoreError."""
        self._authority = Authority(
            Path(self.options.ca) if self.options.ca else self.run / "ca",
            self.settings.trust_domain,
            utc_now,
            datetime.timedelta(seconds=self.options.certificate_life),
        )
        self.tell_generation()

    @property
    def authority(self) -> Authority:
        """The authority, once ``serve`` has begun."""
        if self._authority is None:
            raise RuntimeError("the authority is not open yet")
        return self._authority

    async def _follow_authority(self) -> None:
        """Take up what an operator exchanges of the authority's files."""
        while True:
            await asyncio.sleep(AUTHORITY_LOOK_S)
            if self.authority.follow():
                LOG.info("the authority's files were exchanged")
                self.tell_generation()

    def tell_generation(self) -> None:
        """Let node agents know which certificates sign and are trusted now."""
        write_whole(self.run / "ca-generation", self.authority.generation.encode())

    async def _follow(self, source: FileSource, apply: object, stop: asyncio.Event) -> None:
        async for events in source.watch(stop):
            if events and callable(apply):
                apply(events)
                self._debounce.trigger()

    def _apply_files(self, events: list[FileEvent]) -> None:
        for event in events:
            is_config = event.path in self._config_files
            is_project = not is_config and event.data is not None and is_project_file(Path(event.path).name, event.data)
            self._store.apply(FileEvent(event.path, None) if is_project else event)
            if event.data is None:
                self._files.pop(event.path, None)
            else:
                self._files[event.path] = event.data

    async def _take_up(self, events: list[FileEvent]) -> None:
        """Begin with what held for the control plane before this one, then go over to what the files say now."""
        before = [FileEvent(path, data) for path, data in self._last_good.files.items()]
        now = {event.path: event for event in events}
        if any(event != now.get(event.path) for event in before):
            self._apply_files(before)
            await self._rebuild()
            events = [*events, *(FileEvent(event.path, None) for event in before if event.path not in now)]
        self._apply_files(events)
        await self._rebuild()

    def _remember(self) -> None:
        """Keep the files of which all holds; of the others, and of those that are in use still, the last good state."""
        present = {resource.key: resource for resource in self._store.resources()}
        effective = {resource.key: resource for resource in self.coordinator.effective}
        services = {resource.key for resource in self._services.resources()}
        differing = [key for key, resource in present.items() if effective.get(key) is not resource]
        kept = [resource for key, resource in effective.items() if key not in present and key not in services]
        waiting = {present[key].origin.path for key in differing} | {resource.origin.path for resource in kept}
        waiting |= {effective[key].origin.path for key in differing if key in effective}
        good = {path: data for path, data in self._files.items() if path not in waiting and self._store.holds(path)}
        still = {path: data for path, data in self._last_good.files.items() if path in waiting or path in self._files}
        self._last_good.keep({**still, **good})

    def _apply_registry(self, events: list[FileEvent]) -> None:
        entries = [event for event in events if not event.path.endswith(SERVICES_FILE)]
        for event in events:
            if event.path.endswith(SERVICES_FILE):
                self._services.apply(event)
        self._workloads = apply_registry(self._workloads, entries)

    def _changed(self) -> None:
        """Take up what is new; where one change waits for its turn, it takes this one along."""
        if self._is_queued:
            return
        self._is_queued = True
        task = asyncio.ensure_future(self._rebuild())
        self._rebuilding.add(task)
        task.add_done_callback(self._rebuilt)

    def _rebuilt(self, task: asyncio.Task[None]) -> None:
        self._rebuilding.discard(task)
        if not task.cancelled() and task.exception() is not None:
            LOG.error("this change could not be taken up", exc_info=task.exception())

    async def _rebuild(self) -> None:
        """Bring the mesh up to what files and registry say; changes are taken up one after the other."""
        async with self._one_at_a_time:
            self._is_queued = False
            started = time.perf_counter()
            resources = (*self._services.resources(), *self._store.resources())
            await self._keys.follow(key_uses((*resources, *self.coordinator.effective)))
            running, keys = tuple(self._workloads.values()), self._keys.keys
            if not self.coordinator.update_readiness(resources, running, keys):
                draft = await self._approval.approved(
                    lambda refused: self.coordinator.draft(resources, running, refused, keys),
                    self.coordinator.effective,
                    resources,
                )
                await self._mixer.hand_over(draft.planner.snapshot, draft.effective, self.options.jwks_allow)
                self.coordinator.adopt(draft)
            self._publish_change(started)

    def _publish_change(self, started: float) -> None:
        self._remember()
        self._rollout.start(time.monotonic())
        self._progress.set()
        snapshot = self.coordinator.snapshot
        names = name_table(snapshot) if snapshot is not None else NameTable()
        if names != self._names:
            self._names = names
            write_whole(self.run / "names.json", msgspec.json.encode(names))
        rules = concurrency_rules(snapshot) if snapshot is not None else ()
        if rules != self._concurrency:
            self._concurrency = rules
            write_whole(self.run / "concurrency.json", msgspec.json.encode(rules))
        trusted = trusted_domains(snapshot)
        if trusted != self._trusted:
            self._trusted = trusted
            write_whole(self.run / "federation.json", msgspec.json.encode(trusted))
        LOG.info("planned %d proxies in %.1f ms", len(self._workloads), (time.perf_counter() - started) * 1000)


def _refusal(rejection: Rejection) -> Finding:
    problem = bind_problem(rejection)
    if problem:
        message = f"Envoy {problem}; it is tried again every {RETRY_S:g} s"
        return error("port-taken", message, rejection.origin or BUILT_IN, "stop what has the port, or use another port")
    kind = rejection.type_url.rpartition(".")[2]
    message = f"Envoy refuses {kind} {rejection.name}: {rejection.error}; the last version that it took goes on"
    return error("refused-by-envoy", message, rejection.origin or BUILT_IN)


def utc_now() -> datetime.datetime:
    """The time."""
    return datetime.datetime.now(datetime.UTC)


def service_name(settings: Settings) -> str:
    """What the control plane's servers are called: the name that Istio's agents expect."""
    return f"istiod.{settings.root_namespace}.svc"


def run_control_plane(run: Path) -> None:
    """Serve until SIGTERM or SIGINT."""
    _raise_file_limit()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await ControlPlane(run).serve(stop)

    try:
        asyncio.run(main())
    except KeystoreError as problem:
        LOG.error("the certificate authority cannot be used: %s", problem)
        sys.exit(1)
    except KeyboardInterrupt:
        return


def _raise_file_limit() -> None:
    """Each proxy has a connection, and strangers may hold some: they are not to use up what is left for others."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def system_roots() -> str:
    """Where this machine keeps the certificates of public authorities; Debian's place if it does not tell."""
    told = ssl.get_default_verify_paths().cafile
    return next((place for place in (told, *CA_BUNDLES) if place and Path(place).is_file()), CA_BUNDLES[0])
