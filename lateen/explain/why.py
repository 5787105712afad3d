"""Why a call was let in or not, in terms of the resources that say so.

Comes in: the plan of a proxy and where a call through it ended. Goes out: what the access policy of that chain says,
with the files and lines of its rules. The policy is the planned one, not what Envoy was given of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lateen.envoy.rbac import for_bytes
from lateen.explain import limits
from lateen.explain.access import Judgement, Near, judge
from lateen.explain.verdict import Verdict
from lateen.plan.model import Chain, HttpChain, Listener, ProxyPlan, TcpChain


def judged(action: HttpChain | TcpChain, verdict: Verdict) -> Judgement | None:
    """What the access policy of a chain says; None where the call did not come that far."""
    if verdict.facts is None:
        return None
    access = action.access
    return judge(access if verdict.facts.request is not None else for_bytes(access), verdict.facts)


def limited(action: HttpChain | TcpChain, verdict: Verdict) -> list[str]:
    """Which limits count the call, in sentences."""
    if not isinstance(action, HttpChain) or verdict.facts is None:
        return []
    return limits.told(action.limits or (), verdict.facts)


def action_of(plan: ProxyPlan, verdict: Verdict) -> HttpChain | TcpChain | None:
    """The chain in which a call ended, as it was planned; None where none took it."""
    for listener in plan.listeners:
        if listener.name == verdict.listener:
            for chain in _chains(listener):
                if chain.name == verdict.filter_chain:
                    return chain.action
    return None


def _chains(listener: Listener) -> Iterator[Chain]:
    yield from listener.chains
    if listener.default_chain is not None:
        yield listener.default_chain


def told(judgement: Judgement) -> list[str]:
    """The judgement in sentences, the deciding one first."""
    lines = [
        f"authorizer {asked.authorizer} is asked and has to agree ({asked.rule.origin})" for asked in judgement.asks
    ]
    if judgement.by is not None:
        verb = "allows" if judgement.allowed else "denies"
        lines.append(f"{judgement.by.name} {verb} it ({judgement.by.origin})")
    elif judgement.allowed:
        lines.append("no policy is for it, so it is allowed")
    else:
        lines.append("no ALLOW rule matches, so it is denied")
    lines.extend(came_near(judgement.near))
    if judgement.audited is not None:
        lines.append(f"{judgement.audited.name} audits it ({judgement.audited.origin})")
    if judgement.trial_deny is not None:
        lines.append(f"{judgement.trial_deny.name}, on trial, would deny it ({judgement.trial_deny.origin})")
    if judgement.trial_allows is not None:
        would = "would allow it" if judgement.trial_allows else "would not allow it, so it would be denied"
        lines.append(f"the ALLOW rules on trial {would}")
    return lines


def came_near(rules: Iterable[Near]) -> list[str]:
    """ALLOW rules that did not match, and what each failed by."""
    return [
        f"  {near.rule.name} ({near.rule.origin}) "
        + (f"fails: {'; '.join(near.reasons)}" if near.reasons else "holds now, as far as is known here")
        for near in rules
    ]
