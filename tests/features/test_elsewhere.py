"""Workloads elsewhere: the authority of a running mesh over TLS, and what its certificates open."""

import asyncio
import contextlib
import datetime
import http.client
import json
import os
import re
import signal
import socket
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import jwt
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from lateen.api import server as api
from lateen.cli.ca import SETTLE_S
from lateen.control import api as control_api
from lateen.identity.certificate import build_request, identity_of, key_pem, new_key
from lateen.identity.csr_client import CertificateUnavailable, request_chain_over_tls
from lateen.values.names import SpiffeId
from tests.envoy.harness import unverified
from tests.features import floods
from tests.features.running import free_port, running_mesh, until
from tests.features.test_identity import ca_status, guarded, inbound, status_of
from tests.features.test_robustness import VIA, process, traffic_goes_on
from tests.unit.identity.names import utc_now
from tests.unit.identity.test_plugged import Link, exchange, put

pytestmark = [pytest.mark.mesh, pytest.mark.xdist_group("elsewhere"), pytest.mark.timeout(240)]
ISSUER = "https://cluster.example"
KEY = ec.generate_private_key(ec.SECP256R1())
PORTS = {"tokens": free_port(), "certificates": free_port(), "metrics": free_port()}
CREATE = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
SDS = "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets"
DOORS = {"tokens": CREATE, "certificates": CREATE, "ca.sock": CREATE, "xds.sock": ADS, "proxies/client-0/sds.sock": SDS}
FIRST, SECOND = (Link(name, now=utc_now()) for name in ("first", "second"))
BOUND_MIB = 250
MANY = 300


def prepare(mesh):
    """Plug an authority in, let it listen, and take the service-account tokens of a cluster."""
    put(mesh.project / "ca", Link("own", FIRST, now=utc_now()), FIRST)
    public = {**json.loads(jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key())), "kid": "k", "use": "sig"}
    (mesh.project / "keys.json").write_text(json.dumps({"keys": [public]}))
    identity = {
        "ca": "ca",
        "listen": f"127.0.0.1:{PORTS['tokens']}",
        "listen_mutual": f"127.0.0.1:{PORTS['certificates']}",
        "account_tokens": {"issuer": ISSUER, "jwks": "keys.json"},
    }
    file = mesh.project / "lateen.yaml"
    file.write_text(file.read_text() + f"  identity: {json.dumps(identity)}\n")
    mesh.options = ("--metrics", f"127.0.0.1:{PORTS['metrics']}")


@pytest.fixture(scope="module")
def house():
    """One way of capture is enough: the authority is the same, and loopback lets a test call a sidecar."""
    with running_mesh("loopback", prepare) as running:
        yield running


@pytest.fixture
def root(house, tmp_path):
    file = tmp_path / "root.pem"
    file.write_text(house.lateen("ca", "root").stdout)
    return file


def issue(house, root, token, account, out, check=True):
    file = root.with_name("token")
    file.write_text(token)
    place = f"127.0.0.1:{PORTS['tokens']}"
    words = ("--server", place, "--root", str(root), "--token-file", str(file), "-s", account, "--out", str(out))
    return house.lateen("ca", "issue", *words, check=check)


def account_token(account="guest", **changes):
    now = datetime.datetime.now(datetime.UTC)
    claims = {"iss": ISSUER, "aud": ["istio-ca"], "exp": now + datetime.timedelta(minutes=10), **changes}
    subject = f"system:serviceaccount:default:{account}"
    return jwt.encode({"sub": subject, **claims}, KEY, "ES256", headers={"kid": "k"})


def leaf(folder):
    return x509.load_pem_x509_certificates((folder / "cert-chain.pem").read_bytes())[0]


