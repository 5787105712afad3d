"""Walks a proxy's Envoy configuration as a connection would go through it.

Comes in: the serialised resources of one proxy, and a call. Goes out: a ``Verdict`` with the trail that led to it.
Nothing is decided here that the configuration does not say: listener, listener filters, filter chain, TLS, network
filters, route table, virtual host, route.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2

from lateen.envoy.chain_names import written_name
from lateen.envoy.resources import LISTENER, ROUTE, EnvoyResources
from lateen.explain.call import Call, Mode, Tls
from lateen.explain.chains import Connection, matching_chains
from lateen.explain.facts import Facts, facts_of_connection, facts_of_request
from lateen.explain.guards import Guard, guard, http_guards, network_guards
from lateen.explain.request import arriving
from lateen.explain.routes import as_sent, first_route, virtual_host
from lateen.explain.tokens import found_by_tokens, token_filter_of, unfit
from lateen.explain.verdict import Error, Verdict
from lateen.values.names import Origin

OUTBOUND, INBOUND = "virtualOutbound", "virtualInbound"
TLS_INSPECTOR = "envoy.filters.listener.tls_inspector"
HTTP_INSPECTOR = "envoy.filters.listener.http_inspector"
SNI_CLUSTER = "envoy.filters.network.sni_cluster"
_Redirect = route_components_pb2.RedirectAction
REDIRECTS = {
    _Redirect.MOVED_PERMANENTLY: 301,
    _Redirect.FOUND: 302,
    _Redirect.SEE_OTHER: 303,
    _Redirect.TEMPORARY_REDIRECT: 307,
    _Redirect.PERMANENT_REDIRECT: 308,
}
PLAIN_PROTOCOL = {"http": "http/1.1", "http2": "h2c"}


class Configuration:
    """The parsed configuration of one proxy."""

    def __init__(self, resources: EnvoyResources) -> None:
        self.listeners = [
            listener_pb2.Listener.FromString(found.body) for found in resources.by_type.get(LISTENER, {}).values()
        ]
        self.tables = {
            name: route_pb2.RouteConfiguration.FromString(found.body)
            for name, found in resources.by_type.get(ROUTE, {}).items()
        }
        self.origins = {
            (kind, name): found.origin
            for kind in (LISTENER, ROUTE)
            for name, found in resources.by_type.get(kind, {}).items()
        }


def simulate(configuration: Configuration, call: Call) -> Verdict:
    """Where a call ends."""
    return _Walk(configuration, call).go()


class _Walk:
    def __init__(self, configuration: Configuration, call: Call) -> None:
        self._configuration = configuration
        self._call = call
        self._trail: list[str] = []
        self._found = Verdict()

    def go(self) -> Verdict:
        listener = self._listener()
        if listener is None:
            return self._end(Error.NO_LISTENER)
        origin = self._configuration.origins.get((LISTENER, listener.name))
        self._note(f"listener {listener.name} takes the connection{_from(origin)}", listener=listener.name)
        chain, error = self._chain(listener)
        if chain is None:
            return self._end(error)
        known_as = written_name(chain.name)
        self._note(f"filter chain {known_as} matches", filter_chain=known_as)
        refused = self._tls(chain)
        return self._end(refused) if refused is not None else self._filters(chain)

    # --- the listener ------------------------------------------------------------------------------------------------

    def _listener(self) -> Any | None:
        """The socket that is reached, or the virtual listener to which it hands over by the original destination."""
        call = self._call
        if call.mode is Mode.GATEWAY:
            self._note(f"a client comes to port {call.port} of the gateway")
            bound = [found for found in self._configuration.listeners if _is_bound(found)]
            return next((found for found in bound if found.address.socket_address.port_value == call.port), None)
        name = OUTBOUND if call.mode is Mode.OUTBOUND else INBOUND
        self._note(f"the connection to {call.address}:{call.port} is captured, {call.mode.value}")
        catching = next((found for found in self._configuration.listeners if found.name == name), None)
        if catching is None:  # without redirection each service has a socket of its own
            bound = [found for found in self._configuration.listeners if (call.address, call.port) in _places(found)]
            return bound[0] if bound else None
        if not catching.use_original_dst.value:
            return catching
        wildcard = "::" if ":" in call.address else "0.0.0.0"  # noqa: S104 - compared, never bound
        for address in (call.address, wildcard, "::"):
            for found in self._configuration.listeners:
                if found is not catching and any(place == (address, call.port) for place in _places(found)):
                    return found
        return catching

    def _chain(self, listener: Any) -> tuple[Any | None, Error]:
        call = self._call
        inspected = {found.name for found in listener.listener_filters if not _is_off(found, call.port)}
        is_tls = call.tls is not Tls.PLAINTEXT
        connection = Connection(call.address, call.port)
        if is_tls and TLS_INSPECTOR in inspected:
            offered = (call.spoken_alpn,) if call.spoken_alpn else ()
            connection = Connection(call.address, call.port, call.server_name, "tls", offered)
        elif not is_tls and HTTP_INSPECTOR in inspected and call.protocol.is_http:
            plain = (PLAIN_PROTOCOL[call.protocol.value],)
            connection = Connection(call.address, call.port, protocols=plain)
        found = matching_chains(listener.filter_chains, connection)
        if len(found) > 1:
            self._note("several chains match alike: " + ", ".join(chain.name for chain in found))
            return None, Error.MULTIPLE_FILTER_CHAINS
        if found:
            return found[0], Error.NO_FILTER_CHAIN
        if listener.HasField("default_filter_chain"):
            return listener.default_filter_chain, Error.NO_FILTER_CHAIN
        self._note(f"none of the {len(listener.filter_chains)} chains matches {connection}")
        return None, Error.NO_FILTER_CHAIN

    # --- TLS ---------------------------------------------------------------------------------------------------------

    def _tls(self, chain: Any) -> Error | None:
        """Why the handshake fails; None where it does not, or where there is none."""
        if not chain.HasField("transport_socket") or not chain.transport_socket.typed_config.Is(
            tls_pb2.DownstreamTlsContext.DESCRIPTOR
        ):
            return None
        context = tls_pb2.DownstreamTlsContext()
        chain.transport_socket.typed_config.Unpack(context)
        common = context.common_tls_context
        names = [secret.name for secret in common.tls_certificate_sds_secret_configs]
        verifies = context.require_client_certificate.value
        self._note(f"it ends TLS with {', '.join(names) or 'its certificate'}{', mutually' if verifies else ''}")
        if self._call.tls is Tls.PLAINTEXT:
            return Error.TLS_ERROR
        if verifies != (self._call.tls is Tls.MTLS) and not _is_optional(context):
            return Error.MTLS_ERROR
        if self._call.certificate and self._call.certificate not in names:
            return Error.MTLS_ERROR
        return None

    # --- filters -----------------------------------------------------------------------------------------------------

    def _filters(self, chain: Any) -> Verdict:
        by_name = any(found.name == SNI_CLUSTER for found in chain.filters)
        for found in chain.filters:
            if found.typed_config.Is(http_connection_manager_pb2.HttpConnectionManager.DESCRIPTOR):
                manager = http_connection_manager_pb2.HttpConnectionManager()
                found.typed_config.Unpack(manager)
                return self._http(chain, manager)
            if found.typed_config.Is(tcp_proxy_pb2.TcpProxy.DESCRIPTOR):
                proxy = tcp_proxy_pb2.TcpProxy()
                found.typed_config.Unpack(proxy)
                facts = facts_of_connection(self._call)
                self._found = msgspec.structs.replace(self._found, facts=facts)
                if self._refused(network_guards(chain.filters), facts):
                    return self._end(Error.ACCESS_DENIED)
                if by_name and self._call.server_name:
                    return self._forward([(self._call.server_name, 1)], "the server name names the cluster")
                return self._forward(_weighted(proxy), "it passes bytes on")
        return self._end(Error.PROTOCOL_ERROR)

    def _http(self, chain: Any, manager: Any) -> Verdict:
        ended = chain.HasField("transport_socket")
        if not self._call.protocol.is_http or (self._call.tls is not Tls.PLAINTEXT and not ended):
            self._note("it speaks HTTP, and the client does not")
            return self._end(Error.PROTOCOL_ERROR)
        if manager.HasField("rds"):
            name = manager.rds.route_config_name
            table = self._configuration.tables.get(name, route_pb2.RouteConfiguration(name=name))
        else:
            table = manager.route_config
        origin = self._configuration.origins.get((ROUTE, table.name))
        self._note(f"it speaks HTTP with route table {table.name}{_from(origin)}", route_config=table.name)
        request = arriving(manager, self._call, over_tls=ended)
        if isinstance(request, int):
            return self._answer(request, f"it answers {request} to such a path")
        authority = request.authority
        host = virtual_host(table, authority)
        if host is None:
            self._note(f"no virtual host has the domain {authority!r}")
            return self._end(Error.NO_VIRTUAL_HOST)
        self._note(f"virtual host {host.name} has the domain of {authority!r}", virtual_host=host.name)
        if host.require_tls != route_components_pb2.VirtualHost.NONE and self._call.tls is Tls.PLAINTEXT:
            return self._end(Error.TLS_REDIRECT)
        route = first_route(host, request)
        if route is None:
            self._note(f"none of its {len(host.routes)} routes matches {self._call.method} {self._call.path}")
            return self._end(Error.NO_ROUTE)
        self._note(f"route {route.name or '(without a name)'} matches", route=route.name)
        facts = self._with_token(manager, facts_of_request(self._call, request, manager))
        if facts is None:
            return self._end(Error.TOKEN_REFUSED)
        self._found = msgspec.structs.replace(self._found, facts=facts)
        if self._refused(http_guards(manager, table), facts):
            return self._end(Error.ACCESS_DENIED)
        self._found = msgspec.structs.replace(self._found, sent=as_sent(route, request))
        return self._action(route)

    def _with_token(self, manager: Any, facts: Facts) -> Facts | None:
        """What is known with the call's token; None where that is refused."""
        claims, looking = self._call.claims, token_filter_of(manager)
        if looking is None:
            return facts
        found = found_by_tokens(looking, claims, self._call.now)
        if isinstance(found, int):
            why = "a token is required"
            if claims is not None:
                why = unfit(claims, self._call.now)
                why = why or f"no rule takes a token of {claims.get('iss')!r} for {claims.get('aud')!r}"
            self._note(f"{why}: it answers {found}")
            self._found = msgspec.structs.replace(self._found, status=found)
            return None
        if claims is None:
            return facts
        self._note(f"the token of {claims.get('iss')} is taken")
        return msgspec.structs.replace(facts, found=found)

    def _refused(self, guards: Iterable[Guard], facts: Facts) -> bool:
        """Whether what guards the chain ends the call here. Authorizers outside are taken to agree."""
        for name, rules in guards:
            said = guard(rules, facts)
            if not said.passes:
                by = f"by {said.policy}" if said.policy else "as no rule of it matches"
                self._note(f"filter {name} refuses it {by}")
                return True
            if said.policy:
                self._note(f"filter {name} matches {said.policy}")
        return False

    def _action(self, route: Any) -> Verdict:
        kind = route.WhichOneof("action")
        if kind == "redirect":
            status = REDIRECTS[route.redirect.response_code]
            return self._answer(status, f"it answers {status}, a redirect")
        if kind == "direct_response":
            return self._answer(route.direct_response.status, f"it answers {route.direct_response.status} itself")
        action = route.route
        if action.HasField("weighted_clusters"):
            parts = [(found.name, found.weight.value) for found in action.weighted_clusters.clusters]
        else:
            parts = [(action.cluster or action.cluster_header, 1)]
        return self._forward(parts, "it forwards")

    # --- the end -----------------------------------------------------------------------------------------------------

    def _forward(self, clusters: Iterable[tuple[str, int]], how: str) -> Verdict:
        parts = tuple(clusters)
        shares = ", ".join(name if len(parts) == 1 else f"{name} ({weight})" for name, weight in parts)
        self._note(f"{how} to {shares}")
        largest = max(parts, key=lambda part: part[1])[0] if parts else ""
        return msgspec.structs.replace(self._found, cluster=largest, clusters=parts, trail=tuple(self._trail))

    def _answer(self, status: int, how: str) -> Verdict:
        self._note(how)
        return msgspec.structs.replace(self._found, status=status, trail=tuple(self._trail))

    def _end(self, error: Error) -> Verdict:
        self._note(f"the call ends: {error.value}")
        return msgspec.structs.replace(self._found, error=error, trail=tuple(self._trail))

    def _note(self, text: str, **found: str) -> None:
        self._trail.append(text)
        if found:
            self._found = msgspec.structs.replace(self._found, **found)


