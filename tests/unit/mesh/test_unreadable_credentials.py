"""A certificate or key that nobody can read is told, and the mesh goes on: its resource is no good, and no other."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from lateen.control.store import ResourceStore
from lateen.identity.certificate import build_root, key_pem, new_key
from lateen.mesh.credentials import bundle_problem, certificate_problem
from lateen.sources.files import FileEvent
from tests.unit.identity.names import NOW

KEY = new_key()
WHOLE = build_root(KEY, "cluster.local", NOW).public_bytes(Encoding.DER)
P256 = bytes.fromhex("2a8648ce3d030107")
ODD = {
    "another curve": WHOLE.replace(P256, P256[:-1] + b"\x63"),
    "another kind of key": WHOLE.replace(bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2a8648ce3d0263")),
    "a version that there is not": WHOLE.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x63"),
    "an extension twice": WHOLE.replace(bytes.fromhex("0603551d0e"), bytes.fromhex("0603551d0f")),
    "cut off": WHOLE[:-1],
}


def pem(encoded):
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(encoded) + b"-----END CERTIFICATE-----\n"


@pytest.mark.parametrize("odd", ODD)
def test_a_certificate_that_cannot_be_read_is_told(odd):
    assert ODD[odd] != WHOLE
    told = certificate_problem(pem(ODD[odd]), bytes(key_pem(KEY)))
    assert bool(told) == (odd != "an extension twice")  # a proxy tells that
    assert isinstance(bundle_problem(pem(ODD[odd]), b""), str)


def test_a_key_of_a_kind_that_nobody_knows_is_told():
    lines = bytes(key_pem(KEY)).splitlines()
    encoded = base64.b64decode(b"".join(lines[1:-1])).replace(P256, P256[:-1] + b"\x63")
    odd = b"\n".join([lines[0], base64.b64encode(encoded), lines[-1], b""])
    assert "its key is not PEM that can be read" in certificate_problem(pem(WHOLE), odd)


@pytest.mark.parametrize("odd", ["a version that there is not", "an extension twice", "cut off"])
def test_roots_of_others_that_cannot_be_read_are_told(odd):
    config = {"kind": "MeshConfig", "caCertificates": [{"pem": pem(ODD[odd]).decode()}]}
    store = ResourceStore("default", mesh_configs=["mesh.yaml"])
    store.apply(FileEvent("mesh.yaml", json.dumps(config).encode()))
    assert any("no certificate of an authority" in finding.message for finding in store.findings())