def test_with_a_join_token_and_then_by_its_certificate(house, root, tmp_path):
    token = house.lateen("ca", "token", "-s", "guest").stdout.strip()
    issue(house, root, token, "guest", tmp_path / "guest")
    again = issue(house, root, token, "guest", tmp_path / "again", check=False)
    assert again.returncode == 1
    assert "no known token" in again.stderr
    first = leaf(tmp_path / "guest")
    place = f"127.0.0.1:{PORTS['certificates']}"
    house.lateen("ca", "issue", "--server", place, "--renew", "--out", str(tmp_path / "guest"))
    assert leaf(tmp_path / "guest").serial_number != first.serial_number
    with house.applied(guarded("guest")):
        assert status_of(tmp_path / "guest", inbound(house)) == 200
    with house.applied(guarded("another")):
        assert status_of(tmp_path / "guest", inbound(house)) == 403


def until_counted(house, **labels):
    """Await a series of requests with these labels."""
    texts = [f'{name}="{value}"' for name, value in labels.items()]

    def counted():
        series = house.lateen("metrics").stdout.splitlines()
        return any(line.startswith("istio_requests_total") and all(text in line for text in texts) for line in series)

    until(counted, f"nothing is counted with {labels}")


def test_what_a_workload_with_a_join_token_is_called_stands_in_metrics(house, root, tmp_path):
    names = ("--workload", "guest-v1", "--label", "app=guest", "--label", "version=v1")
    token = house.lateen("ca", "token", "-s", "guest", *names).stdout.strip()
    issue(house, root, token, "guest", tmp_path / "guest")
    place = f"127.0.0.1:{PORTS['certificates']}"
    house.lateen("ca", "issue", "--server", place, "--renew", "--out", str(tmp_path / "guest"))
    assert status_of(tmp_path / "guest", inbound(house)) == 200
    until_counted(house, source_workload="guest-v1", source_app="guest", source_version="v1")


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (("--label", "app=guest"), "--workload"),
        (("--workload", "guest", "--label", "app"), "NAME=VALUE"),
        (("--workload", "guest", "--label", "app=a b"), "NAME=VALUE"),
        (("--workload", "Guest/1"), "small letters"),
    ],
)
def test_names_that_a_workload_cannot_have_make_no_token(house, words, remedy):
    refused = house.lateen("ca", "token", "-s", "guest", *words, check=False)
    assert refused.returncode == 2
    assert remedy in refused.stderr
    assert not refused.stdout


def test_with_a_service_account_token(house, root, tmp_path):
    bound = {"namespace": "default", "serviceaccount": {"name": "guest"}, "pod": {"name": "guest-v2-66b6955995-9w8xf"}}
    issue(house, root, account_token(**{"kubernetes.io": bound}), "guest", tmp_path / "guest")
    assert status_of(tmp_path / "guest", inbound(house)) == 200
    until_counted(house, source_workload="guest-v2", source_app="unknown")
    assert str(identity_of(leaf(tmp_path / "guest"))) == "spiffe://cluster.local/ns/default/sa/guest"


@pytest.mark.parametrize(
    "wrong",
    [
        {"aud": ["another"]},
        {"iss": "https://another.example"},
        {"exp": datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)},
        {"sub": "system:serviceaccount:default"},
        {"sub": "system:serviceaccount:a/../b:c"},
    ],
    ids=str,
)
def test_a_service_account_token_that_is_not_for_this_gives_nothing(house, root, tmp_path, wrong):
    assert issue(house, root, account_token(**wrong), "guest", tmp_path / "guest", check=False).returncode == 1
    assert not (tmp_path / "guest" / "cert-chain.pem").exists()


def test_the_token_of_a_proxy_counts_on_this_machine_alone(house, root, tmp_path):
    tokens = json.loads((house.run_dir / "tokens.json").read_text())
    token = next(token for token, owner in tokens.items() if owner["id"] == "client-0")
    done = issue(house, root, token, "client", tmp_path / "client", check=False)
    assert done.returncode == 1
    assert "no known token" in done.stderr


