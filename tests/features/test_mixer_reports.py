"""What rules of Mixer tell of requests and connections on a running mesh: files, collectors, adapters, Prometheus."""

import contextlib
import json
import socket

import pytest
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

from tests.envoy.collectors import ForwardCollector, GrpcCollector, HttpCollector
from tests.features.mixer_support import ECHO, NOTHING, TO_ECHO, documents, in_use as in_use, resource, rule, statuses
from tests.features.running import ROOT, until
from tests.outside_support import CONFIG, OutsideAdapter

pytestmark = [pytest.mark.mesh, pytest.mark.xdist_group("mixer"), pytest.mark.timeout(240)]


def log_rule(path, **params):
    return documents(
        resource(
            "handler",
            "log",
            {
                "compiledAdapter": "stdio",
                "params": {"logStream": "FILE", "outputPath": str(path), "outputAsJson": True, **params},
            },
        ),
        resource(
            "instance",
            "entry",
            {
                "compiledTemplate": "logentry",
                "params": {
                    "severity": '"info"',
                    "timestamp": "request.time",
                    "variables": {
                        "caller": 'source.workload.name | "unknown"',
                        "principal": 'source.principal | ""',
                        "service": 'destination.service.host | "none"',
                        "path": "request.path",
                        "user": 'request.headers["x-user"] | "nobody"',
                        "status": "response.code | 0",
                        "took": 'response.duration | "0ms"',
                        "type": 'response.headers["content-type"] | ""',
                        "flags": "context.proxy_error_code",
                        "kept": "check.cache_hit | false",
                    },
                },
            },
        ),
        rule(f'{TO_ECHO} && context.reporter.kind == "inbound" && request.path != "/quiet"', ("log", "entry")),
    )


def test_what_is_over_is_reported_with_what_rules_ask_for(mesh, tmp_path):
    path = tmp_path / "entries.log"
    with mesh.applied(log_rule(path, severityLevels={"info": 1})):  # as Istio's own document has it, for WARNING

        def entries():
            mesh.fetch(f"{ECHO}/quiet")
            mesh.fetch(f"{ECHO}/loud?a=b", headers={"x-user": "ann"})
            lines = path.read_text().splitlines() if path.exists() else []
            return [json.loads(line) for line in lines]

        found = until(entries, "something is reported")
        entry = found[0]
        assert {one["path"] for one in found} == {"/loud?a=b"}
        assert entry["caller"] == "client"
        assert entry["principal"] == "cluster.local/ns/default/sa/client"
        assert entry["service"] == "echo.default.svc.cluster.local"
        assert (entry["user"], entry["status"], entry["type"]) == ("ann", 200, "application/json")
        assert entry["flags"] == "-"
        assert entry["level"] == "warn"
        assert entry["took"].endswith("s")


def test_whatever_mixer_refuses_has_the_same_flag(mesh, tmp_path):
    path = tmp_path / "refused.log"
    denier = resource("handler", "deny", {"compiledAdapter": "denier", "params": {"status": {"code": 7}}})
    texts = documents(
        log_rule(path),
        denier,
        NOTHING,
        rule(f'{TO_ECHO} && request.path == "/in-proxy"', ("deny", "nothing"), name="in-proxy"),
        rule(f'{TO_ECHO} && request.path == "/asked" && size(request.path) > 1', ("deny", "nothing"), name="asked"),
    )
    with mesh.applied(texts):

        def entries():
            for name in ("/in-proxy", "/asked", "/asked"):
                assert mesh.fetch(f"{ECHO}{name}").status == 403
            lines = path.read_text().splitlines() if path.exists() else []
            found = [one for one in map(json.loads, lines) if one["path"] in ("/in-proxy", "/asked")]
            return (
                any(one["kept"] for one in found)
                and {one["path"] for one in found} == {"/in-proxy", "/asked"}
                and found
            )

        found = until(entries, "all are reported")
        assert {one["flags"] for one in found} == {"UAEX"}
        assert {one["kept"] for one in found if one["path"] == "/in-proxy"} == {False}


