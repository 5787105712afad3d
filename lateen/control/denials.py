"""Why requests and connections of an access log were refused: by which rule, in which file and line.

Comes in: the mesh as it is, and entries of the access log of one proxy. Goes out: sentences for each. The log names the
rule that decided, or how it ended; where the rule stands, and what came near, is said of the rules as they are now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lateen.control.coordinator import Coordinator
from lateen.envoy.external import numbered
from lateen.envoy.rbac import for_bytes
from lateen.explain.access import near_rules
from lateen.explain.facts import Facts
from lateen.explain.limits import refusal
from lateen.explain.refusals import (
    PLAIN_TEXT,
    refused_by_denial,
    refused_by_rules,
    refused_connection,
    refused_handshake,
    refused_unseen_token,
)
from lateen.explain.request import Request
from lateen.explain.why import came_near
from lateen.mesh.model import MeshSnapshot, Workload
from lateen.mesh.security_policy import peer_policy
from lateen.plan.access.model import AccessPolicy
from lateen.plan.model import HttpChain, ProxyPlan
from lateen.plan.planner import Planner, proxy_of
from lateen.values.network import is_ip

LIMITED = "RL"
DENIED, POLICY = "rbac_access_denied", "matched_policy["
TOKEN_REFUSED = "jwt_authn_access_denied{"  # noqa: S105 - what Envoy calls it
ASKED, AWAY = "ext_authz_denied", "ext_authz_error"
NO_CHAIN = "filter_chain_not_found"
NO_ALLOW = "none"

Entry = Mapping[str, Any]


def explain_entries(coordinator: Coordinator, proxy_id: str, entries: Iterable[Entry]) -> list[tuple[str, ...]]:
    """Why each was refused, as far as the log tells. Empty where it was not."""
    snapshot = coordinator.snapshot
    workload = snapshot.workloads.get(proxy_id) if snapshot is not None else None
    if snapshot is None or workload is None:
        return [() for _ in entries]
    denials = _Denials(snapshot, workload)
    return [tuple(denials.of(entry)) for entry in entries]


class _Denials:
    """The rules of one proxy, as they are now."""

    def __init__(self, snapshot: MeshSnapshot, workload: Workload) -> None:
        self._snapshot, self._workload = snapshot, workload
        self._plan: ProxyPlan = Planner(snapshot).plan(proxy_of(workload)).plan
        self._actions = [
            chain.action
            for listener in self._plan.listeners
            for chain in (*listener.chains, *((listener.default_chain,) if listener.default_chain else ()))
        ]
        policies = [action.access for action in self._actions]
        self._access = next((one for one in policies if one != AccessPolicy()), AccessPolicy())  # one for all chains

    def of(self, entry: Entry) -> list[str]:
        details = [_text(entry, name) for name in ("response_code_details", "connection_termination_details")]
        ended = next((text for text in details if text), "")
        if entry.get("response_flags") == LIMITED:
            limits = (action.limits or () for action in self._actions if isinstance(action, HttpChain))
            return refusal((rule for found in limits for rule in found), _text(entry, "rate_limit"))
        if named := _text(entry, "mixer_refused_by"):
            return refused_by_rules(self._snapshot.mixer, named.split(","))
        if DENIED in ended:
            return self._denied(entry, ended)
        if ended.startswith(TOKEN_REFUSED):
            reason = ended.removeprefix(TOKEN_REFUSED).removesuffix("}").replace("_", " ")
            return refused_unseen_token(self._tokens(), reason)
        if ended in (ASKED, AWAY):
            return self._asked(entry, ended)
        return self._not_taken(entry, ended)

    def _tokens(self) -> Any:
        found = [action.tokens for action in self._actions if isinstance(action, HttpChain)]
        return next((tokens for tokens in found if tokens), ())

    # --- rules -------------------------------------------------------------------------------------------------------

    def _denied(self, entry: Entry, ended: str) -> list[str]:
        name = ended.partition(POLICY)[2].removesuffix("]")
        facts = _facts(entry)
        access = self._access if facts.request is not None else for_bytes(self._access)
        if name == NO_ALLOW:
            near = near_rules(access.allow or (), facts)
            return ["no ALLOW rule matches, so it is denied", *came_near(near)]
        for action in self._actions:
            for denial in action.denials if isinstance(action, HttpChain) else ():
                if denial.name == name:
                    return refused_by_denial(denial)
        for check in access.external:
            if unasked := next((rule for rule in check.rules if rule.name == name.rstrip("'")), None):
                said = f"authorizer {check.authorizer.name} is to be asked, which connections of before cannot do"
                return [f"{said}, so it is denied ({unasked.origin})"]
        place = next((rule.origin for rule in access.deny if rule.name == name.rstrip("'")), None)
        return [f"{name} denies it ({place or 'it is not there any more'})"]

    def _asked(self, entry: Entry, ended: str) -> list[str]:
        """Somebody outside the proxy refused it, or could not be asked."""
        said = "denies it" if ended == ASKED else "could not be asked, so it is denied"
        lines = []
        for index, check in enumerate(self._access.external):
            name = _text(entry, numbered("external_policy", index))
            rule = next((one for one in check.rules if one.name == name.rstrip("'")), None)
            if name:
                lines.append(f"authorizer {check.authorizer.name} {said} ({rule.origin if rule else name})")
        if lines:
            return lines
        if ended == ASKED:
            return ["the mixer denies it, as what its rules look at could not be found out"]
        return ["the mixer could not be asked, so it is denied (policyCheckFailOpen of the MeshConfig is not set)"]

    # --- connections -------------------------------------------------------------------------------------------------

    def _not_taken(self, entry: Entry, ended: str) -> list[str]:
        """A connection that came into no chain."""
        reason = _text(entry, "downstream_transport_failure_reason")
        _, port = _place(_text(entry, "downstream_local_address"))
        policy = peer_policy(self._snapshot, self._workload.namespace, self._workload.labels)
        if self._workload.is_gateway:
            server = f" for {_text(entry, 'requested_server_name')!r}" if entry.get("requested_server_name") else ""
            if ended == NO_CHAIN:
                return [f"no server of a Gateway on port {port} takes such a connection{server}"]
            return [f"the TLS handshake failed{server}: {reason}"] if reason else []
        if ended == NO_CHAIN:
            came = "other TLS" if entry.get("requested_server_name") else PLAIN_TEXT
            return refused_connection(policy, port, came)
        return refused_handshake(policy, port, reason) if reason else []


# --- what the log tells ----------------------------------------------------------------------------------------------


def _facts(entry: Entry) -> Facts:
    """What a line of the log tells of a request; other headers and claims are not in it."""
    request = None
    if entry.get("method"):
        path, _, query = _text(entry, "path").partition("?")
        fields = {":authority": "authority", ":method": "method", ":path": "path", "user-agent": "user_agent"}
        own = tuple((name, _text(entry, field)) for name, field in fields.items() if entry.get(field))
        request = Request(_text(entry, "authority"), path, query, own)
    source, _ = _place(_text(entry, "downstream_remote_address"))
    address, port = _place(_text(entry, "downstream_local_address"))
    hops = [hop.strip() for hop in _text(entry, "x_forwarded_for").split(",")]
    return Facts(
        identity=_text(entry, "downstream_peer"),
        source=source,
        remote=hops[-1] if is_ip(hops[-1]) else source,
        address=address,
        port=port,
        server_name=_text(entry, "requested_server_name"),
        request=request,
        whole=False,
    )


def _text(entry: Entry, name: str) -> str:
    return str(entry.get(name) or "")


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    return (host if is_ip(host) else "127.0.0.1", int(port) if port.isascii() and port.isdigit() else 0)
