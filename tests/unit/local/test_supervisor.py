"""The life of one instance: order on the way up and down, restarts, and what holds whatever happens."""

from __future__ import annotations

from hypothesis import given, strategies as st

from lateen.local import lifecycle as life
from lateen.local.lifecycle import Part, Stage, Timer
from lateen.local.project import NO_PROBE, Probe, ProbeKind
from lateen.local.supervisor import Instance

PROBE = Probe(ProbeKind.TCP, port=80)
UP = (life.Begin(), life.NetworkUp(), life.IdentityUp(), life.ProxyReady(), life.Probed(True))


def drive(machine: Instance, *events: life.Event, now: float = 0.0) -> list[life.Command]:
    return [command for event in events for command in machine.handle(event, now)]


def running() -> Instance:
    machine = Instance(has_app=True, probe=PROBE)
    drive(machine, *UP)
    assert machine.ready
    return machine


def test_nothing_starts_before_what_it_needs() -> None:
    machine = Instance(has_app=True, probe=PROBE)
    assert machine.handle(life.Begin(), 0) == [life.PrepareNetwork()]
    assert machine.handle(life.NetworkUp(), 0) == [life.Publish(ready=False), life.PrepareIdentity()]
    assert machine.handle(life.IdentityUp(), 0) == [life.Start(Part.ENVOY)]
    assert machine.handle(life.ProxyReady(), 0) == [life.Start(Part.APP), life.Schedule(Timer.PROBE, 0.0)]
    assert machine.handle(life.Elapsed(Timer.PROBE), 0) == [life.RunProbe()]
    assert not machine.ready
    assert life.Publish(ready=True) in machine.handle(life.Probed(True), 0)
    assert machine.ready


def test_a_gateway_is_ready_with_its_proxy() -> None:
    machine = Instance(has_app=False)
    assert life.Publish(ready=True) in drive(machine, *UP[:4])


def test_without_a_probe_a_started_application_is_ready() -> None:
    machine = Instance(has_app=True, probe=NO_PROBE)
    drive(machine, *UP[:4])
    assert machine.ready


def test_a_crashed_application_leaves_at_once_and_comes_back_later_and_later() -> None:
    machine = running()
    delays = []
    for _ in range(9):
        commands = drive(machine, life.Exited(Part.APP, 1))
        delays += [command.delay for command in commands if isinstance(command, life.Schedule)]
        drive(machine, life.Elapsed(Timer.APP_START), life.Probed(True))
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert machine.restarts == 9
    first = drive(running(), life.Exited(Part.APP, 1))
    assert first[0] == life.Publish(ready=False)


def test_what_ran_for_a_while_is_restarted_soon() -> None:
    machine = running()
    for _ in range(5):
        drive(machine, life.Exited(Part.APP, 1), life.Elapsed(Timer.APP_START))
    commands = drive(machine, life.Exited(Part.APP, 1), now=100.0)
    assert [command.delay for command in commands if isinstance(command, life.Schedule)] == [0.1]


def test_a_crashed_proxy_is_started_at_once_and_the_application_goes_on() -> None:
    machine = running()
    commands = machine.handle(life.Exited(Part.ENVOY, -9), 50.0)
    assert commands[0] == life.Publish(ready=False)
    assert commands[-1] == life.Start(Part.ENVOY)
    assert machine.alive(Part.APP)
    assert drive(machine, life.ProxyReady()) == [life.Publish(ready=True)]


def test_readiness_follows_the_thresholds() -> None:
    machine = running()
    drive(machine, life.Probed(False, "x"), life.Probed(False, "x"))
    assert machine.ready
    drive(machine, life.Probed(False, "x"))
    assert not machine.ready
    drive(machine, life.Probed(True))
    assert machine.ready


def test_the_way_down_is_in_order() -> None:
    machine = running()
    assert machine.handle(life.Stop(), 0)[0] == life.Publish(ready=False)
    assert life.Drain() in machine.handle(life.Elapsed(Timer.SETTLE), 0)
    assert machine.handle(life.Drained(), 0)[0] == life.Signal(Part.APP)
    assert machine.handle(life.Exited(Part.APP, 0), 0)[0] == life.Signal(Part.ENVOY)
    assert machine.handle(life.Exited(Part.ENVOY, 0), 0) == [life.Withdraw(), life.Release()]
    machine.handle(life.Released(), 0)
    assert machine.stage is Stage.STOPPED


def test_what_does_not_end_is_killed() -> None:
    machine = running()
    drive(machine, life.Stop(settle=False), life.Elapsed(Timer.DRAIN))
    assert drive(machine, life.Elapsed(Timer.KILL)) == [life.Signal(Part.APP, kill=True)]
    drive(machine, life.Exited(Part.APP, -9))
    assert drive(machine, life.Elapsed(Timer.KILL)) == [life.Signal(Part.ENVOY, kill=True)]