def test_connections_are_reported_as_they_open_and_once_they_are_over(mesh, tmp_path):
    path = tmp_path / "connections.log"
    variables = {
        "event": "connection.event",
        "received": "connection.received.bytes | 0",
        "sent": "connection.sent.bytes_total | 0",
        "took": 'connection.duration | "0ms"',
        "caller": 'source.principal | ""',
        "namespace": 'source.namespace | ""',
        "port": "destination.port",
        "mtls": "connection.mtls",
    }
    file = {"logStream": "FILE", "outputPath": str(path), "outputAsJson": True}
    texts = documents(
        resource("handler", "log", {"compiledAdapter": "stdio", "params": file}),
        resource("instance", "entry", {"compiledTemplate": "logentry", "params": {"variables": variables}}),
        rule(f'{TO_ECHO} && context.protocol == "tcp"', ("log", "entry")),
    )
    with mesh.applied(texts):

        def entries():
            mesh.get("/tcp?to=echo:7000")
            lines = path.read_text().splitlines() if path.exists() else []
            found = [json.loads(line) for line in lines]
            return found if {one["event"] for one in found} == {"open", "close"} else None

        found = until(entries, "connections are reported")
        assert statuses(mesh) == {200}
    over = next(one for one in found if one["event"] == "close")
    opened = next(one for one in found if one["event"] == "open")
    assert over["received"] == len(b"hello\n")
    assert over["sent"] > 0
    assert (opened["received"], opened["sent"]) == (0, 0)
    assert over["caller"] == opened["caller"] == "cluster.local/ns/default/sa/client"
    assert (over["namespace"], over["port"], over["mtls"]) == ("default", 7000, True)


def test_attributes_are_reported_by_hand(mesh, tmp_path):
    path = tmp_path / "entries.log"
    with mesh.applied(log_rule(path)):
        words = ("mixer", "report", "--at", "echo-v1-0:8000", "context.reporter.kind=inbound")
        more = ("request.time=2026-01-31T12:00:00Z", "context.proxy_error_code=-", "response.code=503")
        said = mesh.lateen(*words, *more, "request.path=/by-hand").stdout
        assert "log.default: took logentry" in said
        assert 'variables.path = "/by-hand"' in said
        (entry,) = (one for one in map(json.loads, path.read_text().splitlines()) if one["path"] == "/by-hand")
        assert entry["status"] == 503
        assert "no rule reports this" in mesh.lateen(*words, *more, "request.path=/quiet").stdout


def test_metrics_go_to_statsd(mesh):
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(1)
        texts = documents(
            resource(
                "handler",
                "counts",
                {
                    "compiledAdapter": "statsd",
                    "params": {
                        "address": f"127.0.0.1:{server.getsockname()[1]}",
                        "metrics": {"size.default": {"type": "COUNTER", "nameTemplate": "size.{{.code}}"}},
                    },
                },
            ),
            resource(
                "instance",
                "size",
                {
                    "compiledTemplate": "metric",
                    "params": {"value": "response.size", "dimensions": {"code": "response.code"}},
                },
            ),
            rule(TO_ECHO, ("counts", "size")),
        )
        with mesh.applied(texts):

            def counted():
                mesh.fetch(f"{ECHO}/echo")
                with contextlib.suppress(TimeoutError):
                    return server.recv(4096).decode()
                return ""

            line = until(counted, "a count comes")
            assert line.startswith("size.200:")
            assert int(line.split(":")[1].split("|")[0]) > 100


TRACE = "0123456789abcdef0123456789abcdef"
METRIC = {"value": "response.size", "dimensions": {"path": "request.path", "who": "source.workload.name"}}
ENTRY = {"variables": {"path": "request.path", "code": "response.code"}, "severity": '"warn"'}
SPAN = {
    "traceId": 'request.headers["x-trace"] | ""',
    "spanId": 'request.headers["x-span"] | ""',
    "spanName": "request.path",
    "startTime": "request.time",
    "endTime": "response.time",
    "httpStatusCode": "response.code",
    "destinationName": "destination.workload.name",
    "sourceName": 'source.workload.name | "?"',
    "spanTags": {"who": 'source.principal | ""'},
}
EDGE = {"timestamp": "request.time", "sourceOwner": 'source.owner | ""', "destinationOwner": "destination.owner"}


