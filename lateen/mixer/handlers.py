"""Handlers of a configuration: made where they are new, kept where nothing has changed, closed where they are gone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import msgspec

from lateen.mesh.mixer import model
from lateen.mesh.mixer.model import MixerRules
from lateen.mixer.adapter import Adapter, CheckAdapter, CheckResult
from lateen.mixer.adapters.denier import Denier
from lateen.mixer.adapters.listchecker import ListChecker
from lateen.mixer.adapters.lists import STRINGS
from lateen.mixer.adapters.opa import Opa
from lateen.mixer.handler import Handler
from lateen.mixer.templates import Instance
from lateen.resources.base import Spec
from lateen.resources.mixer.adapters import DenierParams, ListcheckerParams, OpaParams, Status

DEADLINE_S = 0.5


class Web(msgspec.Struct, frozen=True):
    """How adapters reach others: ``fetch`` reads a document, ``post`` sends a JSON body and gives the answer's."""

    fetch: Callable[[str], Awaitable[bytes]]
    post: Callable[[str, bytes], Awaitable[bytes]]


class Noop(CheckAdapter):
    """Lets everything through."""

    async def check(self, instance: Instance) -> CheckResult:
        return CheckResult()


def _denier(params: Spec, web: Web) -> Adapter:
    assert isinstance(params, DenierParams)
    status = params.status or Status()
    valid = 5.0 if params.valid_duration is None else float(params.valid_duration)
    return Denier(status.code, status.message, valid, params.valid_use_count or 1000)


def _listchecker(params: Spec, web: Web) -> Adapter:
    assert isinstance(params, ListcheckerParams)
    return ListChecker(
        params.overrides,
        params.entry_type or STRINGS,
        blacklist=params.blacklist,
        provider_url=params.provider_url,
        refresh=_seconds(params.refresh_interval, 60.0),
        ttl=_seconds(params.ttl, 300.0),
        valid=_seconds(params.caching_interval, 300.0),
        uses=params.caching_use_count or 10_000,
        fetch=web.fetch,
    )


def _opa(params: Spec, web: Web) -> Adapter:
    assert isinstance(params, OpaParams)
    return Opa(params.url, params.check_method, web.post)


def _seconds(given: float | None, default: float) -> float:
    return default if given is None else float(given)


MAKERS: Mapping[str, Callable[[Spec, Web], Adapter]] = {
    "denier": _denier,
    "listchecker": _listchecker,
    "noop": lambda params, web: Noop(),
    "opa": _opa,
}


class Handlers:
    """The handlers at work, by name."""

    def __init__(self, web: Web) -> None:
        self._web = web
        self._running: dict[str, tuple[model.Handler, bool, Handler]] = {}

    @property
    def running(self) -> Mapping[str, Handler]:
        return {name: handler for name, (_, _, handler) in self._running.items()}

    async def follow(self, rules: MixerRules, *, fail_open: bool) -> list[Handler]:
        """Bring the handlers up to what rules name. Returns those that are to be closed once nobody calls them."""
        wanted = {action.handler.name: action.handler for rule in rules.rules for action in rule.actions}
        before, self._running = self._running, {}
        for name, config in wanted.items():
            known = before.get(name)
            if known is not None and known[0] == config and known[1] is fail_open:
                self._running[name] = before.pop(name)
                continue
            open_here = fail_open or (isinstance(config.params, OpaParams) and not config.params.fail_close)
            adapter = MAKERS[config.adapter](config.params, self._web)
            handler = Handler(name, adapter, deadline=DEADLINE_S, fail_open=open_here)
            self._running[name] = (config, fail_open, handler)
        return [handler for _, _, handler in before.values()]
