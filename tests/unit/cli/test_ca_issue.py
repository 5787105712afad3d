"""``lateen ca issue`` against a real authority over TLS, and what it says where something is wrong."""

import asyncio
import datetime
import subprocess
import sys

import pytest
from cryptography import x509

from lateen.identity.authority import Authority
from lateen.identity.certificate import identity_of
from lateen.identity.csr_server import CertificateServer
from lateen.identity.join_tokens import JoinTokens
from lateen.identity.proofs import tokens_from_elsewhere
from lateen.values.names import SpiffeId
from tests.machine import free_port

GUEST = SpiffeId("cluster.local", "default", "guest")
OWN = SpiffeId("cluster.local", "istio-system", "istiod")


def now():
    return datetime.datetime.now(datetime.UTC)


class Site:
    """An authority with its two ports, and a folder with what a caller needs."""

    def __init__(self, folder):
        self.folder, self.out = folder, folder / "out"
        self.authority = Authority(folder / "ca", "cluster.local", now)
        self.tokens = JoinTokens(folder / "join-tokens.json", now)
        self.port, self.mutual = free_port(), free_port()
        (folder / "root.pem").write_bytes(self.authority.root_pem)
        self.write_token(self.tokens.invite(GUEST, datetime.timedelta(hours=1)) + "\n")

    def write_token(self, text):
        (self.folder / "token").write_bytes(text if isinstance(text, bytes) else text.encode())

    def calls(self, *commands):
        """What each command line gives, one after the other: exit code and text."""

        async def run():
            server = CertificateServer(self.authority, now)
            names = ("istiod.istio-system.svc", "127.0.0.1")
            await server.start_tls(f"127.0.0.1:{self.port}", OWN, names, tokens_from_elsewhere(self.tokens, None))
            await server.start_tls(f"127.0.0.1:{self.mutual}", OWN, names, None)
            try:
                return [await asyncio.to_thread(self._call, words) for words in commands]
            finally:
                await server.stop()

        return asyncio.run(run())

    def _call(self, words):
        done = subprocess.run(
            [sys.executable, "-m", "lateen", "ca", "issue", *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=self.folder,
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    @property
    def new(self):
        place = f"127.0.0.1:{self.port}"
        return ["--server", place, "--root", "root.pem", "--token-file", "token", "-s", "guest", "--out", "out"]

    @property
    def renewal(self):
        return ["--server", f"127.0.0.1:{self.mutual}", "--renew", "--out", "out"]

    @property
    def leaf(self):
        return x509.load_pem_x509_certificates((self.out / "cert-chain.pem").read_bytes())[0]


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_a_certificate_by_a_token_and_its_renewal(site):
    (code, text), again, (renewed, _) = site.calls(site.new, site.new, site.renewal)
    assert (code, renewed) == (0, 0), text
    assert "spiffe://cluster.local/ns/default/sa/guest until" in text
    assert again[0] == 1
    assert "--renew" in again[1]  # a key is not overwritten
    assert identity_of(site.leaf) == GUEST
    assert "PRIVATE KEY" not in text


def test_who_renews_at_each_step_follows_an_exchange_of_the_root(site):
    assert site.calls(site.new)[0][0] == 0
    old = site.leaf.issuer
    for _ in range(3):
        site.authority.next_step()
        assert site.calls(site.renewal)[0][0] == 0
    assert site.leaf.issuer != old
    assert (site.out / "root-cert.pem").read_bytes() == site.authority.root_pem


@pytest.mark.parametrize("token", [b"", b"two words", b"two\nlines", b"\xff\xfe", "é".encode(), b"nul\x00"], ids=str)
def test_what_is_no_token_is_told_before_anything_is_sent(site, token):
    site.write_token(token)
    ((code, text),) = site.calls(site.new)
    assert code == 1
    assert "holds no token" in text
    assert not site.out.exists()


def test_what_are_no_roots_is_told(site):
    (site.folder / "root.pem").write_text("garbage")
    ((code, text),) = site.calls(site.new)
    assert code == 1
    assert "root.pem holds no certificates in PEM" in text


def test_a_server_of_another_root_is_not_believed(site, tmp_path):
    other = Authority(tmp_path / "other", "cluster.local", now)
    (site.folder / "root.pem").write_bytes(other.root_pem)
    assert site.calls(site.new)[0][0] == 1
    (site.folder / "root.pem").write_bytes(site.authority.root_pem)
    assert site.calls(site.new)[0][0] == 0  # the token was not shown to the wrong one, and counts still


def test_a_wrong_token_and_an_empty_folder_are_told(site):
    site.write_token("join-wrong")
    (wrong, said), (without, missing) = site.calls(site.new, site.renewal)
    (site.folder / "out").mkdir(mode=0o700)
    ((empty, none),) = site.calls(site.renewal)
    assert (wrong, without, empty) == (1, 1, 1)
    assert "no known token" in said
    assert "No such file or directory" in missing
    assert "does not hold key.pem" in none


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-s", "\u00e9", "--out", "o"], "is no name of Kubernetes"),
        (["-s", "web", "-n", "a..b", "--out", "o"], "is no name of Kubernetes"),
        (["-s", "web", "--out", "o", "--server", "127.0.0.1:99999"], "is not HOST:PORT"),
        (["-s", "web", "--out", "o", "--server", "127.0.0.1"], "is not HOST:PORT"),
    ],
)
def test_names_and_places_that_cannot_be_are_told(site, words, told):
    ((code, said),) = site.calls([*words, "--root", "root.pem", "--token-file", "token"])
    assert code == 2
    assert told in said
    assert not (site.folder / "o").exists()
