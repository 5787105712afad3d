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
        self,
        name,
        above=None,
        key=None,
        *,
        ca=True,
        length=None,
        life=YEAR,
        signs=True,
        permits=None,
        forbids=None,
        purposes=(),
        more=(),
        named=True,
        now=NOW,
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
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + life)
            .add_extension(x509.BasicConstraints(ca, length if ca else None), critical=True)
            .add_extension(x509.KeyUsage(True, False, False, False, False, signs, signs, False, False), critical=True)
        )
        if named:
            own = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
            builder = builder.add_extension(own, critical=False)
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        for one in more:
            builder = builder.add_extension(one, critical=True)
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


def test_nothing_is_told_in_subjects_below_an_authority_for_certain_subjects_only(tmp_path):
    company = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "company")])
    for name, permits, subjects in (("all", OWN_DOMAIN, 1), ("some", [*OWN_DOMAIN, x509.DirectoryName(company)], 0)):
        authority = opened(put(tmp_path / name, Link("own", root := Link("root"), permits=permits), root))
        pem = authority.sign(build_request(new_key(), REVIEWS), REVIEWS, told="a/b/c/d/e")[0]
        assert len(x509.load_pem_x509_certificate(pem).subject.rdns) == subjects


def test_certificates_do_not_outlive_any_link(tmp_path):
    root = Link("root", life=datetime.timedelta(hours=2))
    authority = opened(put(tmp_path / "ca", Link("own", root), root))
    leaf = x509.load_pem_x509_certificate(authority.sign(build_request(new_key(), REVIEWS), REVIEWS)[0])
    assert leaf.not_valid_after_utc == NOW + datetime.timedelta(hours=2)


