"""Rules of Mixer that hold nowhere, or do not hold for all that arrives, which whoever wrote them would not notice.

Comes in: the snapshot. Goes out: warnings, once there are workloads. What is constant where requests arrive is held
against each match; a rule that no place is left for does nothing, as with a label that no workload has.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lateen.expressions.syntax import attributes_of
from lateen.expressions.vocabulary import Vocabulary
from lateen.findings import Finding, warning
from lateen.mesh.members import ServicesOfWorkloads, member_port
from lateen.mesh.mixer.model import Rule
from lateen.mesh.model import MeshSnapshot, Service
from lateen.plan.mixer.apis import absent_here, apis_here
from lateen.plan.mixer.decisions import found_here, match_here
from lateen.plan.mixer.place import OF_BYTES, forms_of, port_attributes, proxy_attributes
from lateen.plan.planner import proxy_of
from lateen.resources.mixer.templates import Variety
from lateen.values.protocol import Protocol

REPORTER = "context.reporter.kind"


def idle_rules(snapshot: MeshSnapshot) -> Iterator[Finding]:
    """The warnings, in the order of the rules."""
    rules = snapshot.mixer
    waiting = [_Waiting(rule, rules.vocabulary) for rule in rules.rules]
    some = False
    for known in _forms(snapshot) if waiting else ():
        some = True
        found = found_here(rules, known)
        absent = absent_here(apis_here(rules, known))
        here = {name: value for name, value in {**absent, **known}.items() if value is not None or name not in found}
        waiting = [one for one in waiting if not one.holds(here)]
        if not waiting:
            return
    yield from (_told(one.rule, snapshot) for one in waiting if some)


def passed_by_bytes(snapshot: MeshSnapshot) -> Iterator[Finding]:
    """Warnings of rules that refuse requests at ports of which nobody says what they speak: a client that sends what is
    not taken for HTTP, but by the application, gets by."""
    rules = snapshot.mixer
    waiting = [_Waiting(rule, rules.vocabulary) for rule in rules.rules if _refuses(rule)]
    for known, protocol in _places(snapshot) if waiting else ():
        if protocol is not Protocol.UNSPECIFIED:
            continue
        for one in [one for one in waiting if one.holds(known)]:
            if match_here(one.rule, {**known, **OF_BYTES}, rules.vocabulary) is False:
                waiting.remove(one)
                port = f"{known['destination.workload.name']}:{known['destination.port']}"
                message = f"what arrives at {port} and is not taken for HTTP passes this rule"
                remedy = "say what the port speaks: call it http, or give appProtocol"
                yield warning("undeclared-port", message, one.rule.origin, remedy)


def _refuses(rule: Rule) -> bool:
    return any(one.variety in (Variety.CHECK, Variety.QUOTA) for action in rule.actions for one in action.instances)


def _forms(snapshot: MeshSnapshot) -> Iterator[dict[str, Any]]:
    """What is known beforehand of requests, or of bytes, at each port."""
    for known, protocol in _places(snapshot):
        for is_http in forms_of(protocol):
            yield known if is_http else {**known, **OF_BYTES}


class _Waiting:
    """A rule that no place was found for yet. Places that are the same for its match are looked at once."""

    def __init__(self, rule: Rule, vocabulary: Vocabulary) -> None:
        self.rule, self._vocabulary = rule, vocabulary
        self._named = sorted(set(attributes_of(rule.match)), key=repr) if rule.match is not None else []
        self._seen: set[tuple[Any, ...]] = set()

    def holds(self, known: dict[str, Any]) -> bool:
        looked_at = (known.get("destination.namespace"), *(_value(known, name, key) for name, key in self._named))
        if looked_at in self._seen:
            return False
        self._seen.add(looked_at)
        return match_here(self.rule, known, self._vocabulary) is not False


def _value(known: dict[str, Any], name: str, key: str | None) -> Any:
    """What is known of an attribute, or of an entry of a map, as something that can be looked up."""
    if name not in known:
        return name
    value = known[name]
    if isinstance(value, dict):
        return (value.get(key),) if key is not None else tuple(sorted(value.items()))
    return (value,)


def _places(snapshot: MeshSnapshot) -> Iterator[tuple[dict[str, Any], Protocol]]:
    """What is known beforehand at each port of each sidecar, and what is spoken there."""
    services = ServicesOfWorkloads(snapshot)
    for workload in snapshot.workloads.values():
        if workload.is_gateway:
            continue
        proxy = proxy_of(workload)
        always, reached = proxy_attributes(snapshot, proxy), services.of(proxy.id, proxy.address)
        ports = {(one.target, one.protocol) for one in workload.ports}
        for service in reached:
            ports.update(_served(snapshot, service, workload.id))
        for port, protocol in sorted(ports, key=lambda one: (one[0], one[1].value)):
            yield {**always, **port_attributes(snapshot, proxy, reached, port)}, protocol


def _served(snapshot: MeshSnapshot, service: Service, instance: str) -> Iterator[tuple[int, Protocol]]:
    """At which ports a workload serves a service, and what it speaks there."""
    for member in snapshot.members.get(service.hostname, ()):
        for port in service.ports if member.instance == instance else ():
            target = member_port(port, member)
            if target is not None:
                yield target, port.protocol


def _told(rule: Rule, snapshot: MeshSnapshot) -> Finding:
    if not any(one.namespace == rule.namespace for one in snapshot.workloads.values()) and not rule.everywhere:
        message = f"it is for destinations in {rule.namespace}, where no workload is"
        root = snapshot.settings.root_namespace
        return warning("holds-nowhere", message, rule.origin, f"correct its namespace; one of {root} is for all")
    origin = rule.origin.at("spec.match")
    if rule.match is not None and any(name == REPORTER for name, _ in attributes_of(rule.match)):
        message = "its match holds nowhere: checks and reports are made where requests arrive (inbound)"
        return warning("holds-nowhere", message, origin, f"leave {REPORTER} out")
    message = "its match holds nowhere, whatever comes in"
    return warning("holds-nowhere", message, origin, "correct the labels, names and ports in it")
