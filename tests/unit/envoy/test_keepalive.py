"""A socket that refuses an option is no connection: what its kernel does not take is not asked of it."""

from lateen.control.offline import OfflineProxy, configure

MESH = """
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {selector: {app: a}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a}
spec:
  host: a
  trafficPolicy: {connectionPool: {tcp: {tcpKeepalive: {probes: 0, time: 1ms, interval: 90s}}}}
"""


def test_a_socket_is_asked_for_whole_seconds_and_for_nothing_that_is_0(tmp_path):
    path = tmp_path / "mesh.yaml"
    path.write_text(MESH)
    result = configure([path], OfflineProxy("sidecar", "default", (("app", "b"),), "10.1.0.1", "b"))
    name = "outbound|80||a.default.svc.cluster.local"
    cluster = next(one for one in result.readable()["clusters"] if one["name"] == name)
    found = cluster["upstreamConnectionOptions"]["tcpKeepalive"]
    assert found == {"keepaliveTime": 1, "keepaliveInterval": 90}
