"""What rules of Mixer refuse: the mixer itself, and the real Envoy by what they were compiled to, agree."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from envoy.service.auth.v3 import external_auth_pb2

from lateen.expressions.check import check
from lateen.expressions.evaluate import compile_match
from lateen.expressions.language import CEL, CEXL, parse_as
from lateen.expressions.parse import render
from lateen.expressions.syntax import Expression
from lateen.mixer.check_bag import CheckBag
from lateen.plan.access.model import Condition
from lateen.plan.matching import RouteMatch
from lateen.plan.mixer.compile import NEVER, Beyond, either, holds
from lateen.plan.mixer.model import MixerCheck, MixerDenial
from lateen.plan.mixer.roles import refused_by_roles
from lateen.plan.mixer.rules import mixer_parts
from lateen.plan.model import HttpChain, Listener
from lateen.plan.routes import DirectResponse, Route, RouteTable, VirtualHost
from lateen.plan.tls import MESH_ROOTS, WORKLOAD_CERTIFICATE, ServerTls
from lateen.values.names import BUILT_IN
from tests.envoy.harness import Authority, free_port, listening, running, unverified
from tests.golden.plan_to_envoy.cases import plan_of
from tests.properties.length import is_long
from tests.properties.mixer_roles import role_rules, verdict_of

pytestmark = pytest.mark.timeout(3600)
SEEDS = range(40 if is_long() else 2)
RULES = 20
ROLES = 6
REQUESTS = 60 if is_long() else 25
TLS = ServerTls(
    WORKLOAD_CERTIFICATE,
    BUILT_IN,
    roots=MESH_ROOTS,
    require_client=True,
    client_trust_domains=("cluster.local",),
    alpn=("http/1.1",),
)
CALLERS = ("spiffe://cluster.local/ns/default/sa/a", "spiffe://cluster.local/ns/shop/sa/ab")
VALUES = ("", "a", "ab", "b", "/a", "/a/b", "GET", "default", "shop", "x.example", "cluster.local/ns/default/sa/a")
ODD = ("a\x80b", "\xffab", "a,b", "A")
PATTERNS = ("^a", "b$", "a.b", "(?i)A", "", "^$", "x[.]e")
PATHS = ("/a", "/a/b", "/ab?x=a", "/?a", "/A")


class Asked(NamedTuple):
    method: str
    path: str
    host: str
    headers: tuple[tuple[str, str], ...]
    caller: str

    @property
    def repeats(self) -> bool:
        """Whether a header comes twice: then the proxy may refuse more, as it looks at each value by itself."""
        names = [name.lower() for name, _ in self.headers]
        return len(set(names)) < len(names)


class Written:
    """Expressions and requests, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._language = CEXL

    def texts(self) -> Iterator[tuple[str, str]]:
        """Matches in both languages, each with its language."""
        for number in range(RULES):
            self._language = (CEXL, CEL)[number % 2]
            yield self._boolean(3), self._language

    def rules(self) -> Iterator[Expression]:
        """The same, settled."""
        for text, language in self.texts():
            yield check(text, parse_as(language, text, match=True))[0]

    def requests(self) -> list[Asked]:
        choose = self._random.choice
        return [
            Asked(
                choose(("GET", "POST", "PUT")),
                choose(PATHS),
                choose(("a", "x.example", "X.example:80")),
                tuple((choose(("x-a", "X-B")), choose((*VALUES, *ODD))) for _ in range(self._random.randrange(3))),
                choose(("", *CALLERS)),
            )
            for _ in range(REQUESTS)
        ]

    def _text(self, depth: int) -> str:
        choose = self._random.choice
        source = choose(
            (
                'request.headers["x-a"]', 'request.headers["X-B"]', "request.path", "request.url_path", "request.host",
                "request.method", "request.useragent", "source.principal", "source.namespace", "source.serviceAccount",
            )
        )  # fmt: skip
        if depth > 0 and self._random.random() < 0.4 and self._language == CEXL:
            return f"({source} | {self._text(depth - 1)})"
        return source if self._random.random() < 0.9 else f'"{choose(VALUES)}"'

    def _boolean(self, depth: int) -> str:
        choose = self._random.choice
        kind = self._random.randrange(11 if depth else 7)
        value, literal = self._text(1), choose(VALUES)
        if kind < 2:
            return f'{value} {choose(("==", "!="))} "{literal}"'
        if kind == 2:
            return f'match({value}, "{choose((literal + "*", "*" + literal, literal, "*"))}")'
        if kind == 3:
            return f'{value}.{choose(("startsWith", "endsWith"))}("{literal}")'
        if kind == 4:
            pattern = choose(PATTERNS)
            return f'"{pattern}".matches({value})' if self._language == CEXL else f'{value}.matches("{pattern}")'
        if kind == 5:
            return choose(("connection.mtls", 'source.ip == ip("127.0.0.1")', 'source.ip != ip("::1")', "true"))
        if kind == 6:
            return f'context.protocol == "{choose(("http", "grpc", "tcp"))}"'
        if kind == 7:
            return f"!({self._boolean(depth - 1)})"
        return f"({self._boolean(depth - 1)}) {choose(('&&', '||'))} ({self._boolean(depth - 1)})"


