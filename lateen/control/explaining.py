"""What becomes of a call through the whole mesh, and why: from a workload or a client outside to the application.

Comes in: the mesh as it is, and who calls what. Goes out: stages, one for each proxy on the way, each with the trail of
a walk over the configuration that this proxy was given and with what the access rules say there. Nothing is sent.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from lateen.control.coordinator import Coordinator
from lateen.explain.access import holds
from lateen.explain.call import Call, Mode, Protocol, Tls
from lateen.explain.refusals import PLAIN_TEXT, asked_rules, refused_by_denial, refused_connection, refused_token
from lateen.explain.simulate import Configuration, simulate
from lateen.explain.verdict import Error, Verdict
from lateen.explain.why import action_of, judged, limited, told
from lateen.mesh.addresses import in_loopback_view
from lateen.mesh.members import LOOPBACK_INBOUND, ServicesOfWorkloads
from lateen.mesh.model import MeshSnapshot, Workload
from lateen.mesh.security_policy import peer_policy
from lateen.mesh.visibility import full_host
from lateen.plan import names
from lateen.plan.mixer.place import OF_BYTES, port_attributes, proxy_attributes
from lateen.plan.model import HttpChain, ProxyPlan, TcpChain
from lateen.plan.planner import Planner, proxy_of
from lateen.values.names import SpiffeId
from lateen.values.network import is_ip

DEFAULT_PORTS = {"http": 80, "https": 443, "tcp": 0}
OUTSIDE = "outside"
FIRST_ERROR = 400


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who calls what. ``client`` is a workload, or ``outside`` for one that calls a gateway (``gateway``: which one).

    ``url`` is ``http://host[:port]/path`` or ``tcp://host:port``. ``claims`` are those of a good token. ``server``
    chooses among the workloads behind a service.
    """

    client: str
    url: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    claims: dict[str, Any] | None = None
    gateway: str = ""
    server: str = ""


class Stage(msgspec.Struct, frozen=True):
    """What happens at one proxy."""

    proxy: str
    trail: tuple[str, ...]
    access: tuple[str, ...] = ()


class Explanation(msgspec.Struct, frozen=True):
    """The stages, how it ends in one sentence, and whether the call is served: not refused, closed or an error."""

    stages: tuple[Stage, ...]
    end: str
    arrives: bool


class Unanswerable(Exception):
    """A question that names what is not there; the text says what."""


def explain(coordinator: Coordinator, question: Question) -> Explanation:
    """What becomes of the call. Raises Unanswerable."""
    snapshot = coordinator.snapshot
    if snapshot is None:
        raise Unanswerable("the mesh is not read yet")
    return _Explaining(coordinator, snapshot, question).go()


