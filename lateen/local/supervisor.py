"""The life of one instance (a workload replica or a gateway), as a state machine without I/O.

Events come in with the time they happened at, commands go out; ``lateen.local.runner`` carries them out. The order is
fixed here and nowhere else: network -> registered -> identity -> Envoy -> application -> probe -> ready; and on the
way down: not ready -> clients have let go -> Envoy drains -> application -> Envoy -> unregistered -> network.
The application and Envoy are restarted independently of one another; an instance is ready only while both are well.
If the network is lost both are ended, and the way up begins anew.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from lateen.local.backoff import Backoff
from lateen.local.lifecycle import (
    Abandon,
    Begin,
    Command,
    Drain,
    Drained,
    Elapsed,
    Event,
    Exited,
    IdentityUp,
    Listening,
    NetworkLost,
    NetworkUp,
    Part,
    PrepareFailed,
    PrepareIdentity,
    PrepareNetwork,
    Probed,
    ProxyReady,
    Publish,
    Release,
    Released,
    Renew,
    Report,
    RunProbe,
    Schedule,
    Signal,
    Stage,
    Start,
    StartFailed,
    Stop,
    Timer,
    Withdraw,
)
from lateen.local.project import NO_PROBE, Probe, ProbeKind

SETTLE_S = 0.3
DRAIN_S = 5.0
TERM_S = 5.0


class _Process(msgspec.Struct):
    """One process of the instance, as far as the machine has to know."""

    alive: bool = False
    ready: bool = False
    started_at: float = 0.0
    restarts: int = 0
    backoff: Backoff = Backoff()


class Instance:
    """The machine of one instance. Call ``handle`` with each event; carry out what it returns, in order."""

    def __init__(self, *, has_app: bool, probe: Probe = NO_PROBE) -> None:
        self.stage = Stage.NEW
        self.ready = False
        self.detail = ""
        self._has_app = has_app
        self._probe = probe
        self._envoy = _Process()
        self._app = _Process()
        self._backoff = Backoff()
        self._streak = 0
        self._probes = 0
        self._listening_problem = ""
        self._stopping = False
        self._renewing = False
        self._due: set[Timer] = set()
        self._out: list[Command] = []

    @property
    def restarts(self) -> int:
        """How often a process of it was started again after it had ended by itself."""
        return self._envoy.restarts + self._app.restarts

    def restarts_of(self, part: Part) -> int:
        return self._process(part).restarts

    def alive(self, part: Part) -> bool:
        return self._process(part).alive

    def proxy_ready(self) -> bool:
        return self._envoy.ready

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take one event in; ``now`` is a time that only grows, in seconds. Events that come too late are ignored."""
        self._out = []
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event, now)
        return self._out

    # The way up

    def _on_begin(self, _: Event, __: float) -> None:
        if self.stage is Stage.NEW:
            self.stage = Stage.NETWORK
            self._send(PrepareNetwork())

    def _on_network_up(self, _: Event, __: float) -> None:
        if self.stage is Stage.NETWORK:
            self._backoff = Backoff()
            self.stage = Stage.IDENTITY
            self._send(Publish(ready=False), PrepareIdentity())

    def _on_identity_up(self, _: Event, now: float) -> None:
        if self.stage is Stage.IDENTITY:
            self.stage = Stage.ENVOY
            self._start(Part.ENVOY, now)

    def _on_prepare_failed(self, event: PrepareFailed, _: float) -> None:
        if self.stage in (Stage.NETWORK, Stage.IDENTITY):
            self._backoff = self._backoff.after_exit(0.0)
            self.detail = event.reason
            self._send(
                Report("prepare-failed", f"{self.stage.value}: {event.reason}"),
                Schedule(Timer.PREPARE, self._backoff.delay),
            )

    def _on_proxy_ready(self, _: Event, now: float) -> None:
        if not self._envoy.alive or self._is_leaving:
            return
        self._envoy.ready = True
        if self.stage is Stage.ENVOY:
            self.stage = Stage.RUNNING
            self.detail = self._listening_problem
            if self._has_app:
                self._start(Part.APP, now)
        self._judge()

    def _on_listening(self, event: Listening, _: float) -> None:
        if not self._envoy.alive or self._is_leaving or event.problem == self._listening_problem:
            return
        self._listening_problem = self.detail = event.problem
        if event.problem:
            self._send(Report("port-refused", event.problem))
        self._judge()

    def _on_probed(self, event: Probed, _: float) -> None:
        if self._is_leaving or not self._app.alive or self._renewing:
            return
        ready = self._app.ready
        self._streak = 0 if event.ok is ready else self._streak + 1
        self._probes += 1
        needed = self._probe.success_threshold if event.ok else self._probe.failure_threshold
        if event.ok is not ready and self._streak >= needed:
            self._app.ready, self._streak = event.ok, 0
            if not event.ok:
                self._send(Report("probe-failed", f"no longer ready: {event.detail}"))
        self.detail = "" if event.ok else event.detail
        self._send(Schedule(Timer.PROBE, self._probe_delay()))
        self._judge()

    def _probe_delay(self) -> float:
        """Until it is ready it is asked often, as every wait is the user's, and less often the longer it takes."""
        if self._app.ready:
            return self._probe.interval
        return min(1.0, 0.05 * 1.2 ** min(self._probes, 100), self._probe.interval)

    # Ends and restarts

    def _on_exited(self, event: Exited, now: float) -> None:
        process = self._process(event.part)
        if not process.alive:
            return
        process.alive = process.ready = False
        if self._stopping:
            self._after_stop_of(event.part, now)
            return
        if self.stage is Stage.EVACUATING:
            self._begin_anew()
            return
        if event.part is Part.APP and self._renewing:
            self._renewing = False
            self._judge()
            self._start(Part.APP, now)
            return
        kind = "killed" if event.code < 0 else "exited"
        self._restart_later(event.part, kind, f"ended {describe_exit(event.code)}", now)

    def _on_start_failed(self, event: StartFailed, now: float) -> None:
        process = self._process(event.part)
        process.alive = process.ready = False
        if self._stopping:
            self._after_stop_of(event.part, now)
        elif self.stage is Stage.EVACUATING:
            self._begin_anew()
        else:
            self._restart_later(event.part, "failed", f"could not be started: {event.reason}", now)

    def _restart_later(self, part: Part, kind: str, what: str, now: float) -> None:
        process = self._process(part)
        process.backoff = process.backoff.after_exit(now - process.started_at)
        process.restarts += 1
        name = "the application" if part is Part.APP else "its proxy"
        self.detail = f"{name} {what}"
        delay = 0.0 if part is Part.ENVOY and process.backoff.failures == 1 else process.backoff.delay
        self._judge()
        if part is Part.ENVOY and delay == 0.0:
            self._send(Report(f"envoy-{kind}", f"{self.detail}; it is started again"))
            self._start(part, now)
            return
        timer = Timer.ENVOY_START if part is Part.ENVOY else Timer.APP_START
        self._send(
            Report(f"{part.value}-{kind}", f"{self.detail}; it is started again in {delay:g} s"), Schedule(timer, delay)
        )

    def _on_renew(self, event: Renew, now: float) -> None:
        if self._stopping or not self._has_app:
            return
        self._probe = event.probe
        if self.stage is Stage.EVACUATING:
            return
        if self._app.alive and not self._renewing:
            self._renewing = True
            was_ready, self._app.ready = self.ready, False
            self._judge()
            if was_ready:
                self._send(Schedule(Timer.SETTLE, SETTLE_S))
            else:
                self._end_app()
        elif self.stage is Stage.RUNNING and not self._app.alive:
            self._app.backoff = Backoff()
            self._start(Part.APP, now)

    # A network that is gone

    @property
    def _is_leaving(self) -> bool:
        return self._stopping or self.stage is Stage.EVACUATING

    def _on_network_lost(self, event: NetworkLost, _: float) -> None:
        if self._is_leaving or self.stage in (Stage.NEW, Stage.NETWORK, Stage.STOPPED):
            return
        self.stage, self.detail = Stage.EVACUATING, event.reason
        self.ready = self._renewing = self._envoy.ready = self._app.ready = False
        self._due.clear()
        alive = [part for part in Part if self.alive(part)]
        self._send(Withdraw(), Abandon(), *(Signal(part) for part in alive))
        if alive:
            self._send(Schedule(Timer.KILL, TERM_S))
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Up again, once nothing of it runs in the old network."""
        if not (self._envoy.alive or self._app.alive):
            self._backoff = Backoff()
            self.stage = Stage.NETWORK
            self._send(PrepareNetwork())

    # The way down

    def _on_stop(self, event: Stop, now: float) -> None:
        if self._stopping:
            return
        self._stopping = True
        was_ready = self.ready
        self.ready = False
        if self.stage in (Stage.NEW, Stage.STOPPED):
            self.stage = Stage.STOPPED
        elif self.stage is Stage.NETWORK:
            self.stage = Stage.RELEASING
            self._send(Release())
        elif was_ready and not event.settle:
            self._drain()
        elif was_ready:
            self.stage = Stage.SETTLING
            self._send(Publish(ready=False), Schedule(Timer.SETTLE, SETTLE_S))
        else:
            self._stop_app(now)

    def _drain(self) -> None:
        self.stage = Stage.DRAINING
        self._send(Drain(), Schedule(Timer.DRAIN, DRAIN_S))

    def _on_drained(self, _: Event, now: float) -> None:
        if self.stage is Stage.DRAINING:
            self._stop_app(now)

    def _stop_app(self, now: float) -> None:
        self.stage = Stage.STOPPING_APP
        if self._app.alive:
            self._end_app()
        else:
            self._stop_envoy(now)

    def _end_app(self) -> None:
        self._send(Signal(Part.APP), Schedule(Timer.KILL, TERM_S))

    def _stop_envoy(self, _: float) -> None:
        self.stage = Stage.STOPPING_ENVOY
        if self._envoy.alive:
            self._send(Signal(Part.ENVOY), Schedule(Timer.KILL, TERM_S))
        else:
            self._release()

    def _after_stop_of(self, part: Part, now: float) -> None:
        if part is Part.APP and self.stage in (Stage.SETTLING, Stage.DRAINING, Stage.STOPPING_APP):
            self._stop_envoy(now)
        elif part is Part.ENVOY and self.stage in (Stage.SETTLING, Stage.DRAINING):
            self._stop_app(now)
        elif part is Part.ENVOY and self.stage is Stage.STOPPING_ENVOY:
            self._release()

    def _release(self) -> None:
        self.stage = Stage.RELEASING
        self._send(Withdraw(), Release())

    def _on_released(self, _: Event, __: float) -> None:
        if self.stage is Stage.RELEASING:
            self.stage = Stage.STOPPED

    # Timers and helpers

    def _on_elapsed(self, event: Elapsed, now: float) -> None:
        timer = event.timer
        if timer not in self._due:
            return
        self._due.discard(timer)
        if timer is Timer.PREPARE and self.stage is Stage.NETWORK:
            self._send(PrepareNetwork())
        elif timer is Timer.PREPARE and self.stage is Stage.IDENTITY:
            self._send(PrepareIdentity())
        elif timer is Timer.ENVOY_START and not self._stopping and not self._envoy.alive:
            self._start(Part.ENVOY, now)
        elif timer is Timer.APP_START and not self._stopping and not self._app.alive:
            self._start(Part.APP, now)
        elif timer is Timer.PROBE and self._app.alive and not self._stopping and not self._renewing:
            self._send(RunProbe())
        elif timer is Timer.SETTLE and self.stage is Stage.SETTLING:
            self._drain()
        elif timer is Timer.SETTLE and self._renewing and self._app.alive and not self._stopping:
            self._end_app()
        elif timer is Timer.DRAIN and self.stage is Stage.DRAINING:
            self._stop_app(now)
        elif timer is Timer.KILL:
            self._kill()

    def _kill(self) -> None:
        if self.stage is Stage.EVACUATING:
            self._send(*(Signal(part, kill=True) for part in Part if self.alive(part)))
        elif self._app.alive and (self._renewing or self.stage is Stage.STOPPING_APP):
            self._send(Signal(Part.APP, kill=True))
        elif self._envoy.alive and self.stage is Stage.STOPPING_ENVOY:
            self._send(Signal(Part.ENVOY, kill=True))

    def _start(self, part: Part, now: float) -> None:
        process = self._process(part)
        process.alive, process.ready, process.started_at = True, False, now
        self._send(Start(part))
        if part is Part.ENVOY:
            self._listening_problem = ""
        if part is Part.APP:
            self._streak = self._probes = 0
            if self._probe.kind is ProbeKind.NONE:
                process.ready = True
                self._judge()
            else:
                self._send(Schedule(Timer.PROBE, self._probe.initial_delay))

    def _judge(self) -> None:
        """Publish the instance's readiness if it has changed."""
        up = self._envoy.ready and not self._listening_problem and not self._stopping
        ready = up and (self._app.ready or not self._has_app)
        if ready is not self.ready:
            self.ready = ready
            if ready:
                self.detail = ""
            self._send(Publish(ready=ready))

    def _process(self, part: Part) -> _Process:
        return self._envoy if part is Part.ENVOY else self._app

    def _send(self, *commands: Command) -> None:
        self._out.extend(commands)
        self._due.update(command.timer for command in commands if isinstance(command, Schedule))


def describe_exit(code: int) -> str:
    """``with status 1`` or ``by signal 9``."""
    return f"by signal {-code}" if code < 0 else f"with status {code}"


_HANDLERS: dict[type[Event], Callable[..., None]] = {
    Begin: Instance._on_begin,
    NetworkUp: Instance._on_network_up,
    IdentityUp: Instance._on_identity_up,
    PrepareFailed: Instance._on_prepare_failed,
    ProxyReady: Instance._on_proxy_ready,
    Exited: Instance._on_exited,
    StartFailed: Instance._on_start_failed,
    Probed: Instance._on_probed,
    Elapsed: Instance._on_elapsed,
    Drained: Instance._on_drained,
    Renew: Instance._on_renew,
    Listening: Instance._on_listening,
    NetworkLost: Instance._on_network_lost,
    Stop: Instance._on_stop,
    Released: Instance._on_released,
}
