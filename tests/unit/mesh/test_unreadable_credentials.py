"""A certificate or key that nobody can read is told, and the mesh goes on: its resource is no good, and no other."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from lateen.control.store import ResourceStore
from lateen.identity.certificate import build_root, key_pem, new_key
from lateen.mesh.credentials import BadCredential, serving_bundle, serving_pair
from lateen.mesh.federation import federation
from lateen.resources.mesh_config import CaCertificate, MeshConfigSpec
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

SPELLED_OUT = b"""
-----BEGIN CERTIFICATE-----
MIIChzCCAi2gAwIBAgIUf2ylGWUSpv1HRs4rHXT08GrOi7wwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJeC5leGFtcGxlMB4XDTI2MTEzMDIyMjYyOFoXDTI2MTIzMDIy
MjYyOFowFDESMBAGA1UEAwwJeC5leGFtcGxlMIIBSzCCAQMGByqGSM49AgEwgfcC
AQEwLAYHKoZIzj0BAQIhAP////8AAAABAAAAAAAAAAAAAAAA////////////////
MFsEIP////8AAAABAAAAAAAAAAAAAAAA///////////////8BCBaxjXYqjqT57Pr
vVV2mIa8ZR0GsMxTsPY7zjw+J9JgSwMVAMSdNgiG5wSTamZ44ROdJreBn36QBEEE
axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54W
K84zV2sxXs7LtkBoN79R9QIhAP////8AAAAA//////////+85vqtpxeehPO5ysL8
YyVRAgEBA0IABBC/D7lqJHCifyDdZQtE1ZKP43Eaf/JIPlxBhSnnixQuxy7Wqume
b3Yf8E0PB6GveLRAJQmzK18YP8WYB6kZMGmjaTBnMB0GA1UdDgQWBBR1PFLcKd9q
P/dhA4VqFbrJcLk7rjAfBgNVHSMEGDAWgBR1PFLcKd9qP/dhA4VqFbrJcLk7rjAP
BgNVHRMBAf8EBTADAQH/MBQGA1UdEQQNMAuCCXguZXhhbXBsZTAKBggqhkjOPQQD
AgNIADBFAiEAq2yxsabsR6h7rUh7LKheBHdB2wL3I+K/u/lfOi+WAM0CIBhmiHlo
7w8XA0x3VNOM/3KwqIOBCG0FNdHUzl1+Zqx7
-----END CERTIFICATE-----
"""
"""A certificate whose key has the numbers of its curve in place of the name."""
SPELLED_OUT_KEY = b"""
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgiLjivdMFcVdwoNI9
aCsfzBFaLWQDTzLhLym3lQBn6cWhRANCAAQQvw+5aiRwon8g3WULRNWSj+NxGn/y
SD5cQYUp54sULscu1qrpnm92H/BNDwehr3i0QCUJsytfGD/FmAepGTBp
-----END PRIVATE KEY-----
"""


def pem(encoded):
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(encoded) + b"-----END CERTIFICATE-----\n"


@pytest.mark.parametrize("odd", ODD)
def test_a_certificate_that_cannot_be_read_is_told(odd):
    assert ODD[odd] != WHOLE
    with pytest.raises(BadCredential):
        serving_pair(pem(ODD[odd]), bytes(key_pem(KEY)))


@pytest.mark.parametrize("odd", ["a version that there is not", "an extension twice", "cut off"])
def test_roots_that_cannot_be_read_are_told(odd):
    with pytest.raises(BadCredential, match="its roots are not PEM that can be read"):
        serving_bundle(pem(ODD[odd]), b"")


def test_a_key_of_a_kind_that_nobody_knows_is_told():
    lines = bytes(key_pem(KEY)).splitlines()
    encoded = base64.b64decode(b"".join(lines[1:-1])).replace(P256, P256[:-1] + b"\x63")
    odd = b"\n".join([lines[0], base64.b64encode(encoded), lines[-1], b""])
    with pytest.raises(BadCredential, match="its key is not PEM that can be read"):
        serving_pair(pem(WHOLE), odd)


def test_keys_that_the_proxy_does_not_take_are_told():
    plain = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_numbers()
    exponent = 2**34 + 25  # a prime, so that it fits the primes of the key
    private = pow(exponent, -1, (plain.p - 1) * (plain.q - 1))
    numbers = rsa.RSAPrivateNumbers(
        plain.p,
        plain.q,
        private,
        rsa.rsa_crt_dmp1(private, plain.p),
        rsa.rsa_crt_dmq1(private, plain.q),
        rsa.rsa_crt_iqmp(plain.p, plain.q),
        rsa.RSAPublicNumbers(exponent, plain.public_numbers.n),
    )
    key = numbers.private_key()
    with pytest.raises(BadCredential, match="the exponent of its RSA key"):
        serving_pair(build_root(key, "cluster.local", NOW).public_bytes(Encoding.PEM), bytes(key_pem(key)))
    with pytest.raises(BadCredential, match="of a kind that the proxy does not take"):
        serving_pair(SPELLED_OUT, SPELLED_OUT_KEY)


def test_roots_of_others_are_written_as_proxies_read_them():
    indented = b"\xef\xbb\xbf" + b"\n".join(b"  " + line for line in pem(WHOLE).splitlines())
    config = MeshConfigSpec(ca_certificates=(CaCertificate(pem=indented.decode()),))
    assert federation(config, ("cluster.local",)).own.encode() == load_pem_x509_certificate(pem(WHOLE)).public_bytes(
        Encoding.PEM
    )


@pytest.mark.parametrize("odd", ["a version that there is not", "an extension twice", "cut off"])
def test_roots_of_others_that_cannot_be_read_are_told(odd):
    config = {"kind": "MeshConfig", "caCertificates": [{"pem": pem(ODD[odd]).decode()}]}
    store = ResourceStore("default", mesh_configs=["mesh.yaml"])
    store.apply(FileEvent("mesh.yaml", json.dumps(config).encode()))
    assert any("no certificate of an authority" in finding.message for finding in store.findings())