class _Explaining:
    def __init__(self, coordinator: Coordinator, snapshot: MeshSnapshot, question: Question) -> None:
        self._coordinator, self._snapshot, self._question = coordinator, snapshot, question
        self._stages: list[Stage] = []
        no_url = f"{question.url} is no URL such as http://reviews:9080/path or tcp://db:3306"
        try:
            address = urlsplit(question.url if "://" in question.url else f"http://{question.url}")
            port = address.port
        except ValueError as problem:
            raise Unanswerable(f"{no_url}: {problem}") from None
        if address.scheme not in DEFAULT_PORTS or not address.hostname:
            raise Unanswerable(no_url)
        self._is_http = address.scheme != "tcp"
        self._host, self._port = address.hostname, port or DEFAULT_PORTS[address.scheme]
        self._authority = address.netloc.rpartition("@")[2]
        self._path = (address.path or "/") + (f"?{address.query}" if address.query else "")
        self._over_tls = address.scheme == "https"

    def go(self) -> Explanation:
        if self._question.client == OUTSIDE:
            proxy, verdict = self._from_outside()
        else:
            proxy = self._workload(self._question.client)
            verdict = self._walk(proxy, self._leaving(proxy))
        if verdict.error is not None or not verdict.cluster:
            return self._end(proxy, verdict)
        return self._onward(proxy, verdict)

    # --- the client's side -------------------------------------------------------------------------------------------

    def _from_outside(self) -> tuple[Workload, Verdict]:
        gateways = [one for one in self._snapshot.workloads.values() if one.is_gateway]
        if self._question.gateway:
            gateways = [one for one in gateways if self._question.gateway in (one.id, one.name)]
        if not gateways:
            raise Unanswerable(f"there is no gateway {self._question.gateway}".rstrip())
        tls = Tls.TLS if self._over_tls else Tls.PLAINTEXT
        call = self._call(Mode.GATEWAY, "127.0.0.1", self._port, tls, source="192.0.2.1")
        for gateway in gateways:
            if self._question.gateway or self._verdict(gateway, call).error is not Error.NO_LISTENER:
                return gateway, self._walk(gateway, call)
        raise Unanswerable(f"no gateway listens on port {self._port}")

    def _leaving(self, client: Workload) -> Call:
        host = full_host(self._host, client.namespace, self._snapshot.settings.domain)
        service = self._snapshot.services.get(host) or self._snapshot.services.get(self._host)
        address = service.address if service is not None else self._host if is_ip(self._host) else "192.0.2.2"
        if client.network == "loopback" and service is not None and service.address:
            address = in_loopback_view(service.address, client.prefix)
        tls = Tls.TLS if self._over_tls else Tls.PLAINTEXT
        return self._call(Mode.OUTBOUND, address or "192.0.2.2", self._port, tls, source=client.address or "127.0.0.1")

    def _call(self, mode: Mode, address: str, port: int, tls: Tls, *, source: str) -> Call:
        question = self._question
        return Call(
            port=port,
            mode=mode,
            address=address,
            protocol=Protocol.HTTP if self._is_http else Protocol.TCP,
            tls=tls,
            host=self._authority,
            path=self._path,
            method=question.method,
            headers=tuple((name.lower(), value) for name, value in question.headers),
            source=source,
            claims=question.claims,
            now=time.time(),
        )

    def _workload(self, name: str) -> Workload:
        """An instance, a workload, or the first one of a service."""
        every = self._snapshot.workloads.values()
        found = [one for one in every if name in (one.id, one.name, _labelled(one))]
        found = found or [one for one in every if one.name.startswith(f"{name}-")]
        if not found:
            known = ", ".join(sorted(self._snapshot.workloads))
            raise Unanswerable(f"there is no workload {name}; there are: {known}")
        return found[0]

    # --- the server's side -------------------------------------------------------------------------------------------

    def _onward(self, proxy: Workload, verdict: Verdict) -> Explanation:
        """To the member that is chosen, where that has a proxy here."""
        if verdict.cluster == names.BLACK_HOLE:
            end = f"{proxy.id} closes it: nothing in the mesh takes such a call to port {self._port}"
            return Explanation(tuple(self._stages), end, False)
        called = self._server_at(self._host, "") if verdict.cluster == names.MESH_PASSTHROUGH else None
        if called is not None:
            return self._arriving(proxy, called, self._port, verdict, mutual=False)
        plan = _plan(self._snapshot, proxy)
        cluster = next((one for one in plan.all_clusters if one.name == verdict.cluster), None)
        sets = [one for one in plan.all_endpoints if one.cluster == verdict.cluster]
        members = [endpoint for one in sets for group in one.localities for endpoint in group.endpoints]
        for endpoint in members:
            server = self._server_at(endpoint.address, endpoint.workload)
            if server is None or self._question.server not in ("", server.id, server.name, _labelled(server)):
                continue
            tls = cluster.tls if cluster is not None else None
            mutual = tls is not None and (endpoint.mesh_tls or not tls.automatic)
            return self._arriving(proxy, server, endpoint.port, verdict, mutual=mutual)
        if self._question.server:
            raise Unanswerable(f"{self._question.server} is not among the members of {verdict.cluster}")
        where = "nobody is ready behind it" if sets and not members else "it leaves the mesh"
        return Explanation(tuple(self._stages), f"it goes to {verdict.cluster}; {where}", bool(members) or not sets)

    def _server_at(self, address: str, name: str) -> Workload | None:
        for one in self._snapshot.workloads.values():
            own = in_loopback_view(f"0.0.{LOOPBACK_INBOUND}", one.prefix) if one.network == "loopback" else one.address
            if own == address and name in ("", one.name):
                return one
        return None

    def _arriving(self, proxy: Workload, server: Workload, port: int, verdict: Verdict, *, mutual: bool) -> Explanation:
        address = server.address
        if server.network == "loopback":
            address = in_loopback_view(f"0.0.{LOOPBACK_INBOUND}", server.prefix)
        tls = Tls.MTLS if mutual else Tls.PLAINTEXT
        call = self._call(Mode.INBOUND, address, port, tls, source=proxy.address or "127.0.0.1")
        identity = SpiffeId(self._snapshot.settings.trust_domain, proxy.namespace, proxy.service_account)
        sent = verdict.sent
        call = msgspec.structs.replace(
            call,
            identity=str(identity) if mutual else "",
            sni=verdict.cluster.replace("|", "_."),
            host=sent.authority if sent is not None else call.host,
            path=(f"{sent.path}?{sent.query}" if sent.query else sent.path) if sent is not None else call.path,
        )
        found = self._walk(server, call)
        if found.error is not None or not found.cluster:
            return self._end(server, found)
        others = [name for name, weight in verdict.clusters if weight and name != verdict.cluster]
        more = f" (others go to {', '.join(others)})" if others else ""
        return Explanation(tuple(self._stages), f"the application of {server.id} gets it{more}", True)

    # --- a stage -----------------------------------------------------------------------------------------------------

    def _verdict(self, proxy: Workload, call: Call) -> Verdict:
        resources = self._coordinator.published(proxy.id)
        if resources is None:
            raise Unanswerable(f"{proxy.id} has no configuration yet")
        return simulate(Configuration(resources), call)

    def _walk(self, proxy: Workload, call: Call) -> Verdict:
        verdict = self._verdict(proxy, call)
        access = self._access(proxy, call, verdict) if call.mode is not Mode.OUTBOUND else ()
        self._stages.append(Stage(proxy.id, verdict.trail, tuple(access)))
        return verdict

    def _access(self, proxy: Workload, call: Call, verdict: Verdict) -> Sequence[str]:
        """What the rules of the proxy that is called say, as resources have them."""
        plan = _plan(self._snapshot, proxy)
        action = action_of(plan, verdict)
        if action is None:
            return self._not_taken(proxy, call, verdict)
        if verdict.error is Error.TOKEN_REFUSED and isinstance(action, HttpChain):
            return refused_token(action.tokens, call.claims, call.now)
        judgement = judged(action, verdict)
        if judgement is None:
            return ()
        lines = told(judgement)
        if not judgement.allowed or verdict.facts is None:
            return lines
        facts = verdict.facts
        denied = next((one for one in getattr(action, "denials", ()) if holds(one.condition, facts)), None)
        if denied is not None:
            return [*lines, *refused_by_denial(denied)]
        asked = asked_rules(self._snapshot.mixer, self._known(proxy, call.port, action), facts) if action.mixer else ()
        return [*lines, *asked, *limited(action, verdict)]

    def _not_taken(self, proxy: Workload, call: Call, verdict: Verdict) -> Sequence[str]:
        if proxy.is_gateway or verdict.error not in (Error.NO_FILTER_CHAIN, Error.TLS_ERROR, Error.MTLS_ERROR):
            return ()
        policy = peer_policy(self._snapshot, proxy.namespace, proxy.labels)
        came = {Tls.PLAINTEXT: PLAIN_TEXT, Tls.MTLS: "mesh TLS"}.get(call.tls, "other TLS")
        return refused_connection(policy, call.port, came)

    def _known(self, workload: Workload, port: int, action: HttpChain | TcpChain) -> dict[str, Any]:
        """What Mixer's rules know beforehand of what arrives at a port."""
        proxy = proxy_of(workload)
        services = ServicesOfWorkloads(self._snapshot).of(proxy.id, proxy.address)
        known = {
            **proxy_attributes(self._snapshot, proxy),
            **port_attributes(self._snapshot, proxy, services, port),
        }
        return {**known, **OF_BYTES} if isinstance(action, TcpChain) else known

    def _end(self, proxy: Workload, verdict: Verdict) -> Explanation:
        if verdict.error is not None:
            return Explanation(tuple(self._stages), f"it ends at {proxy.id}: {verdict.error.value}", False)
        end = f"{proxy.id} answers {verdict.status} itself"
        return Explanation(tuple(self._stages), end, verdict.status < FIRST_ERROR)


def _plan(snapshot: MeshSnapshot, workload: Workload) -> ProxyPlan:
    return Planner(snapshot).plan(proxy_of(workload)).plan


def _labelled(workload: Workload) -> str:
    labels = dict(workload.labels)
    return f"{labels.get('app', workload.name)}/{labels.get('version', '')}"
