"""Adapters outside Mixer: what they are told on the wire, and what their answers mean."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import ipaddress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import grpc
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from lateen.control.mixer_link import unfit_handlers
from lateen.mesh.mixer.resolve import resolve
from lateen.mixer.adapter import OK, PERMISSION_DENIED, DirectAnswer, QuotaArgs
from lateen.mixer.adapters import outside_messages
from lateen.mixer.adapters.outside import Outside, Unfit, config_of, tokens_of
from lateen.mixer.adapters.outside_messages import check_result, request
from lateen.mixer.adapters.tokens import Tokens
from lateen.mixer.instances import STRUCTS
from lateen.mixer.reach import Reach
from lateen.mixer.templates import ApiKey, Authorization, Edge, ListEntry, Metric, Quota, Subject, TraceSpan
from lateen.resources.mixer.outside import (
    Authentication,
    Connection,
    MutualAuthentication,
    OAuth,
    OutsideParams,
    TlsAuthentication,
)
from lateen.resources.resource import Resource
from lateen.resources.support import check_support
from lateen.resources.validate import validate_resource
from tests.outside_support import CONFIG, WIRE, OutsideAdapter
from tests.properties.mixer_roles import written

NOON = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)
GIVEN = OutsideParams(params={"list": ["a"], "most": 3}, config=CONFIG)


def reached(server: OutsideAdapter, params: OutsideParams = GIVEN, **more: Any) -> Outside:
    return Outside(Connection(f"127.0.0.1:{server.port}", **more), lambda: config_of(params))


def test_a_check_with_parameters() -> None:
    with OutsideAdapter() as server:

        async def run() -> list[Any]:
            adapter = reached(server)
            found = [
                await adapter.check(ListEntry(name="entry.default", value=value)) for value in ("a", "b", "elsewhere")
            ]
            await adapter.close()
            return found

        well, refused, sent = asyncio.run(run())
    assert (well.code, well.valid, well.uses) == (OK, 60.0, 100)
    assert (refused.code, refused.message) == (PERMISSION_DENIED, "not in my list")
    assert (sent.code, sent.answer) == (16, DirectAnswer(302, "", {"location": "https://x.example/"}))
    (_, first), (_, second), _ = server.calls
    assert (first.instance.value, first.instance.name) == ("a", "entry.default")
    assert first.config.type_url == "type.googleapis.com/own.config.Params"
    assert first.dedup_id != second.dedup_id


def test_metrics_and_their_values() -> None:
    dimensions = {"n": 7, "s": "x", "none": None, "took": datetime.timedelta(seconds=2.5)}
    with OutsideAdapter() as server:

        async def run() -> None:
            adapter = reached(server)
            await adapter.report("metric", [Metric(name="size", value=1, dimensions=dimensions)] * 2)
            await adapter.close()

        asyncio.run(run())
    ((_, told),) = server.calls
    assert [one.name for one in told.instances] == ["size", "size"]
    assert told.instances[0].value.int64_value == 1
    found = {one.key: one.value for one in told.instances[0].dimensions}
    assert (found["n"].int64_value, found["s"].string_value) == (7, "x")
    assert (found["took"].duration_value.value.seconds, found["took"].duration_value.value.nanos) == (2, 500_000_000)
    assert "none" not in found


def test_amounts() -> None:
    with OutsideAdapter() as server:

        async def run() -> list[int]:
            adapter = reached(server)
            quota = Quota(name="calls.default", dimensions={"who": "ann"})
            found = [(await adapter.allot(quota, QuotaArgs(amount))).granted for amount in (2, 5)]
            await adapter.close()
            return found

        assert asyncio.run(run()) == [2, 3]
    assert outside_messages.quota_result(b"", Quota(name="calls")).granted == 0


def test_who_asks() -> None:
    with OutsideAdapter() as server:

        async def run() -> None:
            adapter = reached(server, OutsideParams())
            await adapter.check(Authorization(subject=Subject(user="ann", properties={"ns": "shop"})))
            await adapter.close()

        asyncio.run(run())
    ((_, told),) = server.calls
    assert told.instance.subject.user == "ann"
    assert told.instance.subject.properties[0].value.string_value == "shop"
    assert told.config.type_url == ""


@pytest.mark.parametrize("template", sorted(set(STRUCTS) - {"kubernetes"}))
def test_every_template_has_its_message(template: str) -> None:
    """With each field that its struct has."""
    struct = STRUCTS[template]
    message = request(template, [struct(name="one")], None)
    fields = {field.name for field in outside_messages._CLASSES[f"Of_{template}"].DESCRIPTOR.fields}
    assert fields == {field.name for field in msgspec.structs.fields(struct)}
    assert message.SerializeToString()
    service = outside_messages.method_of(template)
    assert service.lower() == f"/{template}.handle{template}service/handle{template}"


def test_times_addresses_and_truths() -> None:
    span = TraceSpan(
        trace_id="a",
        start_time=NOON,
        client_span=True,
        http_status_code=503,
        source_ip=ipaddress.ip_address("10.0.0.1"),
        span_tags={"m": {"a": "b"}, "on": True, "share": 0.5, "at": NOON, "ip": ipaddress.ip_address("::1")},
    )
    (found,) = request("tracespan", [span], None).instances
    assert found.start_time.value.seconds == int(NOON.timestamp())
    assert found.source_ip.value == bytes([10, 0, 0, 1])
    assert (found.client_span, found.http_status_code) == (True, 503)
    assert found.span_tags["m"].string_map_value.value["a"] == "b"
    assert (found.span_tags["on"].bool_value, found.span_tags["share"].double_value) == (True, 0.5)
    assert found.span_tags["ip"].ip_address_value.value == ipaddress.ip_address("::1").packed
    assert found.span_tags["at"].timestamp_value.value.seconds == int(NOON.timestamp())
    address = ipaddress.ip_address("10.0.0.1")
    assert request("listentry", [ListEntry(value=address)], None).instances.value == "10.0.0.1"
    assert request("apikey", [ApiKey(api_key="k", timestamp=NOON)], None).instances.timestamp.value.seconds
    assert request("edge", [Edge(destination_service_name="d")], None).instances[0].destination_service_name == "d"


def test_an_answer_without_a_status_is_well_and_is_not_kept() -> None:
    found = check_result(b"")
    assert (found.code, found.valid) == (OK, 0.0)


def test_nobody_at_the_other_end_and_tokens(tmp_path: Path) -> None:
    async def run() -> None:
        adapter = Outside(Connection("127.0.0.1:1"), lambda: None)
        with pytest.raises(OSError, match="UNAVAILABLE"):
            await adapter.check(ListEntry(value="a"))
        with pytest.raises(OSError, match="UNAVAILABLE"):
            await adapter.report("metric", [Metric()] * 3)
        assert adapter.lost == 3
        await adapter.close()
        missing = Authentication(tls=TlsAuthentication(ca_certificates=str(tmp_path / "none.pem")))
        with pytest.raises(FileNotFoundError):
            await Outside(Connection("127.0.0.1:1", authentication=missing), lambda: None).check(ListEntry())

    asyncio.run(run())


@pytest.mark.parametrize(
    ("said", "header"),
    [
        ({}, ("authorization", "one")),
        ({"auth_header": "BEARER"}, ("authorization", "Bearer one")),
        ({"custom_header": "X-Token"}, ("x-token", "one")),
    ],
)
def test_tokens_of_a_file(tmp_path: Path, said: dict[str, Any], header: tuple[str, str]) -> None:
    (tmp_path / "token").write_text("one\n")
    tls = TlsAuthentication(token_path=str(tmp_path / "token"), **said)
    with OutsideAdapter() as server:
        plain = Connection(f"127.0.0.1:{server.port}")

        async def run() -> None:
            connection = msgspec.structs.replace(plain, authentication=Authentication(tls=tls))
            adapter = Outside(connection, lambda: None, tokens_of(connection, Reach().web.send))
            adapter._channel = grpc.aio.insecure_channel(plain.address)  # a server without TLS shows what comes
            await adapter.check(ListEntry(value="a"))
            await adapter.close()

        asyncio.run(run())
    assert header in server.metadata[0].items()


def made(folder: Path, name: str, issuer: Any = None) -> Any:
    """A certificate for a name and its key, in files; without an issuer one that issues others."""
    key = ec.generate_private_key(ec.SECP256R1())
    title = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    signer, signed_by = issuer or (key, title)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(title)
        .issuer_name(signed_by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / f"{name}.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key, title


@pytest.mark.parametrize("with_certificate", [True, False])
def test_a_server_with_tls_that_wants_a_certificate(tmp_path: Path, with_certificate: bool) -> None:
    issuer = made(tmp_path, "root")
    for name in ("adapter.example", "mixer"):
        made(tmp_path, name, issuer)
    files = {path.name: path for path in tmp_path.iterdir()}
    pair = (files["adapter.example.key"].read_bytes(), files["adapter.example.pem"].read_bytes())
    roots = files["root.pem"]
    mutual = MutualAuthentication(str(files["mixer.key"]), str(files["mixer.pem"]), str(roots), "adapter.example")
    said = Authentication(mutual=mutual)
    if not with_certificate:
        said = Authentication(tls=TlsAuthentication(ca_certificates=str(roots), server_name="adapter.example"))
    with OutsideAdapter(grpc.ssl_server_credentials([pair], roots.read_bytes(), require_client_auth=True)) as server:

        async def run() -> int:
            adapter = Outside(Connection(f"127.0.0.1:{server.port}", authentication=said), lambda: config_of(GIVEN))
            try:
                return (await adapter.check(ListEntry(value="a"))).code
            finally:
                await adapter.close()

        if with_certificate:
            assert asyncio.run(run()) == OK
        else:
            with pytest.raises(OSError, match="UNAVAILABLE"):
                asyncio.run(run())


def test_tokens_of_a_server(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    oauth = OAuth("me", str(tmp_path / "secret"), "https://t/", ("a", "b"), {"audience": "x"})
    asked: list[dict[str, str]] = []
    now = [0.0]

    async def send(method: str, url: str, body: bytes, headers: Any) -> bytes:
        await asyncio.sleep(0.02)
        asked.append(dict(parse_qsl(body.decode())))
        return msgspec.json.encode({"access_token": f"t{len(asked)}", "expires_in": 100, "token_type": "bearer"})

    async def run() -> list[str]:
        tokens = Tokens("", oauth, send, clock=lambda: now[0])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.001):
                await tokens.get()
        found = [await tokens.get(), await tokens.get()]
        now[0] = 69.0
        found.append(await tokens.get())
        now[0] = 71.0
        found += await asyncio.gather(tokens.get(), tokens.get())
        await tokens.close()
        return found

    assert asyncio.run(run()) == ["t1", "t1", "t1", "t2", "t2"]
    assert asked[0] == {
        "grant_type": "client_credentials",
        "client_id": "me",
        "client_secret": "s3cret",
        "scope": "a b",
        "audience": "x",
    }


def test_a_server_that_gives_no_token() -> None:
    async def send(*_: Any) -> bytes:
        return b'{"error": "invalid_client"}'

    async def run() -> None:
        await Tokens("", OAuth("me", "", "https://t/"), send).get()

    with pytest.raises(ValueError, match="access_token"):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (OutsideParams(params={"a": 1}), "has no config"),
        (OutsideParams(config="%%%"), "no FileDescriptorSet"),
        (OutsideParams(config=base64.b64encode(b"\xff\xff").decode()), "no FileDescriptorSet"),
        (OutsideParams(config=""), ""),
        (OutsideParams(params={"lisst": []}, config=CONFIG), "do not fit"),
        (OutsideParams(params={"most": "many"}, config=CONFIG), "do not fit"),
        (OutsideParams(config=base64.b64encode(b"").decode() or "AA"), "no"),
    ],
)
def test_parameters_that_cannot_be_told(params: OutsideParams, words: str) -> None:
    if not words:
        assert config_of(params) is None
        return
    with pytest.raises(Unfit, match=words):
        config_of(params)


def by_kind(*resources: Resource) -> dict[str, list[Resource]]:
    return {kind: [one for one in resources if one.key.kind == kind] for kind in {one.key.kind for one in resources}}


def described(name: str = "mine", **handler: Any) -> list[Resource]:
    spec = {"adapter": name, "connection": {"address": "a:1"}, **handler}
    return [
        written("adapter", "mine", {"config": CONFIG, "templates": ["listentry", "metric.istio-system"]}),
        written("handler", "outside", spec),
        written("instance", "entry", {"template": "listentry.istio-system", "params": {"value": "source.user"}}),
        written("rule", "ask", {"actions": [{"handler": "outside", "instances": ["entry"]}]}),
    ]


@pytest.mark.parametrize("name", ["mine", "mine.default"])
def test_a_handler_names_an_adapter(name: str) -> None:
    rules, findings = resolve(by_kind(*described(name, params={"list": ["a"]})), "default")
    assert findings == ()
    (handler,) = (action.handler for action in rules.rules[0].actions)
    assert handler.templates == {"listentry", "metric"}
    assert list(unfit_handlers(rules)) == []
    config = config_of(handler.params)  # type: ignore[arg-type]
    assert config is not None
    assert list(WIRE["Params"].FromString(config.value).list) == ["a"]


def test_what_does_not_fit_is_told() -> None:
    rules, findings = resolve(by_kind(*described("other")), "default")
    assert rules.rules == ()
    assert {one.code for one in findings} == {"unknown-adapter", "unusable-handler"}
    rules, _ = resolve(by_kind(*described(params={"none": 1})), "default")
    (finding,) = unfit_handlers(rules)
    assert "mine cannot be called: params do not fit" in finding.message
    wrong = described()
    wrong[2] = written("instance", "entry", {"template": "checknothing"})
    rules, findings = resolve(by_kind(*wrong), "default")
    assert [one.code for one in findings] == ["wrong-template"]


@pytest.mark.parametrize(
    ("kind", "spec", "field", "words"),
    [
        ("adapter", {}, "spec", "takes no templates"),
        ("adapter", {"templates": ["metrics"]}, "spec.templates[0]", "no template metrics"),
        ("adapter", {"templates": ["metric"], "session_based": True}, "spec.sessionBased", "no sessions"),
        ("adapter", {"templates": ["metric"], "config": "%"}, "spec.config", "no base64"),
        ("adapter", {"templates": ["metric.istio-system"], "config": CONFIG, "description": "x"}, "", ""),
        ("template", {"descriptor": "x"}, "metadata.name", "templates of your own are not read"),
        ("handler", {"compiledAdapter": "noop", "connection": {"address": "a:1"}}, "spec.connection", "runs here"),
        ("handler", {"adapter": "mine", "connection": {}}, "spec.connection", "no address"),
        (
            "handler",
            {"adapter": "m", "connection": {"address": "a:1", "timeout": "1m"}},
            "spec.connection.timeout",
            "10 s",
        ),
        ("handler", {"adapter": "m", "connection": {"address": "a:1", "timeout": "0.2s"}}, "", ""),
        ("bypass", {}, "spec", "no address"),
        ("bypass", {"backend_address": "a:1", "session_based": True}, "spec.sessionBased", "no sessions"),
        ("bypass", {"backend_address": "a:1", "params": {"@type": "x"}}, "spec.params", "only the descriptor"),
    ],
)
def test_findings(kind: str, spec: dict[str, Any], field: str, words: str) -> None:
    resource = written(kind, "one", spec)
    found = [(one.origin.field, one.message) for one in (*validate_resource(resource), *check_support(resource))]
    assert [place for place, message in found if words in message] == ([field] if field else []), found


@pytest.mark.parametrize(
    ("said", "field", "words"),
    [
        ({}, "", "one of tls and mutual"),
        ({"tls": {}, "mutual": {}}, "", "one of tls and mutual"),
        ({"tls": {"oauth": {"clientId": "a"}}}, ".tls.oauth.tokenUrl", "is missing"),
        ({"tls": {"oauth": {"tokenUrl": "https://a/"}}}, ".tls.oauth", "no client"),
        ({"tls": {"oauth": {"clientSecret": "s3cret"}}}, ".tls.oauth.clientSecret", "no path"),
        ({"tls": {"oauth": {}, "tokenPath": "/t"}}, ".tls.oauth", "exclude each other"),
        ({"tls": {"customHeader": "a b", "tokenPath": "/t"}}, ".tls.customHeader", "is no header"),
        ({"tls": {"customHeader": "a", "authHeader": "PLAIN", "tokenPath": "/t"}}, ".tls.customHeader", "exclude"),
        ({"tls": {"authHeader": "BEARER"}}, ".tls", "no token"),
        ({"mutual": {"privateKey": "/k"}}, ".mutual", "a certificate and its key"),
    ],
)
def test_findings_on_authentication(said: dict[str, Any], field: str, words: str) -> None:
    connection = {"address": "a:1", "authentication": said}
    resource = written("handler", "one", {"adapter": "mine", "connection": connection})
    found = [(one.origin.field, one.message) for one in validate_resource(resource)]
    place = f"spec.connection.authentication{field}"
    assert [where for where, message in found if words in message] == [place], found
