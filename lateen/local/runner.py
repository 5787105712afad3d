"""Carries out what the state machine of one instance commands: the thin shell around ``lateen.local.supervisor``.

Events go in through ``feed``, always in a turn of their own; everything that takes time is a task that feeds back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from lateen.local import envoy_admin, lifecycle
from lateen.local.environment import application_environment, proxy_environment
from lateen.local.envoy_process import envoy_argv, workers, write_bootstrap
from lateen.local.events import EventLog
from lateen.local.gateway_ports import GatewayPorts, PortsSeen
from lateen.local.lifecycle import Event, Part, Stage, Timer
from lateen.local.links import Identities, IdentityRequest, Link, LinkRequest, Network
from lateen.local.probes import Target, run_probe
from lateen.local.processes import Child, last_words, spawn
from lateen.local.procfs import ProcessRef
from lateen.local.project import NO_PROBE, Application, Service, Workload
from lateen.local.registry import Registry
from lateen.local.rundir import RunDir
from lateen.local.status import InstanceStatus, PortStatus
from lateen.local.supervisor import Instance

TELL_AGAIN_S = 1.0


class Surroundings(msgspec.Struct, frozen=True):
    """What all instances of a mesh share. ``record`` notes a process by name in ``run.json``, or its end by None."""

    run: RunDir
    run_id: str
    network: Network
    identities: Identities
    registry: Registry
    events: EventLog
    control_ready: asyncio.Event
    network_ready: asyncio.Event
    envoy: Path
    environment: Mapping[str, str]
    services: Callable[[], tuple[Service, ...]]
    record: Callable[[str, ProcessRef | None], None]
    ports: GatewayPorts


class Runner:
    """One instance: its state machine, its processes, its network and identity."""

    def __init__(
        self,
        around: Surroundings,
        instance_id: str,
        workload: Workload,
        *,
        address: str,
        token: str,
        on_end: Callable[[Runner], None],
    ) -> None:
        self.id = instance_id
        self.workload = workload
        self.stopped = asyncio.Event()
        self.seen = PortsSeen()
        self._ready = asyncio.Event()
        self._around = around
        self._address = address
        self._token = token
        self._on_end = on_end
        app = workload.application
        self._machine = Instance(has_app=app is not None, probe=app.probe if app else NO_PROBE)
        self._children: dict[Part, Child] = {}
        self._link: Link | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._preparation: asyncio.Task[None] | None = None
        self._proxy_watch: asyncio.Task[None] | None = None
        self._probe_task: asyncio.Task[None] | None = None
        self._untold: asyncio.TimerHandle | None = None
        self._timers: dict[Timer, asyncio.TimerHandle] = {}
        self._loop = asyncio.get_running_loop()
        self._folder = around.run.proxy(instance_id)

    # What others ask of it

    def begin(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.feed(lifecycle.Begin())

    def stop(self, settle: bool = True) -> None:
        self.feed(lifecycle.Stop(settle))

    def renew(self, workload: Workload) -> None:
        """Go on as ``workload``, which differs in its application and replicas at most."""
        before, self.workload = self.workload.application, workload
        if workload.application is not None and workload.application != before:
            self.restart_app()

    def restart_app(self) -> None:
        """Restart its application, in order."""
        if self.workload.application is not None:
            self._ready.clear()
            self.feed(lifecycle.Renew(self.workload.application.probe))

    async def wait_ready(self) -> None:
        """Return once it is ready; at once if it is, and has nothing ahead of it."""
        await self._ready.wait()

    def kill(self) -> None:
        """End its processes at once, without order."""
        for child in list(self._children.values()):
            child.kill()

    def status(self) -> InstanceStatus:
        machine = self._machine
        detail = machine.detail
        if not machine.ready and not detail and machine.stage is not Stage.RUNNING:
            detail = machine.stage.value
        ports = self.seen.statuses(self.workload) if self.workload.is_gateway else ()
        if not detail and machine.ready:
            detail = "; ".join(self._troubles(ports))
        return InstanceStatus(
            name=self.id,
            workload=self.workload.name,
            service=self.workload.service,
            version=self.workload.version,
            namespace=self.workload.namespace,
            ready=machine.ready,
            stage=machine.stage.value,
            detail=detail,
            restarts=machine.restarts,
            proxy_restarts=machine.restarts_of(Part.ENVOY),
            pid=self._pid(Part.APP),
            proxy_pid=self._pid(Part.ENVOY),
            address=self._link.address if self._link else self._address,
            labels=dict(self.workload.labels),
            urls=tuple(port.url for port in ports if port.ready),
            ports=ports,
        )

    def _troubles(self, ports: tuple[PortStatus, ...]) -> Iterator[str]:
        """What is wrong although it is ready."""
        problem = self._around.identities.problem(self.id)
        if problem:
            yield f"its certificate is not renewed: {problem}"
        for port in ports:
            if not port.ready:
                yield f"port {port.number} is not open: {port.detail}"

    def _pid(self, part: Part) -> int:
        child = self._children.get(part)
        return child.pid if child else 0

    def command_prefix(self) -> tuple[tuple[str, ...], dict[str, str]]:
        """How to run another command in this workload's place: words to put before it, and its environment."""
        if self._link is None or self.workload.application is None:
            raise LookupError(f"{self.id} has no network to run a command in now")
        return self._link.app_prefix, self._environment(self.workload.application)

    # Events in, commands out

    def feed(self, event: Event) -> None:
        """Hand an event to the machine, in a turn of its own."""
        self._loop.call_soon(self._handle, event)

    def _handle(self, event: Event) -> None:
        for command in self._machine.handle(event, self._loop.time()):
            _DOERS[type(command)](self, command)
        if self._machine.stage is Stage.STOPPED and not self.stopped.is_set():
            self.stopped.set()
            self._on_end(self)
        if self._machine.ready:
            self._ready.set()
        else:
            self._ready.clear()

    def _do_prepare_network(self, _: lifecycle.PrepareNetwork) -> None:
        self._preparation = self._keep(self._prepare_network())

    async def _prepare_network(self) -> None:
        await self._around.network_ready.wait()
        request = LinkRequest(self.id, self.workload.namespace, self._address, self.workload.is_gateway)
        try:
            link = await self._around.network.add(request)
        except (OSError, RuntimeError) as problem:
            self.feed(lifecycle.PrepareFailed(str(problem)))
            return
        if not self._around.network_ready.is_set():
            self.feed(lifecycle.PrepareFailed("the network was lost meanwhile"))
            return
        self._link = link
        self.feed(lifecycle.NetworkUp())

    def _do_prepare_identity(self, _: lifecycle.PrepareIdentity) -> None:
        self._preparation = self._keep(self._prepare_identity())

    async def _prepare_identity(self) -> None:
        await self._around.control_ready.wait()
        run = self._around.run
        request = IdentityRequest(
            instance_id=self.id,
            namespace=self.workload.namespace,
            service_account=self.workload.service_account,
            token=self._token,
            ca_socket=run.ca_socket,
            sds_socket=self._folder / "sds.sock",
        )
        try:
            write_bootstrap(run, self.id, self.workload, self._require_link(), self._token)
            await self._around.identities.add(request)
        except (OSError, RuntimeError) as problem:
            self.feed(lifecycle.PrepareFailed(str(problem)))
        else:
            self.feed(lifecycle.IdentityUp())

    def _do_start(self, command: lifecycle.Start) -> None:
        part, link = command.part, self._require_link()
        try:
            child = self._spawn_envoy(link) if part is Part.ENVOY else self._spawn_app(link)
        except OSError as problem:
            self.feed(
                lifecycle.StartFailed(part, f"{problem.strerror or problem}: {problem.filename or ''}".rstrip(": "))
            )
            return
        self._children[part] = child
        self._around.record(f"{self.id}/{part.value}", child.ref)
        if part is Part.ENVOY:
            self._proxy_watch = self._keep(self._watch_proxy())

    def _require_link(self) -> Link:
        if self._link is None:
            raise AssertionError("the machine goes on only once the network stands")
        return self._link

    def _spawn_envoy(self, link: Link) -> Child:
        (self._folder / "admin.sock").unlink(missing_ok=True)
        count = workers(self._around.run, self.workload)
        return spawn(
            [*link.envoy_prefix, *envoy_argv(self._around.envoy, self._folder, count)],
            environment=proxy_environment(self._around.environment, self._around.run_id),
            output=self._folder / "envoy.log",
            on_exit=lambda code: self._on_exit(Part.ENVOY, code),
        )

    def _spawn_app(self, link: Link) -> Child:
        app = self.workload.application
        if app is None:
            raise AssertionError("a gateway has no application")
        return spawn(
            [*link.app_prefix, *app.command],
            environment=self._environment(app),
            output=self._folder / "app.log",
            working_dir=app.working_dir,
            on_exit=lambda code: self._on_exit(Part.APP, code),
        )

    def _environment(self, app: Application) -> dict[str, str]:
        return application_environment(
            self._around.environment,
            run_id=self._around.run_id,
            instance_id=self.id,
            workload=self.workload,
            application=app,
            services=self._around.services(),
            link=self._link,
        )

    def _on_exit(self, part: Part, code: int) -> None:
        self._children.pop(part, None)
        self._around.record(f"{self.id}/{part.value}", None)
        if part is Part.ENVOY:
            self.seen = PortsSeen(told=self.seen.told)
        watch = self._proxy_watch if part is Part.ENVOY else self._probe_task
        if watch is not None:
            watch.cancel()
        self.feed(lifecycle.Exited(part, code))

    async def _watch_proxy(self) -> None:
        await envoy_admin.wait_ready(self._folder / "admin.sock")
        if self.workload.is_gateway:
            self._take(await self._around.ports.look_until_settled(self.id))
        self.feed(lifecycle.ProxyReady())

    async def look_at_ports(self) -> None:
        """See again which ports of this gateway are open."""
        if self._machine.proxy_ready():
            self._take(await self._around.ports.look(self.id, self.seen))

    def _take(self, seen: PortsSeen) -> None:
        self.seen = seen
        self.feed(lifecycle.Listening(seen.problem))

    def _do_run_probe(self, _: lifecycle.RunProbe) -> None:
        self._probe_task = self._keep(self._probe())

    async def _probe(self) -> None:
        app, link = self.workload.application, self._link
        if app is None or link is None:
            return
        target = Target(
            make_socket=lambda: self._around.network.probe_socket(self.id),
            address=link.probe_address,
            prefix=link.app_prefix,
            environment=self._environment(app),
            working_dir=app.working_dir,
        )
        result = await run_probe(app.probe, target)
        self.feed(lifecycle.Probed(result.ok, result.detail))

    def _do_publish(self, command: lifecycle.Publish) -> None:
        if self._link is None:
            return
        registry, workload, link = self._around.registry, self.workload, self._link
        self._tell(lambda: registry.publish(self.id, workload, link, command.ready))
        if command.ready:
            self._around.events.emit("ready", "ready", self.id)

    def _do_withdraw(self, _: lifecycle.Withdraw) -> None:
        self._tell(lambda: self._around.registry.withdraw(self.id))

    def _tell(self, write: Callable[[], None], *, again: bool = False) -> None:
        """Write to the registry. Where that fails it is tried again, until there is something newer to tell."""
        if self._untold is not None:
            self._untold.cancel()
            self._untold = None
        try:
            write()
        except OSError as problem:
            if not again:
                self._around.events.emit("registry-failed", f"the control plane cannot be told: {problem}", self.id)
            self._untold = self._loop.call_later(TELL_AGAIN_S, lambda: self._tell(write, again=True))

    def _do_abandon(self, _: lifecycle.Abandon) -> None:
        if self._preparation is not None:
            self._preparation.cancel()
        self._link = None

    def _do_drain(self, _: lifecycle.Drain) -> None:
        self._keep(self._drain())

    async def _drain(self) -> None:
        await envoy_admin.drain(self._folder / "admin.sock")
        self.feed(lifecycle.Drained())

    def _do_signal(self, command: lifecycle.Signal) -> None:
        child = self._children.get(command.part)
        if child is not None:
            child.kill() if command.kill else child.terminate()

    def _do_schedule(self, command: lifecycle.Schedule) -> None:
        earlier = self._timers.pop(command.timer, None)
        if earlier is not None:
            earlier.cancel()
        self._timers[command.timer] = self._loop.call_later(
            command.delay, self._handle, lifecycle.Elapsed(command.timer)
        )

    def _do_release(self, _: lifecycle.Release) -> None:
        for timer in self._timers.values():
            timer.cancel()
        others = [task for task in self._tasks if not task.done()]
        for task in others:
            task.cancel()
        self._keep(self._release(others))

    async def _release(self, others: list[asyncio.Task[None]]) -> None:
        await asyncio.gather(*others, return_exceptions=True)
        around = self._around
        for undo in (around.identities.remove, around.network.remove):
            try:
                await undo(self.id)
            except (OSError, RuntimeError) as problem:
                around.events.emit("release-failed", str(problem), self.id)
        try:
            around.registry.revoke_token(self._token)
        except OSError as problem:
            around.events.emit("release-failed", str(problem), self.id)
        if self._untold is not None:
            self._untold.cancel()
        self.feed(lifecycle.Released())

    def _do_report(self, command: lifecycle.Report) -> None:
        log = _TELLING_LOGS.get(command.kind)
        words = last_words(self._folder / log) if log else ""
        self._around.events.emit(command.kind, command.text + words, self.id)

    def _keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._loop.call_exception_handler({"message": f"a task of {self.id} failed", "exception": task.exception()})


_TELLING_LOGS = {"app-exited": "app.log", "envoy-exited": "envoy.log"}
_DOERS: dict[type[lifecycle.Command], Callable[[Runner, Any], None]] = {
    lifecycle.PrepareNetwork: Runner._do_prepare_network,
    lifecycle.PrepareIdentity: Runner._do_prepare_identity,
    lifecycle.Start: Runner._do_start,
    lifecycle.RunProbe: Runner._do_run_probe,
    lifecycle.Publish: Runner._do_publish,
    lifecycle.Withdraw: Runner._do_withdraw,
    lifecycle.Abandon: Runner._do_abandon,
    lifecycle.Drain: Runner._do_drain,
    lifecycle.Signal: Runner._do_signal,
    lifecycle.Schedule: Runner._do_schedule,
    lifecycle.Release: Runner._do_release,
    lifecycle.Report: Runner._do_report,
}
