"""The harness itself: a ServiceEntry's endpoints are reached through a real sidecar, and so is a gateway's route."""

from __future__ import annotations

from tests.envoy.from_yaml import sidecar
from tests.envoy.gateways import entry, gateway, gateway_workload, serves, to, virtual_service
from tests.envoy.harness import Application, free_port


def test_a_service_entry_is_reached_through_a_sidecar() -> None:
    with Application("v1") as app, sidecar(entry("shop", app.port)) as proxy:
        assert proxy.get("shop.example", 8080, "/a").seen["path"] == "/a"


def test_a_gateway_is_reached_by_its_port() -> None:
    port = free_port()
    text = gateway(serves(port)) + virtual_service(to("shop.example"))
    with Application("v1") as app, sidecar(entry("shop", app.port) + text, workload=gateway_workload()) as proxy:
        assert proxy.get("any.example", port, address="127.0.0.1").status == 200
