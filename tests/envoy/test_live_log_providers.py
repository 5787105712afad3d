"""Access logs at servers and in the file of the MeshConfig: what they are told by a real proxy."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from envoy.service.accesslog.v3 import als_pb2
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

from tests.envoy.collectors import GrpcCollector
from tests.envoy.from_yaml import Running, sidecar
from tests.envoy.gateways import entry
from tests.envoy.harness import Application, eventually

OTLP_LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
PROVIDERS = """
---
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
defaultProviders: {accessLogging: [requests, connections, records]}
extensionProviders:
- name: requests
  envoyHttpAls:
    service: logs.example
    port: 9411
    logName: own
    filterStateObjectsToLog: [lateen.caller]
    additionalRequestHeadersToLog: [x-kind]
    additionalResponseHeadersToLog: [x-app]
    additionalResponseTrailersToLog: [x-end]
- name: connections
  envoyTcpAls: {service: logs.example, port: 9411, filterStateObjectsToLog: [lateen.caller]}
- name: records
  envoyOtelAls:
    service: logs.example
    port: 9411
    logName: records
    logFormat: {text: "%REQ(:METHOD)% %RESPONSE_CODE%", labels: {path: "%REQ(:PATH)%"}}
"""


def _through(proxy: Running, host: str, port: int, data: bytes) -> bytes:
    with socket.create_connection((proxy.address(host), port), 10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return connection.makefile("rb").read()


def test_servers_of_logs_are_told_of_requests_and_connections() -> None:
    with Application("v1") as app, GrpcCollector(OTLP_LOGS) as logs:
        text = entry("shop", app.port) + entry("bytes", app.port, "TCP", number=8081) + PROVIDERS
        text += entry("logs", logs.port, "grpc", number=9411)
        with sidecar(text, logs=True) as proxy:
            assert proxy.get("shop.example", 8080, "/a", {"x-kind": "big"}).status == 200
            request = b"GET /b HTTP/1.1\r\nhost: b\r\nconnection: close\r\n\r\n"
            assert _through(proxy, "bytes.example", 8081, request).startswith(b"HTTP/1.1 200")

            def streamed() -> list[als_pb2.StreamAccessLogsMessage]:
                found = [told.body for told in logs.told if told.path != OTLP_LOGS]
                return [als_pb2.StreamAccessLogsMessage.FromString(body) for body in found]

            eventually(
                lambda: {message.WhichOneof("log_entries") for message in streamed()} == {"http_logs", "tcp_logs"}
            )
            exported = eventually(lambda: len(sent := [told for told in logs.told if told.path == OTLP_LOGS]) and sent)
            own = proxy.folder / "access.log"
            assert not own.exists() or own.read_text() == ""
    by_kind = {message.WhichOneof("log_entries"): message for message in streamed()}
    (told,) = by_kind["http_logs"].http_logs.log_entry
    assert by_kind["http_logs"].identifier.log_name == "own"
    assert by_kind["tcp_logs"].identifier.log_name == "tcp_envoy_accesslog"
    assert (told.request.path, told.response.response_code.value) == ("/a", 200)
    assert told.request.request_headers["x-kind"] == "big"
    assert told.response.response_headers["x-app"] == "v1"
    record = logs_service_pb2.ExportLogsServiceRequest.FromString(exported[0].body).resource_logs[0]
    (written, *_) = record.instrumentation_library_logs[0].logs
    assert written.body.string_value == "GET 200"
    assert {one.key: one.value.string_value for one in written.attributes} == {"path": "/a"}


@pytest.mark.parametrize(
    ("form", "written"),
    [
        ("", '"GET /a HTTP/1.1" 200 - via_upstream'),
        ('accessLogFormat: "%REQ(:PATH)% %RESPONSE_CODE%"', "/a 200\n"),
        ("accessLogEncoding: JSON", '"path":"/a"'),
        ('accessLogEncoding: JSON\naccessLogFormat: \'{"way": "%REQ(:PATH)%"}\'', '{"way":"/a"}\n'),
    ],
)
def test_the_file_of_the_mesh_configuration(tmp_path: Path, form: str, written: str) -> None:
    file = tmp_path / "log"
    config = f"---\napiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\naccessLogFile: {file}\n{form}\n"
    with Application("v1") as app, sidecar(entry("shop", app.port) + config, logs=True) as proxy:
        assert proxy.get("shop.example", 8080, "/a").status == 200
        text = eventually(file.read_text)
        assert json.loads(eventually((proxy.folder / "access.log").read_text))["path"] == "/a"
    assert written in text if not written.endswith("\n") else text == written