def test_tokens_count_over_a_restart_as_they_did_before(house, root, tmp_path):
    used, left = (house.lateen("ca", "token", "-s", "guest").stdout.strip() for _ in range(2))
    issue(house, root, used, "guest", tmp_path / "used")
    pid = process(house, "control")
    os.kill(pid, signal.SIGKILL)
    until(lambda: process(house, "control") not in (0, pid), "the control plane is started again")
    until(lambda: house.status()["control_plane"]["ready"], "the control plane is ready")
    assert issue(house, root, used, "guest", tmp_path / "again", check=False).returncode == 1
    issue(house, root, left, "guest", tmp_path / "left")


def test_what_was_shown_is_in_no_log(house, root, tmp_path):
    good, bad = account_token(), account_token(aud=["another"])
    join = house.lateen("ca", "token", "-s", "guest").stdout.strip()
    for number, token in enumerate((good, bad, join, join)):
        issue(house, root, token, "guest", tmp_path / str(number), check=False)
    files = [path for path in house.run_dir.rglob("*") if path.is_file()]
    held = [path.name for path in files for token in (good, bad, join) if token in path.read_text(errors="replace")]
    assert held == []


def all_hold(house, condition):
    """Wait until every workload holds and uses what the authority gives now, and that fits the condition."""

    def reached():
        found = ca_status(house)
        now = found["authority"]["generation"]
        return all(one["in_use"] and one["generation"] == now and condition(one) for one in found["workloads"])

    until(reached, "everyone has followed")
    time.sleep(SETTLE_S)


def test_a_plugged_in_authority_is_exchanged_by_its_files_under_load(house):
    folder, other = house.project / "ca", Link("other", SECOND, now=utc_now())
    with house.load(VIA) as load:
        exchange(folder, root_cert=FIRST.pem + SECOND.pem)
        all_hold(house, lambda one: len(one["roots"]) == 2 and one["issuer"] == "CN=own")
        exchange(folder, root_cert=SECOND.pem)
        until(lambda: "authority-files" in str(house.control("/v1/findings")), "what would part the mesh is told")
        exchange(folder, root_cert=FIRST.pem + SECOND.pem)
        exchange(folder, ca_cert=other.pem, ca_key=bytes(key_pem(other.key)), cert_chain=other.pem)
        all_hold(house, lambda one: one["issuer"] == "CN=other")
        exchange(folder, root_cert=SECOND.pem)
        all_hold(house, lambda one: len(one["roots"]) == 1)
        traffic_goes_on(house)
    assert load.failures == []
    assert "authority-files" not in str(house.control("/v1/findings"))
    assert "exchange its files" in house.lateen("ca", "rotate", check=False).stderr


# --- those who have nothing to show ----------------------------------------------------------------------------------


def door(house, name):
    """How a stranger connects: over TLS, plainly to the metrics, or to a socket, as if its mode kept nobody out."""

    def connect():
        if name not in PORTS:
            plain = socket.socket(socket.AF_UNIX)
            plain.connect(str(house.run_dir / name))
            return plain
        plain = socket.create_connection(("127.0.0.1", PORTS[name]), timeout=5)
        context = unverified(None, ("h2",))
        return plain if name == "metrics" else context.wrap_socket(plain)

    return connect


def memory(*processes):
    return sum(one.memory_info().rss for one in processes) >> 20


def servers(house):
    return psutil.Process(process(house, "control")), psutil.Process(house.record["supervisor"]["pid"])


def joined(root):
    """Whether a certificate came, as an agent asks for one: again, where nobody answered."""
    request = build_request(new_key(), SpiffeId("cluster.local", "default", "guest"))
    place = f"127.0.0.1:{PORTS['tokens']}"
    with contextlib.suppress(CertificateUnavailable):
        return asyncio.run(request_chain_over_tls(place, root.read_bytes(), request, token=account_token()))
    return []


