"""A control plane for tests: plans in, and a real Envoy that gets their translation over ADS and SDS."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from lateen.envoy.bootstrap import bootstrap
from lateen.envoy.resources import SECRET, EnvoyResources
from lateen.envoy.secrets import translate_secret
from lateen.envoy.translate import translate
from lateen.plan.model import ProxyPlan
from lateen.plan.proxy import Bind
from lateen.plan.tls import MESH_ROOTS, WORKLOAD_CERTIFICATE
from lateen.xds.cache import ResourceCache
from lateen.xds.server import AdsServer, SecretServer
from lateen.xds.status import StatusBoard, SyncState
from tests.envoy.harness import Envoy, Pem, eventually, run_file

TOKEN, ID = "token", "p"


class Plane:
    """Serves one proxy. All calls may come from the test's own thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.status = StatusBoard()
        self._cache, self._secrets = ResourceCache(), ResourceCache()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def start(self) -> None:
        self._agent = SecretServer(self._secrets, ID)
        self._wait(self._agent.start(self.folder / "sds.sock"))
        self.start_ads()

    def start_ads(self) -> None:
        self._ads = AdsServer(self._cache, {TOKEN: ID}.get, self.status)
        self._wait(self._ads.start(self.folder / "xds.sock"))

    def stop_ads(self) -> None:
        self._wait(self._ads.stop(0))

    def stop(self) -> None:
        self.stop_ads()
        self._wait(self._agent.stop(0))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def serve(self, what: ProxyPlan | EnvoyResources) -> None:
        resources = what if isinstance(what, EnvoyResources) else translate(what)
        self._call(lambda: self._cache.put(ID, resources))

    def certify(self, pem: Pem) -> None:
        made = (
            translate_secret(WORKLOAD_CERTIFICATE, pem.certificate, pem.key, b""),
            translate_secret(MESH_ROOTS, b"", b"", pem.roots),
        )
        self._call(lambda: self._secrets.put(ID, EnvoyResources({SECRET: {found.name: found for found in made}})))

    def settled(self) -> None:
        """Wait until the proxy has accepted everything."""
        states = (SyncState.SYNCED, SyncState.NOT_SENT)
        eventually(lambda: (rows := self.status.rows(ID)) and all(row.state in states for row in rows))

    def _call(self, change: Callable[[], object]) -> None:
        async def run() -> None:
            change()

        self._wait(run())

    def _wait(self, work: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


@contextlib.contextmanager
def controlled(plan: ProxyPlan | EnvoyResources, pem: Pem, source: Bind | None = None) -> Iterator[tuple[Plane, Envoy]]:
    """A running Envoy that has the plan's translation; ``source`` is where its connections leave from."""
    with tempfile.TemporaryDirectory(prefix="lateen-") as name:
        plane = Plane(Path(name))
        plane.start()
        plane.certify(pem)
        plane.serve(plan)
        text = bootstrap(
            ID,
            node_cluster="c",
            xds_socket=f"{name}/xds.sock",
            sds_socket=f"{name}/sds.sock",
            admin_socket=f"{name}/admin.sock",
            token=TOKEN,
            upstream_source=source,
        )
        (plane.folder / "envoy.json").write_bytes(text)
        try:
            with run_file(plane.folder) as envoy:
                plane.settled()
                yield plane, envoy
        finally:
            plane.stop()
