"""Which of Mixer's rules concern a proxy, and what it has to do about them.

Comes in: the rules, and where requests arrive. Goes out: listeners whose chains ask the mixer where a rule may have
something to say. A rule whose match is known beforehand to fail costs nothing. Where the mesh has any rule, all chains
that speak HTTP can ask, whether one concerns them or not: so a new rule holds for connections that are open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from msgspec.structs import replace

from lateen.expressions.syntax import Attribute, Expression, Literal, attributes_of
from lateen.expressions.vocabulary import ValueType
from lateen.mesh.mixer.model import MixerRules
from lateen.mesh.model import MeshSnapshot, Service
from lateen.plan.clusters import Cluster, Discovery, Endpoint, EndpointSet, LoadBalancing, LocalityEndpoints
from lateen.plan.limits.model import LimitRule
from lateen.plan.mixer.decisions import MIXER, Decision, decisions, found_here, match_here
from lateen.plan.mixer.model import MIXER_CLUSTER, MixerCheck, MixerReport
from lateen.plan.mixer.operations import joined, with_changes
from lateen.plan.mixer.place import OF_BYTES, port_attributes, proxy_attributes
from lateen.plan.mixer.policy import Policy, policy_of
from lateen.plan.model import Chain, HttpChain, Listener, TcpChain
from lateen.plan.proxy import Proxy
from lateen.resources.mixer.templates import Variety
from lateen.values.names import BUILT_IN

OWN_HEADERS = frozenset({":authority", ":path", ":method", ":scheme", "user-agent", "referer", "x-request-id"})
"""Headers that reports have without being asked for."""


def with_mixer(
    listeners: tuple[Listener, ...], snapshot: MeshSnapshot, proxy: Proxy, services: tuple[Service, ...]
) -> tuple[Listener, ...]:
    """The inbound listeners, with whom their chains ask."""
    if not asks(snapshot.mixer):
        return listeners
    known = proxy_attributes(snapshot, proxy)

    def on_chain(chain: Chain) -> Chain:
        port = chain.match.destination_port or 0
        here = {**known, **port_attributes(snapshot, proxy, services, port)}
        if isinstance(chain.action, TcpChain):
            here.update(OF_BYTES)
        return _guarded(chain, snapshot, proxy, port, here)

    return tuple(_changed(listener, on_chain) for listener in listeners)


def policy_here(snapshot: MeshSnapshot, proxy: Proxy) -> Policy:
    """What the mesh and the annotations of a workload say of checks."""
    workload = snapshot.workloads.get(proxy.id)
    config = snapshot.mesh_config
    return policy_of(
        dict(workload.annotations if workload is not None else ()),
        disabled=bool(config.disable_policy_checks),
        fail_open=bool(config.policy_check_fail_open),
    )


def decisions_here(
    snapshot: MeshSnapshot, proxy: Proxy, known: dict[str, Any], *, of_bytes: bool
) -> Iterator[Decision]:
    """What becomes of each part of each rule for what arrives at a proxy."""
    checked, reported = policy_here(snapshot, proxy).checked, _reports(snapshot, of_bytes=of_bytes)
    return decisions(snapshot.mixer, known, of_bytes=of_bytes, checked=checked, reported=reported)


def _reports(snapshot: MeshSnapshot, *, of_bytes: bool) -> bool:
    return of_bytes or not snapshot.mesh_config.disable_mixer_http_reports


def asks(rules: MixerRules) -> bool:
    """Whether any proxy may have to ask, or to tell."""
    return bool(rules.rules)


def _guarded(chain: Chain, snapshot: MeshSnapshot, proxy: Proxy, port: int, known: dict[str, Any]) -> Chain:
    rules = snapshot.mixer
    is_bytes = isinstance(chain.action, TcpChain)
    policy = policy_here(snapshot, proxy)
    found = list(decisions_here(snapshot, proxy, known, of_bytes=is_bytes))
    denials = tuple(denial for one in found for denial in one.denials)
    asking = any(one.where == MIXER and one.asked for one in found)
    report = _report(rules, proxy, port, known) if _reports(snapshot, of_bytes=is_bytes) else None
    check = MixerCheck(
        proxy.id,
        port,
        timeout=1.0 + policy.patience,
        fail_open=policy.fail_open,
        retries=policy.retries,
        waits=(policy.base_wait, policy.max_wait),
        generation=rules.generation if asking else "",
        changed=tuple(sorted({f"{one.rule.name}.{one.rule.namespace}" for one in found if one.changes is not None})),
        counted=tuple(sorted({one.counted for one in found if one.counted})),
    )
    if isinstance(chain.action, TcpChain):
        told = replace(chain.action, mixer=check if asking else None, report=report)
        return replace(chain, action=told) if asking or report is not None else chain
    table, changes = chain.action.inline, [one.changes for one in found if one.changes is not None]
    if table is not None and changes:
        request, response = (joined(side) for side in zip(*changes, strict=True))
        table = with_changes(table, request, response)
    limits = (*(chain.action.limits or ()), *_in_order(found, rules)) or chain.action.limits
    action = replace(chain.action, inline=table, mixer=check, denials=denials, report=report, limits=limits)
    return replace(chain, action=action)


def _in_order(found: Iterable[Decision], rules: MixerRules) -> Iterator[LimitRule]:
    """The quotas that the proxy counts, as the mixer would charge them: the first that is used up refuses."""
    place = {charge.quota: -number for number, charge in enumerate(reversed(rules.charges))}
    for one in sorted((one for one in found if one.limits), key=lambda one: place[one.counted]):
        yield from one.limits


def _report(rules: MixerRules, proxy: Proxy, port: int, known: dict[str, Any]) -> MixerReport | None:
    """What the mixer has to be told of what arrives here; None where no rule that reports concerns it."""
    trees = _looked_at(rules, known, Variety.REPORT)
    if not trees:
        return None
    trees += [Attribute("context.protocol"), *_looked_at(rules, known, Variety.ATTRIBUTE_GENERATOR)]
    named = {one for tree in trees for one in attributes_of(tree)}
    asked = {key.lower() for name, key in named if name == "request.headers" and key is not None}
    answered = {key.lower() for name, key in named if name == "response.headers" and key is not None}
    asked |= _with_keys(rules) if any(name == "request.api_key" for name, _ in named) else set()
    request = tuple(sorted({*asked, "content-type"} - OWN_HEADERS))
    return MixerReport(proxy.id, port, request, tuple(sorted({*answered, "grpc-status"})))


def _with_keys(rules: MixerRules) -> set[str]:
    """The headers in which keys of APIs come."""
    places = {place for api in rules.apis for place in api.keys}
    return {name if kind == "header" else "cookie" for kind, name in places if kind != "query"}


def _looked_at(rules: MixerRules, known: dict[str, Any], variety: Variety) -> list[Expression]:
    """What rules with instances of a variety look at here."""
    found = found_here(rules, known)
    known = {name: value for name, value in known.items() if value is not None or name not in found}
    trees: list[Expression] = []
    for rule in rules.rules:
        instances = [one for action in rule.actions for one in action.instances if one.variety is variety]
        match = match_here(rule, known, rules.vocabulary) if instances else False
        if match is not False:
            trees += [field.tree for instance in instances for field in instance.fields]
            trees += [Literal(True, ValueType.BOOL) if isinstance(match, bool) else match]
    return trees


def _changed(listener: Listener, change: Callable[[Chain], Chain]) -> Listener:
    chains = tuple(_reached(chain, change) for chain in listener.chains)
    default = _reached(listener.default_chain, change) if listener.default_chain is not None else None
    return replace(listener, chains=chains, default_chain=default)


def _reached(chain: Chain, change: Callable[[Chain], Chain]) -> Chain:
    """Chains that lead nowhere are left alone."""
    targets = chain.action.targets if isinstance(chain.action, TcpChain) else ()
    leads_nowhere = isinstance(chain.action, TcpChain) and chain.action.telemetry is None
    return chain if leads_nowhere and targets else change(chain)


def asks_mixer(action: HttpChain | TcpChain) -> bool:
    """Whether a chain may ask the mixer: by Mixer's rules, or about limits that all proxies count together."""
    limits = action.limits or () if isinstance(action, HttpChain) else ()
    return action.mixer is not None or action.report is not None or any(rule.shared for rule in limits)


def mixer_parts(listeners: tuple[Listener, ...], socket: str) -> tuple[tuple[Cluster, ...], tuple[EndpointSet, ...]]:
    """The pool that leads to the mixer, where one of these listeners asks it."""
    chains = [chain for listener in listeners for chain in (*listener.chains, listener.default_chain)]
    if not any(chain is not None and asks_mixer(chain.action) for chain in chains):
        return (), ()
    cluster = Cluster(
        MIXER_CLUSTER,
        Discovery.STATIC,
        BUILT_IN,
        protocol="http2",
        connect_timeout=1.0,
        load_balancing=LoadBalancing.ROUND_ROBIN,
    )
    endpoints = EndpointSet(MIXER_CLUSTER, (LocalityEndpoints("", (Endpoint(f"unix://{socket}", 0),)),))
    return (cluster,), (endpoints,)
