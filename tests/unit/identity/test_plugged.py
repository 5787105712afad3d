"""An authority that an operator plugs in: what it may look like, and what is told of every way to get it wrong."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from lateen.identity.authority import Authority
from lateen.identity.certificate import build_request, certificate_pem, key_pem, new_key
from lateen.identity.keystore import KeystoreError
from lateen.identity.roots import Phase, WrongStep
from lateen.identity.workload import describe, judge_chain
from tests.unit.identity.names import NOW, REVIEWS

YEAR = datetime.timedelta(days=365)
OWN_DOMAIN = [x509.UniformResourceIdentifier("cluster.local")]
OTHER_DOMAIN = [x509.UniformResourceIdentifier("other.example")]


class Link:
    """A certificate of an authority and its key."""

    def __init__(
        self, name, above=None, key=None, *, ca=True, length=None, life=YEAR, signs=True, permits=None, forbids=None
    ):
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        issuer = above or self
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.name = subject
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - datetime.timedelta(days=1))
            .not_valid_after(NOW + life)
            .add_extension(x509.BasicConstraints(ca, length if ca else None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.KeyUsage(True, False, False, False, False, signs, signs, False, False), critical=True)
        )
        if permits or forbids:
            builder = builder.add_extension(x509.NameConstraints(permits, forbids), critical=True)
        self.certificate = builder.sign(issuer.key, hashes.SHA256())
        self.pem = certificate_pem(self.certificate)


def put(folder, own, *above, roots=None, key=None):
    folder.mkdir(mode=0o700)
    files = {
        "ca-cert.pem": own.pem,
        "ca-key.pem": bytes(key_pem(key or own.key)),
        "cert-chain.pem": b"".join(link.pem for link in (own, *above)),
        "root-cert.pem": b"".join(root.pem for root in roots or above[-1:]),
    }
    for name, data in files.items():
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(data)
    return folder


def opened(folder, now=NOW):
    return Authority(folder, "cluster.local", lambda: now)


@pytest.mark.parametrize("kind", ["ec", "rsa"])
@pytest.mark.parametrize("between", [0, 1])
def test_the_chain_leads_from_the_workload_to_the_root(tmp_path, kind, between):
    root = Link("root")
    above = [root]
    for number in range(between):
        above.insert(0, Link(f"between {number}", above[0]))
    key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else None
    own = Link("own", above[0], key, permits=OWN_DOMAIN)
    authority = opened(put(tmp_path / "ca", own, *above, roots=[Link("another root"), root]))
    leaf_key = new_key()
    chain = authority.sign(build_request(leaf_key, REVIEWS), REVIEWS)
    credentials = judge_chain(chain, leaf_key, REVIEWS, NOW.timestamp())
    assert len(x509.load_pem_x509_certificates(credentials.chain)) == 2 + between
    assert len(describe(credentials).roots) == 2
    assert describe(credentials).issuer == "CN=own"
    assert authority.phase is Phase.PLUGGED_IN
    with pytest.raises(WrongStep, match="plugged in"):
        authority.next_step()


def test_certificates_do_not_outlive_any_link(tmp_path):
    root = Link("root", life=datetime.timedelta(hours=2))
    authority = opened(put(tmp_path / "ca", Link("own", root), root))
    leaf = x509.load_pem_x509_certificate(authority.sign(build_request(new_key(), REVIEWS), REVIEWS)[0])
    assert leaf.not_valid_after_utc == NOW + datetime.timedelta(hours=2)


ROOT = Link("root")
WRONG = {
    "does not belong": lambda: (Link("own", ROOT), ROOT, {"key": Link("x").key}),
    "no root that": lambda: (Link("own", ROOT), {"roots": [Link("another")]}),
    "did not issue": lambda: (Link("own", ROOT), Link("stranger", ROOT), ROOT, {}),
    "not the certificate of an authority": lambda: (Link("own", ROOT, ca=False), ROOT, {}),
    "allows 0 authorities below": lambda: _short(),
    "may not sign certificates": lambda: (Link("own", ROOT, signs=False), ROOT, {}),
    "expired on": lambda: (Link("own", ROOT, life=datetime.timedelta(hours=-1)), ROOT, {}),
    "may not sign for cluster.local": lambda: (Link("own", ROOT, permits=OTHER_DOMAIN), ROOT, {}),
    "its name constraints": lambda: (Link("own", ROOT, forbids=OWN_DOMAIN), ROOT, {}),
}


def _short():
    root = Link("root", length=0)
    return Link("own", root), root, {}


@pytest.mark.parametrize("said", WRONG)
def test_what_is_wrong_is_told(tmp_path, said):
    *links, options = WRONG[said]()
    folder = put(tmp_path / "ca", links[0], *links[1:], **options)
    with pytest.raises(KeystoreError, match=said):
        opened(folder)


@pytest.mark.parametrize("name", ["ca-cert.pem", "ca-key.pem", "cert-chain.pem"])
def test_a_file_that_is_missing_is_named(tmp_path, name):
    root = Link("root")
    folder = put(tmp_path / "ca", Link("own", root), root)
    (folder / name).unlink()
    with pytest.raises(KeystoreError, match=name):
        opened(folder)