def others_are_served(house, root):
    """Traffic, the owner's questions, a workload that joins, and whoever scrapes."""
    assert house.get("/echo").status == 200
    assert "findings" in house.control("/v1/findings")
    until(lambda: joined(root), "a workload has joined")
    with urllib.request.urlopen(f"http://127.0.0.1:{PORTS['metrics']}/metrics", timeout=20) as answer:
        assert b"istio_requests_total" in answer.read()


def test_each_port_is_known_and_gives_a_stranger_nothing(house, root):
    listening = [one.laddr for each in servers(house) for one in each.net_connections("tcp") if one.status == "LISTEN"]
    assert sorted(place.port for place in listening) == sorted(PORTS.values())
    request = build_request(new_key(), SpiffeId("cluster.local", "default", "guest"))
    for name, said in (("tokens", "no known token"), ("certificates", "another kind of proof")):
        with pytest.raises(CertificateUnavailable, match=said):
            asyncio.run(request_chain_over_tls(f"127.0.0.1:{PORTS[name]}", root.read_bytes(), request))
    routes = re.findall(r"^(GET|POST) +([^ ?,]+)", f"{api.__doc__}\n{control_api.__doc__}", re.MULTILINE)
    assert len(routes) > 18
    for method, target in routes:
        connection = http.client.HTTPConnection("127.0.0.1", PORTS["metrics"], timeout=20)
        with contextlib.closing(connection):
            connection.request(method, target)
            assert connection.getresponse().status == (200 if target == "/metrics" else 404), target


def test_floods_of_frames_cost_others_nothing(house, root):
    """Each flood, some at once; and headers that stand for much at each kind of server, again and again."""
    before, running = memory(*servers(house)), servers(house)
    with ThreadPoolExecutor(5) as pool:
        for each in floods.FLOODS:
            pool.submit(floods.flood, door(house, "tokens"), each(CREATE))
        for name in ("tokens", "xds.sock", "proxies/client-0/sds.sock") * 4:
            pool.submit(floods.flood, door(house, name), floods.packed_headers(DOORS[name]))
        others_are_served(house, root)
    assert memory(*running) - before < BOUND_MIB
    assert servers(house) == running
    others_are_served(house, root)


def test_noise_is_no_end(house, root):
    running = servers(house)
    with ThreadPoolExecutor(8) as pool:
        for seed in range(40):
            for name in (*DOORS, "metrics", "api.sock", "control.sock"):
                pool.submit(floods.noise, door(house, name), seed)
    assert servers(house) == running
    others_are_served(house, root)


def test_connections_that_are_held_open_leave_room(house, root):
    control, supervisor = running = servers(house)
    before = [one.num_fds() for one in running]
    held = []
    try:
        for name in ("tokens", "metrics"):
            for _ in range(MANY):
                with contextlib.suppress(OSError):
                    held.append(socket.create_connection(("127.0.0.1", PORTS[name]), timeout=5))
        until(lambda: control.num_fds() < before[0] + MANY, "the authority takes no more connections")
        until(lambda: supervisor.num_fds() < before[1] + MANY / 2, "nor does who serves metrics")
        assert house.get("/echo").status == 200
        assert "findings" in house.control("/v1/findings")
        with urllib.request.urlopen(f"http://127.0.0.1:{PORTS['metrics']}/metrics", timeout=20) as answer:
            assert answer.status == 200
    finally:
        for one in held:
            one.close()
    until(lambda: control.num_fds() < before[0] + 20, "they are gone")
    others_are_served(house, root)


@pytest.mark.parametrize("place", ["control.sock /v1/explain", "control.sock /v1/ca/tokens", "api.sock /v1/scale"])
def test_a_body_without_an_end_is_not_read(house, place):
    name, target = place.split()
    with door(house, name)() as connection:
        connection.sendall(f"POST {target} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode())
        with contextlib.suppress(OSError):
            for _ in range(40):
                connection.sendall(b"100000\r\n" + b"[" * 0x100000 + b"\r\n")
        assert b"the body is larger than" in connection.recv(2000)
