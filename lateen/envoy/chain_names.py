"""A chain that asks authorizers has a name that says whom, so that rules can tell whether they meet filters that ask.

Comes in: a plan. Goes out: the same, with other names of such chains, and the condition that a connection came by
another chain. Rules ride in route tables and hold at once, while the filters that ask stand in the chain, and open
connections keep those they have until they have drained. There, what is to be asked is denied.
"""

from __future__ import annotations

import hashlib

import msgspec
from google.api.expr.v1alpha1 import syntax_pb2
from msgspec.structs import replace

from lateen.plan.access.model import AccessPolicy
from lateen.plan.model import Chain, HttpChain, Listener, ProxyPlan

_MARK = "~asks-"
_Expr = syntax_pb2.Expr


def with_marked_chains(plan: ProxyPlan) -> ProxyPlan:
    """The plan with a name by whom it asks for each chain that asks authorizers about requests."""
    listeners = tuple(_listener(listener) for listener in plan.listeners)
    return plan if listeners == plan.listeners else replace(plan, listeners=listeners)


def written_name(name: str) -> str:
    """The name of a chain in the plan, where users know it."""
    return name.rpartition(_MARK)[0] or name


def by_another_chain(access: AccessPolicy) -> syntax_pb2.Expr:
    """In CEL, that the connection's chain has not the filters that ask for this policy."""
    name = _Expr.Select(operand=_Expr(ident_expr=_Expr.Ident(name="xds")), field="filter_chain_name")
    end = _Expr(const_expr=syntax_pb2.Constant(string_value=_mark(access)))
    ends = _Expr.Call(target=_Expr(select_expr=name), function="endsWith", args=[end])
    return _Expr(call_expr=_Expr.Call(function="!_", args=[_Expr(call_expr=ends)]))


def _mark(access: AccessPolicy) -> str:
    asked = msgspec.json.encode([check.authorizer.name for check in access.external])
    return f"{_MARK}{hashlib.blake2b(asked, digest_size=6).hexdigest()}"


def _listener(listener: Listener) -> Listener:
    last = listener.default_chain
    chains = tuple(_chain(chain) for chain in listener.chains)
    return replace(listener, chains=chains, default_chain=_chain(last) if last is not None else None)


def _chain(chain: Chain) -> Chain:
    action = chain.action
    if not isinstance(action, HttpChain) or not action.access.external:
        return chain
    return replace(chain, name=f"{chain.name}{_mark(action.access)}")