@pytest.mark.one_capture
def test_an_adapter_outside_mixer_decides_counts_and_is_told(mesh):
    """As it was written for Mixer: it answers Mixer's own services over gRPC, those of all templates."""
    others = {
        "apikey": {"api": '"echo"', "apiKey": 'request.headers["x-key"] | "none"', "timestamp": "request.time"},
        "authorization": {"subject": {"user": 'source.user | "unknown"'}, "action": {"path": "request.path"}},
        "checknothing": {},
        "reportnothing": {},
        "logentry": ENTRY,
        "tracespan": SPAN,
        "edge": EDGE,
    }
    with OutsideAdapter() as server:
        texts = (
            resource("adapter", "mine", {"config": CONFIG, "templates": ["listentry", "metric", "quota", *others]}),
            *(
                resource("instance", f"of-{name}", {"template": name, "params": given})
                for name, given in others.items()
            ),
            rule(
                f'{TO_ECHO} && context.protocol == "http"',
                *(("outside", f"of-{name}") for name in others),
                name="others",
            ),
            resource(
                "handler",
                "outside",
                {
                    "adapter": "mine",
                    "connection": {"address": f"127.0.0.1:{server.port}", "timeout": "1s"},
                    "params": {"list": ["good"], "most": 1},
                },
            ),
            resource(
                "handler",
                "bare",
                {"compiledAdapter": "bypass", "params": {"backendAddress": f"127.0.0.1:{server.port}"}},
            ),
            resource(
                "instance", "who", {"template": "listentry", "params": {"value": 'request.headers["x-who"] | "good"'}}
            ),
            resource("instance", "size", {"template": "metric", "params": {"value": "response.size"}}),
            resource("instance", "used", {"template": "quota", "params": {}}),
            rule(TO_ECHO, ("outside", "who"), ("outside", "size"), ("outside", "used"), name="all"),
            rule(f'{TO_ECHO} && request.path == "/bare"', ("bare", "who"), name="bare"),
            resource(
                "QuotaSpec",
                "charged",
                {
                    "rules": [
                        {
                            "match": [{"clause": {"request.path": {"exact": f"/charge-{charge}"}}}],
                            "quotas": [{"quota": "used", "charge": charge}],
                        }
                        for charge in (1, 2)
                    ]
                },
            ),
            resource(
                "QuotaSpecBinding", "bound", {"services": [{"name": "echo"}], "quotaSpecs": [{"name": "charged"}]}
            ),
        )
        with mesh.applied(documents(*texts)):
            assert statuses(mesh) == {200}
            assert statuses(mesh, {"x-who": "bad"}) == {403}
            refused = mesh.fetch(f"{ECHO}/echo", headers={"x-who": "bad"})
            assert refused.body == b"PERMISSION_DENIED:outside.default:not in my list"
            sent = mesh.get("/echo", headers={"x-who": "elsewhere"})
            assert (sent.status, sent.headers["location"]) == (302, "https://x.example/")
            until(lambda: mesh.fetch(f"{ECHO}/charge-2").status == 429, "more is charged than it grants")
            assert mesh.fetch(f"{ECHO}/charge-1").status == 200
            assert mesh.fetch(f"{ECHO}/bare").body == b"PERMISSION_DENIED:bare.default:not in my list", "it has no list"
            everything = {"listentry", "metric", "quota", *others}
            until(lambda: mesh.fetch(ECHO) and {name for name, _ in server.calls} == everything, "it is told all")
            who = next(told for name, told in server.calls if name == "authorization").instance.subject.user
            assert who.startswith("cluster.local/ns/")
            assert any(b"echo" in told and b"none" in told for name, told in server.calls if name == "apikey")
            assert any(b"/deployments/client" in told for name, told in server.calls if name == "edge")