def test_a_new_command_restarts_the_application_alone() -> None:
    machine = running()
    assert machine.handle(life.Renew(PROBE), 0)[0] == life.Publish(ready=False)
    assert machine.handle(life.Elapsed(Timer.SETTLE), 0)[0] == life.Signal(Part.APP)
    assert life.Start(Part.APP) in machine.handle(life.Exited(Part.APP, -15), 0)
    assert machine.restarts == 0


def test_a_failed_preparation_is_tried_again() -> None:
    machine = Instance(has_app=True, probe=PROBE)
    commands = drive(machine, life.Begin(), life.PrepareFailed("no"))
    assert life.Schedule(Timer.PREPARE, 0.1) in commands
    assert drive(machine, life.Elapsed(Timer.PREPARE)) == [life.PrepareNetwork()]


def test_a_lost_network_ends_both_processes_and_the_way_up_begins_anew() -> None:
    machine = running()
    commands = machine.handle(life.NetworkLost("the network is gone"), 0)
    assert commands[:4] == [life.Withdraw(), life.Abandon(), life.Signal(Part.ENVOY), life.Signal(Part.APP)]
    assert (machine.ready, machine.detail) == (False, "the network is gone")
    assert drive(machine, life.Probed(True), life.ProxyReady(), life.Exited(Part.ENVOY, -15)) == []
    assert drive(machine, life.Elapsed(Timer.KILL)) == [life.Signal(Part.APP, kill=True)]
    assert drive(machine, life.Exited(Part.APP, -9)) == [life.PrepareNetwork()]
    drive(machine, *UP[1:])
    assert machine.ready
    assert machine.restarts == 0


EVENTS = st.one_of(
    st.sampled_from(
        [
            life.NetworkUp(),
            life.IdentityUp(),
            life.PrepareFailed("no"),
            life.ProxyReady(),
            life.Exited(Part.ENVOY, 1),
            life.Exited(Part.APP, 1),
            life.StartFailed(Part.APP, "no"),
            life.Probed(True),
            life.Probed(False, "no"),
            life.Drained(),
            life.Renew(PROBE),
            life.NetworkLost("gone"),
            life.Stop(),
        ]
    ),
    st.sampled_from([life.Elapsed(timer) for timer in Timer]),
)


@given(st.lists(EVENTS, max_size=60), st.booleans())
def test_whatever_happens_nothing_runs_twice_and_all_of_it_ends(events: list[life.Event], has_app: bool) -> None:
    machine = Instance(has_app=has_app, probe=PROBE if has_app else NO_PROBE)
    alive: set[Part] = set()
    signalled: set[Part] = set()
    published = False
    stopping = False
    for number, event in enumerate([life.Begin(), *events]):
        if isinstance(event, life.Exited | life.StartFailed):
            if event.part not in alive:
                continue
            alive.discard(event.part)
        stopping = stopping or isinstance(event, life.Stop)
        for command in machine.handle(event, float(number)):
            if isinstance(command, life.Start):
                assert command.part not in alive
                assert not stopping
                assert command.part is Part.ENVOY or has_app
                alive.add(command.part)
                signalled.discard(command.part)
            if isinstance(command, life.Signal):
                signalled.add(command.part)
            if isinstance(command, life.Publish):
                published = command.ready
            if isinstance(command, life.Withdraw):
                published = False
        assert published == machine.ready
        assert not machine.ready or Part.ENVOY in alive
        assert not machine.ready or not has_app or Part.APP in alive
    assert_ends(machine, alive, signalled)


def assert_ends(machine: Instance, alive: set[Part], signalled: set[Part]) -> None:
    """With a stop, the ends of its processes and the passing of time it comes to its end, and is released once.

    ``signalled`` are those that were told to end before.
    """
    pending = [*map(life.Signal, signalled), *machine.handle(life.Stop(), 1000.0)]
    for _ in range(12):
        following: list[life.Event] = [life.Elapsed(Timer.SETTLE), life.Elapsed(Timer.DRAIN)]
        for command in pending:
            if isinstance(command, life.Signal) and command.part in alive:
                alive.discard(command.part)
                following.append(life.Exited(command.part, -15))
            if isinstance(command, life.Release):
                following.append(life.Released())
        if machine.stage is Stage.RELEASING:
            following.append(life.Released())
        following.append(life.Elapsed(Timer.KILL))
        pending = drive(machine, *following, now=1000.0)
    assert machine.stage is Stage.STOPPED
    assert not alive
