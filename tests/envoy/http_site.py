"""One sidecar and its upstreams, shared by the live tests of VirtualService.http.

``SERVERS`` are the services that answer; each of ``behaviours`` is a host of its own with one VirtualService.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import math
import textwrap
import time
from collections import Counter
from collections.abc import Iterator, Mapping

from lateen.mesh.model import Workload
from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.harness import Answer, Application, free_port

PORT = 8080
NEAR = Workload(
    "client-0",
    "default",
    "client",
    (("app", "client"), ("topology.kubernetes.io/region", "r1"), ("topology.kubernetes.io/zone", "z1")),
    "client",
    "",
    ready=True,
)


class Clocked(Application):
    """Keeps when each path was asked for, and may answer all alike, late or with one status."""

    def __init__(self, name: str, status: int = 0, seconds: float = 0.0) -> None:
        super().__init__(name)
        self.times: dict[str, list[float]] = {}
        self._always, self._seconds = status, seconds

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        self.times.setdefault(request.path, []).append(time.monotonic())
        time.sleep(self._seconds)
        super().answer(request)

    def _status(self, path: str) -> int:
        return self._always or super()._status(path)

    def asked(self, path: str) -> int:
        return len(self.times.get(path, ()))


class Site:
    """The running proxy and its upstreams, by name."""

    def __init__(self, proxy: Running, apps: Mapping[str, Clocked]) -> None:
        self.proxy, self.apps = proxy, apps

    def get(
        self,
        host: str,
        path: str = "/",
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        body: bytes | None = None,
    ) -> Answer:
        return self.proxy.get(f"{host}.example", PORT, path, headers, method, body)

    def app(self, host: str, path: str = "/", **headers: str) -> str:
        """Which upstream answered."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.get(host, path, named).headers["x-app"]

    def many(self, host: str, count: int, path: str = "/") -> Counter[str]:
        """How often each upstream (or, without one, status) answered requests of one connection."""
        name = f"{host}.example"
        found: Counter[str] = Counter()
        connection = http.client.HTTPConnection(self.proxy.address(name), PORT, timeout=10)
        try:
            for _ in range(count):
                connection.request("GET", path, headers={"host": name})
                response = connection.getresponse()
                response.read()
                found[response.headers.get("x-app") or str(response.status)] += 1
        finally:
            connection.close()
        return found


def within(found: int, count: int, share: float) -> bool:
    """Whether a count lies within five standard deviations of a share: one in a million does not."""
    return abs(found - count * share) <= 5 * math.sqrt(count * share * (1 - share))


def entry(hosts: str, endpoints: str) -> str:
    name = hosts.partition(",")[0].partition(".")[0]
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{hosts}]
  ports: [{{name: http, number: {PORT}, protocol: HTTP}}]
  location: MESH_EXTERNAL
  resolution: STATIC
  endpoints: [{endpoints}]
---
"""


def endpoint(port: int, **fields: str) -> str:
    more = "".join(f", {name}: {value}" for name, value in fields.items())
    return f"{{address: 127.0.0.1, ports: {{http: {port}}}{more}}}"


def virtual_service(host: str, routes: str) -> str:
    head = f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {host}}}
spec:
  hosts: [{host}.example]
  http:
"""
    return head + textwrap.indent(textwrap.dedent(routes).strip("\n"), "  ") + "\n---\n"


@contextlib.contextmanager
def site(behaviours: Mapping[str, str], more: str = "") -> Iterator[Site]:
    """Run it. Upstreams: ``v1``, ``v2``, ``copies``, ``sick`` (always 500), ``slow`` (2 s) and ``closed`` (none); and
    ``half`` (v1 and sick), ``far`` (sick near the client, v1 in another region)."""
    with contextlib.ExitStack() as stack:
        apps = {name: stack.enter_context(Clocked(name)) for name in ("v1", "v2", "copies")}
        apps["sick"] = stack.enter_context(Clocked("sick", 500))
        apps["slow"] = stack.enter_context(Clocked("slow", seconds=2))
        ports = {name: app.port for name, app in apps.items()} | {"closed": free_port()}
        text = "".join(entry(f"{name}.example", endpoint(port)) for name, port in ports.items())
        text += entry("half.example", f"{endpoint(ports['v1'])}, {endpoint(ports['sick'])}")
        near, far = endpoint(ports["sick"], locality="r1/z1"), endpoint(ports["v1"], locality="r2/z1")
        text += entry("far.example", f"{near}, {far}")
        hosts = [host for host in behaviours if host not in (*ports, "half", "far")]
        text += "".join(entry(f"{host}.example", endpoint(ports["v1"])) for host in hosts)
        text += "".join(virtual_service(host, routes) for host, routes in behaviours.items())
        yield Site(stack.enter_context(sidecar(text + more, workload=NEAR)), apps)