def request_of(asked: Asked) -> Any:
    """What a proxy would tell the mixer of it."""
    message = external_auth_pb2.CheckRequest()
    http_request = message.attributes.request.http
    http_request.method, http_request.path, http_request.host = asked.method, asked.path.partition("#")[0], asked.host
    for name, value in asked.headers:
        text = "".join(character if character < "\x80" else "!" for character in value)
        known = http_request.headers.get(name.lower())
        http_request.headers[name.lower()] = text if known is None else f"{known},{text}"
    message.attributes.source.principal = asked.caller
    message.attributes.source.address.socket_address.address = "127.0.0.1"
    return message


class Client:
    def __init__(self, authority: Authority) -> None:
        self._contexts: dict[str, ssl.SSLContext] = {caller: unverified(authority.issue(caller)) for caller in CALLERS}

    def is_refused(self, ports: tuple[int, int], asked: Asked, words: bytes = b"ABORTED:here") -> bool:
        lines = [f"{asked.method} {asked.path} HTTP/1.1", f"host: {asked.host}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in asked.headers]
        plain = socket.create_connection(("127.0.0.1", ports[bool(asked.caller)]), timeout=20)
        connection = self._contexts[asked.caller].wrap_socket(plain) if asked.caller else plain
        with contextlib.closing(connection):
            connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
            response = http.client.HTTPResponse(connection, method=asked.method)
            response.begin()
            body = response.read()
        assert (response.status, body) in ((200, b""), (409, words)), (response.status, body)
        return response.status == 409


def guarded(number: int, port: int, tls: ServerTls | None, condition: Any) -> Listener:
    host = VirtualHost("all", ("*",), (Route("all", RouteMatch(), DirectResponse(200, b""), BUILT_IN),), BUILT_IN)
    denial = MixerDenial(f"mixer-r:{number}", "r", 409, "ABORTED:here", condition, BUILT_IN)
    chain = HttpChain(
        "x",
        inline=RouteTable(f"{number}-{port}", (host,)),
        mixer=MixerCheck("p", port),
        denials=(denial,) if condition != NEVER else (),
    )
    found = listening(port, chain, "inbound", tls)
    return Listener(f"{number}-{port}", found.bind, "inbound", found.chains, BUILT_IN)


@contextlib.contextmanager
def envoy_with(conditions: list[Any], authority: Authority) -> Iterator[list[tuple[int, int]]]:
    ports = [(free_port(), free_port()) for _ in conditions]
    listeners = tuple(
        guarded(number, port, tls, condition)
        for number, (condition, pair) in enumerate(zip(conditions, ports, strict=True))
        for port, tls in zip(pair, (None, TLS), strict=True)
    )
    clusters, endpoints = mixer_parts(listeners, "/nowhere/mixer.sock")
    plan = plan_of(listeners, (), clusters, endpoints)
    with running(plan, authority.issue("spiffe://cluster.local/ns/default/sa/server")):
        yield ports


class Judged(NamedTuple):
    """What refuses: as it is written, as a condition of the proxy, and as the mixer says it of a bag."""

    words: str
    condition: Condition
    refused: Callable[[Any], bool]


def expressions(seed: int) -> Iterator[Judged]:
    for tree in Written(seed).rules():
        with contextlib.suppress(Beyond):
            yield Judged(render(tree), holds(tree), compile_match(tree))


def roles(seed: int) -> Iterator[Judged]:
    for number in range(ROLES):
        rules = role_rules(1000 * seed + number)
        (instance,) = rules.rules[0].actions[0].instances
        with contextlib.suppress(Beyond):
            refusals = refused_by_roles(instance, rules.grants, {}, rules.vocabulary)
            yield Judged(repr(rules.grants), either(list(refusals)), verdict_of(rules))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_mixer_and_the_proxy_refuse_the_same(seed: int) -> None:
    authority, requests = Authority(), Written(seed).requests()
    judged, by_roles = list(expressions(seed)), list(roles(seed))
    assert len(judged) > RULES // 4
    assert len(by_roles) > ROLES // 2
    client, refused = Client(authority), 0
    with envoy_with([one.condition for one in (*judged, *by_roles)], authority) as ports:
        for one, pair in zip((*judged, *by_roles), ports, strict=True):
            for asked in requests:
                wanted = one.refused(CheckBag(request_of(asked), {}, {}))
                found = client.is_refused(pair, asked)
                refused += found
                assert found is wanted or (found and asked.repeats), f"{one.words}\n{one.condition}\n{asked}"
    assert refused > len(judged)