@contextlib.contextmanager
def collectors():
    methods = (
        f"/opentelemetry.proto.collector.{one}Service/Export" for one in ("metrics.v1.Metrics", "trace.v1.Trace")
    )
    with contextlib.ExitStack() as stack:
        udp = stack.enter_context(contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        opened = (HttpCollector(), GrpcCollector(*methods), HttpCollector(), ForwardCollector())
        yield (*(stack.enter_context(one) for one in opened), udp)


@pytest.mark.one_capture
def test_whoever_collects_is_told_of_real_requests(mesh):
    """Over OTLP by both ways, Zipkin, fluentd and dogstatsd, all of them by one rule; noop takes whatever there is."""
    with collectors() as (over_http, over_grpc, zipkin, fluentd, dogstatsd):
        counted = {
            "name": "sizes",
            "instanceName": "size.default",
            "kind": "DISTRIBUTION",
            "labelNames": ["path", "who"],
        }
        otlp = {"pushInterval": "1s", "metrics": [counted], "resourceAttributes": {"zone": "a"}}
        adapters = {
            "otlp-http": (
                "opentelemetry",
                {"url": f"http://127.0.0.1:{over_http.port}", **otlp},
                ("size", "entry", "span"),
            ),
            "otlp-grpc": ("opentelemetry", {"url": f"grpc://127.0.0.1:{over_grpc.port}", **otlp}, ("size", "span")),
            "zipkin": ("zipkin", {"url": f"http://127.0.0.1:{zipkin.port}/spans", "sampleProbability": 1}, ("span",)),
            "fluentd": ("fluentd", {"address": f"127.0.0.1:{fluentd.port}", "pushIntervalDuration": "1s"}, ("entry",)),
            "dog": (
                "dogstatsd",
                {
                    "address": f"127.0.0.1:{dogstatsd.getsockname()[1]}",
                    "metrics": {"size.default": {"name": "sizes", "type": "DISTRIBUTION", "tags": {"zone": "a"}}},
                },
                ("size",),
            ),
            "noop": ("noop", {}, ("size", "entry", "span", "edge", "empty", "key", "nothing")),
        }
        instances = {
            "size": ("metric", METRIC),
            "entry": ("logentry", ENTRY),
            "span": ("tracespan", SPAN),
            "edge": ("edge", EDGE),
            "empty": ("reportnothing", {}),
            "key": (
                "apikey",
                {"api": '"echo"', "apiKey": 'request.headers["x-key"] | ""', "timestamp": "request.time"},
            ),
            "nothing": ("checknothing", {}),
        }
        texts = [
            *(
                resource("handler", name, {"compiledAdapter": one, "params": given})
                for name, (one, given, _) in adapters.items()
            ),
            *(
                resource("instance", name, {"compiledTemplate": one, "params": given})
                for name, (one, given) in instances.items()
            ),
            resource(
                "rule",
                "tell",
                {
                    "match": f'{TO_ECHO} && context.protocol == "http" && request.path == "/told"',
                    "actions": [
                        {"handler": name, "instances": list(taken)} for name, (_, _, taken) in adapters.items()
                    ],
                },
            ),
        ]
        with mesh.applied(documents(*texts)):
            lines = []

            def told():
                mesh.fetch(f"{ECHO}/told", headers={"x-trace": TRACE, "x-span": "00000000000000aa"})
                with contextlib.suppress(BlockingIOError):
                    lines.append(dogstatsd.recv(4096).decode())
                everybody = {one.path for one in (*over_http.told, *over_grpc.told)}
                return len(everybody) == 5 and zipkin.told and fluentd.entries and lines

            until(told, "everybody is told")
    assert {one.path for one in over_http.told} == {"/v1/metrics", "/v1/logs", "/v1/traces"}
    metrics = metrics_service_pb2.ExportMetricsServiceRequest
    for told in (over_http.told, over_grpc.told):
        body = next(one.body for one in told if "metrics" in one.path)
        (metric,) = metrics.FromString(body).resource_metrics[0].instrumentation_library_metrics[0].metrics
        (point,) = metric.histogram.data_points
        assert metric.name == "istio.sizes"
        assert {one.key: one.value.string_value for one in point.attributes} == {"path": "/told", "who": "client"}
        assert point.count >= 1
    span = zipkin.spans()[0]
    assert (span["traceId"], span["localEndpoint"]["serviceName"][:6]) == (TRACE, "echo-v")
    assert span["tags"]["who"] == "cluster.local/ns/default/sa/client"
    assert fluentd.entries[0] == ("entry.default", {"path": "/told", "code": 200, "severity": "warn"})
    assert lines[0].startswith("istio.sizes:")
    assert lines[0].endswith("|h|#path:/told,who:client,zone:a")


def test_metrics_that_rules_count_are_scraped_with_the_others(mesh):
    texts = documents(
        resource(
            "handler",
            "prom",
            {
                "compiledAdapter": "prometheus",
                "params": {
                    "metrics": [
                        {
                            "name": "calls",
                            "instanceName": "calls.default",
                            "kind": "COUNTER",
                            "labelNames": ["from", "code"],
                        }
                    ]
                },
            },
        ),
        resource(
            "instance",
            "calls",
            {
                "compiledTemplate": "metric",
                "params": {"value": "1", "dimensions": {"from": 'source.workload.name | "?"', "code": "response.code"}},
            },
        ),
        rule(TO_ECHO, ("prom", "calls")),
    )
    with mesh.applied(texts):

        def scraped():
            mesh.fetch(f"{ECHO}/echo")
            text = mesh.text("api.sock", "/metrics")
            return text if "istio_calls{" in text else ""

        text = until(scraped, "the metric is scraped")
        line = next(line for line in text.splitlines() if line.startswith("istio_calls{"))
        assert 'from="client"' in line
        assert 'code="200"' in line
        assert "mixer_reports_lost_total" in text
        assert "mixer_handler_calls_total{" in text


def test_the_rules_that_mixer_came_with_hold_as_they_are(mesh):
    """examples/mixer/telemetry.yaml, with attributes that kubernetesenv finds, logs and metrics."""
    with mesh.applied((ROOT / "examples" / "mixer" / "telemetry.yaml").read_text()):
        found = [one for one in mesh.control("/v1/findings")["findings"] if "telemetry" in one["text"]]
        assert found == []

        def reported():
            mesh.fetch(f"{ECHO}/default")
            mesh.get("/tcp?to=echo:7000")
            lines = mesh.lateen("logs", "--mixer").stdout.splitlines()
            entries = [json.loads(line[line.index("{") :]) for line in lines if '"instance":"' in line]
            web = [one for one in entries if one.get("url") == "/default"]
            over = [one for one in entries if one.get("connectionEvent") == "close"]
            return (web[-1], over[-1]) if web and over else None

        entry, over = until(reported, "requests and connections are logged")
        assert (entry["instance"], entry["level"]) == ("accesslog.istio-system", "info")
        assert (entry["sourceWorkload"], entry["destinationServiceHost"]) == (
            "client",
            "echo.default.svc.cluster.local",
        )
        assert entry["connection_security_policy"] == "mutual_tls"
        assert over["receivedBytes"] == 6
        alone = mesh.capture == "namespaces"
        assert entry["sourceName"] == ("client-0" if alone else "unknown"), "addresses of loopback are nobody's"
        assert (over["sourceWorkload"], over["sourceApp"]) == ("client", "client")

        def scraped():
            lines = mesh.text("api.sock", "/metrics").splitlines()
            web = [
                one for one in lines if one.startswith("istio_requests_total{") and "permissive_response_code" in one
            ]
            bytes_ = [one for one in lines if one.startswith("istio_tcp_connections_opened_total{")]
            return (web, bytes_) if web and bytes_ else None

        web, _ = until(scraped, "they are counted")
        assert any('source_app="client"' in one and 'destination_app="echo"' in one for one in web)


def test_a_rule_reports_the_first_requests_of_a_while_and_then_a_share(mesh):
    def counted(name):
        metric = {"name": name, "instanceName": "sampled.default", "kind": "COUNTER"}
        return resource("handler", name, {"compiledAdapter": "prometheus", "params": {"metrics": [metric]}})

    def limit(most):
        return {"rateLimit": {"samplingDuration": "1h", "maxUnsampledEntries": most, "samplingRate": 3}}

    def value(name):
        lines = mesh.text("api.sock", "/metrics").splitlines()
        return next((int(line.split()[-1]) for line in lines if line.startswith(f"istio_{name}{{")), 0)

    own = TO_ECHO + ' && request.headers["x-sampled"] == "yes"'
    texts = documents(
        counted("sampled_all"),
        counted("sampled_some"),
        counted("sampled_none"),
        resource("instance", "sampled", {"compiledTemplate": "metric", "params": {"value": "1"}}),
        rule(own, ("sampled_all", "sampled"), name="all", sampling=limit(1000)),
        rule(own, ("sampled_some", "sampled"), name="some", sampling=limit(2)),
        rule(
            own,
            ("sampled_none", "sampled"),
            name="none",
            sampling={"random": {"percentSampled": {"numerator": 0}}},
        ),
    )
    with mesh.applied(texts):

        def counted_enough():
            """Connections that are older than the rules are not reported on."""
            mesh.fetch(f"{ECHO}/echo", headers={"x-sampled": "yes"})
            return value("sampled_all") >= 8

        until(counted_enough, "some are counted")
        until(lambda: value("sampled_some") == 2 + (value("sampled_all") - 2) // 3, "two and every third are counted")
        assert value("sampled_none") == 0