ROOT = Link("root")
PURPOSE = x509.ExtendedKeyUsageOID
SPIFFE = x509.UniformResourceIdentifier("spiffe://cluster.local")
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
WRONG = {
    "does not belong": lambda: (Link("own", ROOT), ROOT, {"key": Link("x").key}),
    "no root that": lambda: (Link("own", ROOT), {"roots": [Link("another")]}),
    "did not issue": lambda: (Link("own", ROOT), Link("stranger", ROOT), ROOT, {}),
    "not the certificate of an authority": lambda: (Link("own", ROOT, ca=False), ROOT, {}),
    "allows 0 authorities below": lambda: _short(),
    "may not sign certificates": lambda: (Link("own", ROOT, signs=False), ROOT, {}),
    "expired on": lambda: (Link("own", ROOT, life=datetime.timedelta(hours=-1)), ROOT, {}),
    "may not sign for cluster.local": lambda: (Link("own", ROOT, permits=OTHER_DOMAIN), ROOT, {}),
    "proxies look for a host there, such as cluster.local": lambda: (Link("own", ROOT, permits=[SPIFFE]), ROOT, {}),
    "both serverAuth and clientAuth": lambda: (Link("own", ROOT, purposes=[PURPOSE.SERVER_AUTH]), ROOT, {}),
    "extended key usage has to name": lambda: (Link("own", ROOT, purposes=[PURPOSE.ANY_EXTENDED_KEY_USAGE]), ROOT, {}),
    "proxies do not know: 1.2.3.4": lambda: (Link("own", ROOT, more=[UNKNOWN]), ROOT, {}),
    "asks for policies": lambda: (Link("own", ROOT, more=[x509.PolicyConstraints(0, None)]), ROOT, {}),
    "a key on secp256k1": lambda: (Link("own", ROOT, ec.generate_private_key(ec.SECP256K1())), ROOT, {}),
    "an RSA key of 1024 bits": lambda: (Link("own", ROOT, rsa.generate_private_key(65537, 1024)), ROOT, {}),
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


@pytest.mark.parametrize("name", ["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"])
def test_a_file_that_is_missing_is_named(tmp_path, name):
    root = Link("root")
    folder = put(tmp_path / "ca", Link("own", root), root)
    (folder / name).unlink()
    with pytest.raises(KeystoreError, match=name):
        opened(folder)


def test_an_intermediate_alone_does_not_become_the_root(tmp_path):
    folder = put(tmp_path / "ca", Link("own", ROOT), ROOT)
    for name in ("cert-chain.pem", "root-cert.pem"):
        (folder / name).unlink()
    with pytest.raises(KeystoreError, match="is no root: CN=root issued it"):
        opened(folder)


@pytest.mark.parametrize(
    "own",
    [
        lambda: Link("own", ROOT, named=False),
        lambda: Link("own", ROOT, purposes=[PURPOSE.SERVER_AUTH, PURPOSE.CLIENT_AUTH]),
        lambda: Link("own", ROOT, permits=[x509.UniformResourceIdentifier(".LOCAL"), x509.DNSName("example.com")]),
        lambda: Link("own", ROOT, ec.generate_private_key(ec.SECP521R1())),
    ],
    ids=["without key identifier", "both purposes", "constraints that leave room", "P-521"],
)
def test_what_proxies_take_is_taken(tmp_path, own):
    key, authority = new_key(), opened(put(tmp_path / "ca", own(), ROOT))
    chain = authority.sign(build_request(key, REVIEWS), REVIEWS)
    assert judge_chain(chain, key, REVIEWS, NOW.timestamp())


def exchange(folder, **files):
    """Put files into the place of others, as a file manager or a sync tool does."""
    for name, data in files.items():
        new = folder / "new"
        new.touch(mode=0o600)
        new.write_bytes(data)
        new.rename(folder / f"{name.replace('_', '-')}.pem")


def test_another_root_comes_in_by_three_exchanges(tmp_path):
    first, second = Link("first"), Link("second")
    folder = put(tmp_path / "ca", Link("own", first), first)
    authority = opened(folder)
    assert not authority.follow()
    generations = [authority.generation]
    exchange(folder, root_cert=first.pem + second.pem)
    assert authority.follow()
    generations.append(authority.generation)
    other = Link("other", second)
    exchange(folder, ca_cert=other.pem, cert_chain=other.pem)
    assert not authority.follow()
    assert "does not belong to the key" in authority.problem
    assert authority.generation == generations[-1]
    exchange(folder, ca_key=bytes(key_pem(other.key)))
    assert authority.follow()
    assert authority.problem == ""
    generations.append(authority.generation)
    exchange(folder, root_cert=second.pem)
    assert authority.follow()
    assert len({*generations, authority.generation}) == 4
    assert authority.root_pem == second.pem
    leaf = x509.load_pem_x509_certificate(authority.sign(build_request(new_key(), REVIEWS), REVIEWS)[0])
    leaf.verify_directly_issued_by(other.certificate)


@pytest.mark.parametrize("said", ["which nobody trusts yet", "which present certificates lead to", "is missing"])
def test_an_exchange_that_would_part_the_mesh_changes_nothing(tmp_path, said):
    first, second = Link("first"), Link("second")
    folder = put(tmp_path / "ca", Link("own", first), first)
    authority = opened(folder)
    before = authority.generation
    if said == "is missing":
        (folder / "root-cert.pem").unlink()
    elif said == "which nobody trusts yet":
        other = Link("other", second)
        files = {"ca_cert": other.pem, "ca_key": bytes(key_pem(other.key)), "cert_chain": other.pem}
        exchange(folder, **files, root_cert=first.pem + second.pem)
    else:
        exchange(folder, root_cert=first.pem + second.pem)
        assert authority.follow()
        before = authority.generation
        other = Link("other", second)
        files = {"ca_cert": other.pem, "ca_key": bytes(key_pem(other.key)), "cert_chain": other.pem}
        exchange(folder, **files, root_cert=second.pem)
    assert not authority.follow()
    assert said in authority.problem
    assert authority.generation == before
    assert authority.sign(build_request(new_key(), REVIEWS), REVIEWS)
