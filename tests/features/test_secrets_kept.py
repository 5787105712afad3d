"""What a mesh tells of itself holds no key and no token: dumps, answers of its sockets, logs."""

import asyncio
import contextlib
import json

import grpc
import grpc.aio
import pytest
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2

from lateen.envoy.resources import LISTENER, SECRET
from lateen.identity.certificate import build_request, new_key
from lateen.identity.csr_client import CertificateUnavailable, request_chain
from lateen.values.names import SpiffeId
from lateen.xds.server import ADS_SERVICE
from tests.envoy.harness import Authority
from tests.features.running import running_mesh

pytestmark = [pytest.mark.mesh, pytest.mark.xdist_group("secrets"), pytest.mark.timeout(180)]
SENT = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIn0.c2lnbmF0dXJlLW9mLWEtdG9rZW4tdGhhdC13YXMtc2VudA"
WRONG = "a-wrong-token-that-was-shown"
GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: shop}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - port: {{number: {port}, name: https, protocol: HTTPS}}
    hosts: [shop.example]
    tls: {{mode: SIMPLE, credentialName: shop-cert}}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens}}
spec:
  selector: {{matchLabels: {{istio: ingressgateway}}}}
  jwtRules: [{{issuer: "https://issuer.example", jwks: '{{"keys": []}}'}}]
"""


@pytest.fixture(scope="module")
def house():
    """One way of capture is enough: what is told does not depend on it."""
    with running_mesh("loopback") as running:
        yield running


@pytest.fixture(scope="module")
def key(house):
    """The key of a gateway's certificate, which the gateway has."""
    pem = Authority().issue("shop.example")
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "shop-cert"},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": pem.certificate.decode(), "tls.key": pem.key.decode()},
    }
    with house.applied(f"{json.dumps(secret)}\n---{GATEWAY.format(port=house.tls_port)}", "shop.yaml"):
        yield pem.key.decode()


def proxies(house):
    return [entry["id"] for entry in house.control("/v1/proxies")["proxies"]]


def use_tokens(house):
    """Good ones and bad ones, at the gateway and at the control plane's sockets."""
    for token in (SENT, WRONG):
        house.get("/echo", headers={"authorization": f"Bearer {token}"})
        request = build_request(new_key(), SpiffeId("cluster.local", "default", "client"))
        with contextlib.suppress(CertificateUnavailable):
            asyncio.run(request_chain(house.run_dir / "ca.sock", token, request))
        ask(house, token, base_pb2.Node(), LISTENER, "none", until=None)


def ask(house, token, node, kind, name, until):
    """All that comes over ADS, up to the first answer that holds ``until``; nothing where the token is refused."""

    async def run():
        seen = b""
        metadata = (("authorization", f"Bearer {token}"),)
        async with asyncio.timeout(60), grpc.aio.insecure_channel(f"unix:{house.run_dir / 'xds.sock'}") as channel:
            call = channel.stream_stream(f"/{ADS_SERVICE}/DeltaAggregatedResources")(metadata=metadata)
            for wanted, names in ((kind, (name,)), (LISTENER, ("*",))):
                message = discovery_pb2.DeltaDiscoveryRequest(type_url=wanted, resource_names_subscribe=names)
                message.node.CopyFrom(node)
                with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await call.write(message.SerializeToString())
            try:
                while until is None or until not in seen:
                    answer = await call.read()
                    if answer is grpc.aio.EOF:
                        break
                    seen += answer
            except grpc.aio.AioRpcError:
                return seen
            return seen

    return asyncio.run(run())


def told(house):
    """Name and text of everything that is told."""
    for proxy in proxies(house):
        yield f"config {proxy}", house.lateen("proxy", "config", proxy, "-o", "json").stdout
        yield f"/v1/config/{proxy}", house.text("control.sock", f"/v1/config/{proxy}")
        for page in ("/config_dump?include_eds", "/certs", "/server_info", "/clusters?format=json"):
            yield f"{page} {proxy}", house.text(f"proxies/{proxy}/admin.sock", page)
    for page in ("/v1/findings", "/v1/proxies", "/v1/gateways", "/v1/ca", "/v1/ca/roots", "/metrics"):
        yield page, house.text("control.sock", page)
    for page in ("/v1/status", "/v1/identities", "/metrics"):
        yield page, house.text("api.sock", page)
    for words in (("status", "-o", "json"), ("proxy", "status"), ("ca", "status"), ("xds", "-f", str(house.project))):
        yield " ".join(words), house.lateen(*words, check=False).stdout
    for path in house.run_dir.rglob("*"):
        is_secret = path.name in ("tokens.json", "bootstrap.json", "ca-key.pem") or "last-good" in path.parts
        if path.is_file() and not is_secret:
            yield str(path.relative_to(house.run_dir)), path.read_text(errors="replace")


def test_what_is_told_holds_no_key_and_no_token(house, key):
    use_tokens(house)
    joining = house.lateen("ca", "token", "-s", "guest").stdout.strip()
    tokens = json.loads((house.run_dir / "tokens.json").read_text())
    secrets = {"a private key": "PRIVATE KEY", "the gateway's key": key.splitlines()[1], "a token that was sent": SENT}
    secrets |= {"a wrong token": WRONG, "a join token": joining}
    secrets |= {f"the token of {owner['id']}": token for token, owner in tokens.items()}
    assert len(tokens) >= 4
    found = dict(told(house))
    assert "shop-cert" in found["config ingress-0"]
    leaks = [f"{what} in {name}" for name, text in found.items() for what, secret in secrets.items() if secret in text]
    assert leaks == []


def test_a_workload_does_not_get_the_gateways_key_whoever_it_says_it_is(house, key):
    tokens = {owner["id"]: token for token, owner in json.loads((house.run_dir / "tokens.json").read_text()).items()}
    name = next(
        entry["name"] for entry in house.control("/v1/config/ingress-0")["secrets"] if "shop-cert" in entry["name"]
    )
    gateway = base_pb2.Node(id="ingress-0", cluster="ingress")
    gateway.metadata.update(
        {"NAMESPACE": "default", "SERVICE_ACCOUNT": "ingress", "LABELS": {"istio": "ingressgateway"}}
    )
    part = key.splitlines()[1].encode()
    assert part in ask(house, tokens["ingress-0"], gateway, SECRET, name, part)
    for proxy in ("client-0", "echo-v1-0"):
        seen = ask(house, tokens[proxy], gateway, SECRET, name, b"envoy.config.listener.v3.Listener")
        assert b"PRIVATE KEY" not in seen
        assert part not in seen
        assert seen
