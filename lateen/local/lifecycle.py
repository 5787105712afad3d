"""The words of an instance's life: its stages, what happens to it (events) and what is to be done about it (commands).

``lateen.local.supervisor`` is the machine that turns the one into the other.
"""

from __future__ import annotations

import enum

import msgspec

from lateen.local.project import Probe


class Part(enum.Enum):
    """The two processes of an instance."""

    ENVOY = "envoy"
    APP = "app"


class Stage(enum.Enum):
    """Where an instance is in its life."""

    NEW = "new"
    NETWORK = "network"
    IDENTITY = "identity"
    ENVOY = "starting proxy"
    RUNNING = "running"
    SETTLING = "leaving"
    DRAINING = "draining"
    STOPPING_APP = "stopping application"
    STOPPING_ENVOY = "stopping proxy"
    RELEASING = "releasing"
    STOPPED = "stopped"
    EVACUATING = "leaving a network that is gone"


class Timer(enum.Enum):
    """What can be scheduled; one of each kind at a time."""

    PREPARE = "prepare"
    ENVOY_START = "envoy start"
    APP_START = "app start"
    PROBE = "probe"
    SETTLE = "settle"
    DRAIN = "drain"
    KILL = "kill"


class Event(msgspec.Struct, frozen=True):
    """Something that happened to an instance."""


class Begin(Event, frozen=True):
    """Bring it up."""


class NetworkUp(Event, frozen=True):
    """Its network stands."""


class IdentityUp(Event, frozen=True):
    """Its certificate is there, and SDS and ADS answer."""


class PrepareFailed(Event, frozen=True):
    """The network or the identity could not be had: ``reason``."""

    reason: str


class ProxyReady(Event, frozen=True):
    """Envoy says that it is ready."""


class Exited(Event, frozen=True):
    """A process ended: ``code`` as wait reports it, negative for a signal."""

    part: Part
    code: int


class StartFailed(Event, frozen=True):
    """A process could not be started at all: ``reason``."""

    part: Part
    reason: str


class Probed(Event, frozen=True):
    """A readiness probe is over; ``detail`` says why it failed."""

    ok: bool
    detail: str = ""


class Elapsed(Event, frozen=True):
    """A scheduled time has come."""

    timer: Timer


class Drained(Event, frozen=True):
    """Envoy has no request left in flight."""


class Renew(Event, frozen=True):
    """The application's command, environment or probe is another one now: restart the application with it."""

    probe: Probe


class Listening(Event, frozen=True):
    """What a gateway's Envoy was told to open is open, or (``problem``, a sentence) could not be opened."""

    problem: str = ""


class NetworkLost(Event, frozen=True):
    """The network that it runs in is gone: end what runs there and begin anew; ``reason`` is a sentence."""

    reason: str


class Stop(Event, frozen=True):
    """Take it down in order. ``settle``: others go on, so clients are given time to let go of it first."""

    settle: bool = True


class Released(Event, frozen=True):
    """Its network and identity are gone."""


class Command(msgspec.Struct, frozen=True):
    """Something that the shell has to do."""


class PrepareNetwork(Command, frozen=True):
    """Make its network; answer NetworkUp or PrepareFailed."""


class PrepareIdentity(Command, frozen=True):
    """Get its certificate; answer IdentityUp or PrepareFailed."""


class Start(Command, frozen=True):
    """Start a process; for Envoy also watch for ProxyReady."""

    part: Part


class RunProbe(Command, frozen=True):
    """Probe the application once; answer Probed."""


class Publish(Command, frozen=True):
    """Write its entry in the registry."""

    ready: bool


class Withdraw(Command, frozen=True):
    """Remove its entry from the registry."""


class Drain(Command, frozen=True):
    """Tell Envoy to drain, answer Drained when no request is in flight."""


class Signal(Command, frozen=True):
    """End a process: by SIGTERM, or by SIGKILL to its whole group."""

    part: Part
    kill: bool = False


class Schedule(Command, frozen=True):
    """Send Elapsed(timer) after ``delay`` seconds, in place of an earlier one of that kind."""

    timer: Timer
    delay: float


class Abandon(Command, frozen=True):
    """Give up what is being prepared, and forget the network that is gone."""


class Release(Command, frozen=True):
    """Give back network and identity; answer Released."""


class Report(Command, frozen=True):
    """Tell the user: ``kind`` is stable (``app-exited``), ``text`` a sentence."""

    kind: str
    text: str