def _from(origin: Origin | None) -> str:
    return f" (from {origin})" if origin is not None and origin.path else ""


def _is_bound(listener: Any) -> bool:
    return not listener.HasField("bind_to_port") or listener.bind_to_port.value


def _places(listener: Any) -> list[tuple[str, int]]:
    addresses = [listener.address, *(extra.address for extra in listener.additional_addresses)]
    return [(found.socket_address.address, found.socket_address.port_value) for found in addresses]


def _is_off(found: Any, port: int) -> bool:
    """Whether a listener filter is left out for connections to a port."""
    return found.HasField("filter_disabled") and _holds(found.filter_disabled, port)


def _holds(predicate: Any, port: int) -> bool:
    rule = predicate.WhichOneof("rule")
    if rule == "destination_port_range":
        return bool(predicate.destination_port_range.start <= port < predicate.destination_port_range.end)
    if rule == "or_match":
        return any(_holds(one, port) for one in predicate.or_match.rules)
    if rule == "and_match":
        return all(_holds(one, port) for one in predicate.and_match.rules)
    if rule == "not_match":
        return not _holds(predicate.not_match, port)
    return bool(rule == "any_match")


def _is_optional(context: Any) -> bool:
    """Whether a client certificate is looked at and not asked for."""
    common = context.common_tls_context
    looks = common.HasField("combined_validation_context") or common.HasField("validation_context_sds_secret_config")
    return looks and not context.require_client_certificate.value


def _weighted(proxy: Any) -> list[tuple[str, int]]:
    if proxy.HasField("weighted_clusters"):
        return [(found.name, found.weight) for found in proxy.weighted_clusters.clusters]
    return [(proxy.cluster, 1)]
