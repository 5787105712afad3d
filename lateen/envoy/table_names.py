"""A route table whose rules leave something to authorizers has a name that says to which.

Comes in: a plan. Goes out: the same, with other names of such tables. Rules ride in route tables and hold at once, but
the filters that ask stand in the listener, and open connections keep those they have until they have drained. Under one
name, rules that no longer deny because somebody is asked would reach filters that ask nobody. With names apart those
connections keep the table that fits their filters: Envoy keeps one that is gone.
"""

from __future__ import annotations

import hashlib

import msgspec
from msgspec.structs import replace

from lateen.plan.model import Chain, HttpChain, Listener, ProxyPlan

_MARK = "~asks-"


def with_own_tables(plan: ProxyPlan) -> ProxyPlan:
    """The plan with a name of its own for each table of a chain that asks authorizers."""
    if not any(_asks(chain) for listener in plan.listeners for chain in _chains(listener)):
        return plan
    listeners = tuple(_listener(listener) for listener in plan.listeners)
    before = {name for listener in plan.listeners for name in _tables_of(listener)}
    now = {name for listener in listeners for name in _tables_of(listener)}
    renamed = {name: written_name(name) for name in now if name != written_name(name)}
    planned = {table.name: table for table in plan.route_tables}
    kept = tuple(table for table in plan.route_tables if table.name in now or table.name not in before)
    own = tuple(replace(planned[was], name=name) for name, was in sorted(renamed.items()) if was in planned)
    return replace(plan, listeners=listeners, route_tables=(*kept, *own))


def written_name(name: str) -> str:
    """The name of a table in the plan, where users know it."""
    return name.rpartition(_MARK)[0] or name


def _listener(listener: Listener) -> Listener:
    last = listener.default_chain
    return replace(
        listener,
        chains=tuple(_chain(chain) for chain in listener.chains),
        default_chain=_chain(last) if last is not None else None,
    )


def _chain(chain: Chain) -> Chain:
    action = chain.action
    if not isinstance(action, HttpChain) or not _asks(chain):
        return chain
    asked = msgspec.json.encode([check.authorizer for check in action.access.external])
    end = f"{_MARK}{hashlib.blake2b(asked, digest_size=6).hexdigest()}"
    if action.inline is not None:
        inline = replace(action.inline, name=f"{action.inline.name}{end}")
        return replace(chain, action=replace(action, inline=inline))
    return replace(chain, action=replace(action, route_table=f"{action.route_table}{end}"))


def _asks(chain: Chain) -> bool:
    return isinstance(chain.action, HttpChain) and bool(chain.action.access.external)


def _chains(listener: Listener) -> tuple[Chain, ...]:
    return (*listener.chains, *((listener.default_chain,) if listener.default_chain is not None else ()))


def _tables_of(listener: Listener) -> list[str]:
    actions = [chain.action for chain in _chains(listener) if isinstance(chain.action, HttpChain)]
    return [action.inline.name if action.inline is not None else action.route_table for action in actions]
