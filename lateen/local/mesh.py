"""One running mesh: brings up what a project asks for, follows its changes, takes it all down again.

Comes in: a ``Project``, the run directory, and the rooms that make networks and identities. Goes out: processes, the
registry that the control plane reads, events and a status. The order within an instance is the state machine's; here
stands the order between them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

from lateen.findings import Finding
from lateen.local.addresses import AddressPool
from lateen.local.changes import compare, find_workloads, keep_scale, rescale, wanted_instances
from lateen.local.control_watch import ControlWatch
from lateen.local.events import EventLog
from lateen.local.gateway_ports import POLL_S, GatewayPorts, unopened_findings
from lateen.local.lifecycle import NetworkLost
from lateen.local.links import HeldIdentity, Identities, Network
from lateen.local.metrics import ExportTally
from lateen.local.network_guard import NetworkGuard
from lateen.local.processes import LogCap
from lateen.local.procfs import reference
from lateen.local.project import Project, Workload
from lateen.local.registry import Registry
from lateen.local.rundir import RunBook, RunDir
from lateen.local.runner import Runner, Surroundings
from lateen.local.service_child import ServiceChild
from lateen.local.status import CaptureStatus, MeshStatus, finding_status
from lateen.values.names import Origin

STEP_BOUND_S = 30.0
SYNC_BOUND_S = 10.0


class Mesh:
    """The supervisor of one mesh. ``start`` returns at once; ``ready`` is set once everything was ready."""

    def __init__(
        self,
        project: Project,
        run: RunDir,
        book: RunBook,
        *,
        network: Network,
        identities: Identities,
        control: ServiceChild,
        mixer: ServiceChild,
        stop_asked: asyncio.Event,
        registry: Registry,
        events: EventLog,
        envoy: Path,
        environment: Mapping[str, str],
    ) -> None:
        self.project = project
        self.run = run
        self.events = events
        self.control = control
        self.mixer = mixer
        self.ready = asyncio.Event()
        self.exports = ExportTally()
        self.stop_asked = stop_asked
        self.failed = False
        self.findings: tuple[Finding, ...] = ()
        self._port_findings: tuple[Finding, ...] = ()
        self._watch = ControlWatch(run.control_socket, control, events)
        self._file_project = project
        self._book = book
        self._network = network
        self._identities = identities
        self._registry = registry
        self._guard = NetworkGuard(
            network,
            events,
            Origin("Mesh", "", project.name),
            on_up=self._note_network,
            on_lost=self._lose_network,
            on_failed=self._give_up,
        )
        self._guarding: asyncio.Task[None] | None = None
        self._addresses = AddressPool()
        self._runners: dict[str, Runner] = {}
        self._change = asyncio.Lock()
        self._newer = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._around = Surroundings(
            run=run,
            run_id=book.record.run_id,
            network=network,
            identities=identities,
            registry=registry,
            events=events,
            control_ready=control.ready,
            network_ready=self._guard.ready,
            envoy=envoy,
            environment=environment,
            services=lambda: self.project.services,
            record=book.note,
            ports=GatewayPorts(run),
        )

    # Up

    def start(self) -> None:
        """Begin to bring everything up."""
        self._guarding = self._keep(self._guard.run())
        self._keep(LogCap(self.run.path).run())
        self._keep(self._watch.run())
        self._keep(self._watch_ports())
        self._keep(self._start_mixer_when_needed())
        self._keep(self._tell_when_ready())
        self._launch(wanted_instances(self.project))

    async def _start_mixer_when_needed(self) -> None:
        """Once the control plane has something for it to do; it then stays."""
        while not self.run.mixer_order.exists():  # noqa: ASYNC110 - it is another process that is waited for
            await asyncio.sleep(POLL_S)
        self.mixer.start()

    def _note_network(self) -> None:
        self._book.set_mode(self._network.mode)
        if self._network.pid:
            self._book.note("network", reference(self._network.pid))

    def _lose_network(self, reason: str) -> None:
        self._book.note("network", None)
        for runner in self._runners.values():
            runner.feed(NetworkLost(reason))
        self._keep(self._tell_when_restored())

    async def _tell_when_restored(self) -> None:
        await self._guard.ready.wait()
        for runner in list(self._runners.values()):
            waits = [asyncio.ensure_future(runner.wait_ready()), asyncio.ensure_future(runner.stopped.wait())]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        await self._wait_synced()
        self._guard.settle()

    async def _wait_synced(self) -> None:
        """Until each proxy knows of all that are ready: before that a request may find nobody."""
        ready = frozenset(name for name, runner in self._runners.items() if runner.status().ready)
        await self._watch.wait_synced(ready, SYNC_BOUND_S)

    def _give_up(self) -> None:
        self.failed = True
        self.stop_asked.set()

    def _launch(self, instances: Mapping[str, Workload]) -> list[Runner]:
        if self._stopping:  # a change that had begun goes no further
            return []
        tokens = self._registry.issue_tokens(instances)
        runners = []
        for instance_id, workload in instances.items():
            address = self._addresses.take(instance_id)
            token = tokens[instance_id]
            runner = Runner(self._around, instance_id, workload, address=address, token=token, on_end=self._forget)
            self._runners[instance_id] = runner
            runner.begin()
            runners.append(runner)
        return runners

    def _forget(self, runner: Runner) -> None:
        if self._runners.get(runner.id) is runner:
            del self._runners[runner.id]
            self._addresses.give_back(runner.id)
            if not self._stopping:
                self.events.emit("stopped", "stopped", runner.id)

    async def _tell_when_ready(self) -> None:
        for runner in list(self._runners.values()):
            await runner.wait_ready()
        await self._watch.look()
        await self._wait_synced()
        await self._look_at_ports()
        self.ready.set()
        self.events.emit("mesh-ready", "everything is ready")

    async def _watch_ports(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            await self._look_at_ports()

    async def _look_at_ports(self) -> None:
        """See which ports of gateways are open, and tell of those that nothing opens."""
        gateways = [runner for runner in self._runners.values() if runner.workload.is_gateway]
        await asyncio.gather(*(runner.look_at_ports() for runner in gateways))
        found = [
            finding for runner in gateways for finding in unopened_findings(self.project, runner.workload, runner.seen)
        ]
        for finding in found:
            if finding not in self._port_findings:
                self.events.emit("finding", finding.render())
        self._port_findings = tuple(found)

    # Changes

    async def apply(self, project: Project) -> None:
        """Follow another version of the project's file: start, stop, renew and replace what differs."""
        self._newer.set()
        async with self._change:
            self._newer.clear()
            merged = keep_scale(self._file_project, self.project, project)
            self._file_project = project
            await self._move_to(merged)

    async def scale(self, name: str, replicas: int) -> str:
        """Run so many of a workload (``reviews-v1``, ``reviews/v1``, or ``reviews`` where it has one version).

        Returns the workload's name, once the new ones are ready or half a minute has gone by. Raises LookupError with
        a sentence where the name means none or several.
        """
        async with self._change:
            found = find_workloads(self.project, name)
            if len(found) != 1:
                known = ", ".join(one.name for one in found or self.project.workloads if not one.is_gateway)
                raise LookupError(f"{name} means {'several workloads' if found else 'no workload'}: {known}")
            started = await self._move_to(rescale(self.project, found[0].name, replicas))
        await asyncio.gather(*(self._await_ready(runner) for runner in started))
        await self._wait_synced()
        return found[0].name

    async def restart(self, name: str) -> list[str]:
        """Restart the applications of a service or workload, one after the other. Raises LookupError if none."""
        async with self._change:
            found = {workload.name for workload in find_workloads(self.project, name)}
            runners = [one for one in self._runners.values() if one.workload.name in found or one.id == name]
            if not runners:
                known = ", ".join(one.name for one in self.project.workloads if not one.is_gateway)
                raise LookupError(f"{name} means no workload: {known}")
            for runner in runners:
                runner.restart_app()
                await self._await_ready(runner)
            return [runner.id for runner in runners]

    async def _move_to(self, project: Project) -> list[Runner]:
        """Start and stop instances; returns those that were started and may not be ready yet."""
        if project.services != self.project.services:
            self._registry.publish_services(project.services)
        self.project = project
        wanted = wanted_instances(project)
        changes = compare({name: runner.workload for name, runner in self._runners.items()}, wanted)
        stopping = [self._runners[name] for name in (*changes.stop, *changes.replace)]
        for runner in stopping:
            runner.stop()
        started = self._launch(changes.start)
        for name in self._runners.keys() & wanted.keys() - changes.renew.keys() - changes.replace.keys():
            self._runners[name].workload = wanted[name]
        by_workload: dict[str, list[str]] = {}
        for name, workload in changes.renew.items():
            by_workload.setdefault(workload.name, []).append(name)
        await asyncio.gather(*(self._renew_in_turn(names, changes.renew) for names in by_workload.values()))
        for runner in stopping:
            await runner.stopped.wait()
        return started + self._launch(changes.replace)

    async def _renew_in_turn(self, names: list[str], workloads: Mapping[str, Workload]) -> None:
        """One replica after the other, so that the workload goes on answering."""
        for name in names:
            self._runners[name].renew(workloads[name])
            await self._await_ready(self._runners[name])

    async def _await_ready(self, runner: Runner) -> None:
        """Until it is ready; not for ever, and not while a newer version of the file waits."""
        waits = [asyncio.ensure_future(runner.wait_ready()), asyncio.ensure_future(self._newer.wait())]
        await asyncio.wait(waits, timeout=STEP_BOUND_S, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    # Down

    async def stop(self) -> None:
        """Drain and end everything, gateways first, then remove the run directory."""
        self._stopping = True
        self.events.emit("stopping", "stopping: requests in flight are finished first")
        if self._guarding is not None:
            self._guarding.cancel()
            await asyncio.wait([self._guarding])
        for gateways in (True, False):
            runners = [one for one in self._runners.values() if one.workload.is_gateway is gateways]
            for runner in runners:
                runner.stop(settle=False)
            for runner in runners:
                await runner.stopped.wait()
        await self.mixer.stop()
        await self.control.stop()
        for close in (self._identities.close, self._network.close):
            try:
                await close()
            except (OSError, RuntimeError) as problem:
                self.events.emit("close-failed", str(problem))
        for task in self._tasks:
            task.cancel()

    def kill(self) -> None:
        """Hurry a stop on: every process ends at once."""
        for runner in list(self._runners.values()):
            runner.kill()

    # What others ask

    def held_identities(self) -> list[HeldIdentity]:
        """The certificate of each instance."""
        return self._identities.held()

    def status(self) -> MeshStatus:
        statuses = [runner.status() for _, runner in sorted(self._runners.items())]
        gateways = {workload.name for workload in self.project.gateways}
        return MeshStatus(
            name=self.project.name,
            run_id=self._book.record.run_id,
            run_dir=str(self.run.path),
            project=self.project.file,
            pid=self._book.record.supervisor.pid,
            started_at=self._book.record.started_at,
            ready=bool(statuses) and all(status.ready for status in statuses),
            stopping=self._stopping,
            gateways=tuple(status for status in statuses if status.workload in gateways),
            workloads=tuple(status for status in statuses if status.workload not in gateways),
            findings=(*(finding_status(finding) for finding in self._own_findings()), *self._watch.findings),
            capture=CaptureStatus(self._network.mode, self._network.reason),
            control_plane=self.control.status(),
            mixer=self.mixer.status() if self.mixer.started else None,
        )

    def _own_findings(self) -> tuple[Finding, ...]:
        return (*((self._guard.finding,) if self._guard.finding else ()), *self.findings, *self._port_findings)

    def runner(self, name: str) -> Runner:
        """The instance of this id, or the first of this workload or service. Raises LookupError if there is none."""
        if name in self._runners:
            return self._runners[name]
        workloads = {workload.name for workload in find_workloads(self.project, name)} | {name}
        for _, runner in sorted(self._runners.items()):
            if runner.workload.name in workloads:
                return runner
        raise LookupError(f"there is no workload {name}; there are: {', '.join(sorted(self._runners))}")

    def measured(self, instance_id: str) -> bytes:
        """What the proxy of an instance told of its connections, as Prometheus text."""
        return self._identities.measured(instance_id)

    def runners(self) -> list[Runner]:
        return list(self._runners.values())

    def _keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        problem = None if task.cancelled() else task.exception()
        if problem is not None:
            self.events.emit("internal-error", f"{type(problem).__name__}: {problem}")
            task.get_loop().call_exception_handler({"message": "a task of the supervisor failed", "exception": problem})
