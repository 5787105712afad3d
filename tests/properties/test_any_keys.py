"""Whatever stands where keys are expected, checks and planning go on, and no token is taken that should not be."""

from __future__ import annotations

import json
from typing import Any

import yaml
from hypothesis import given, strategies as st

from lateen.control.coordinator import Coordinator
from lateen.envoy.resources import LISTENER, EnvoyResources
from lateen.mesh.model import Workload, WorkloadPort
from lateen.resources.decode import decode
from lateen.resources.documents import parse_documents
from lateen.resources.key_set import KeySetError, read_key_set
from lateen.resources.validate import validate_resource
from lateen.settings import Settings
from lateen.values.protocol import Protocol
from tests.envoy.token_support import Issuer
from tests.properties.length import examples

KEYS = [Issuer("i", algorithm).members for algorithm in ("RS256", "ES256", "EdDSA")]
MEMBERS = ("kty", "kid", "alg", "use", "key_ops", "n", "e", "crv", "x", "y", "d", "k", "keys")
NAMES = st.sampled_from(MEMBERS) | st.text()
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
ANY = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(MEMBERS) | st.text(), inner, max_size=6)
    ),
    max_leaves=12,
)
WORDS = st.sampled_from(
    ("RSA", "EC", "OKP", "oct", "P-256", "Ed25519", "RS256", "ES256", "HS256", "sig", "AQAB", "==", "")
)


@st.composite
def nearly_a_key(draw: st.DrawFn) -> dict[str, Any]:
    key: dict[str, Any] = dict(draw(st.sampled_from(KEYS)))
    return {**key, **draw(st.dictionaries(st.sampled_from(MEMBERS), ANY | WORDS, max_size=2))}


TEXTS = st.one_of(
    ANY.map(json.dumps),
    st.text(max_size=50),
    st.fixed_dictionaries({"keys": st.lists(nearly_a_key() | ANY, max_size=3)}).map(json.dumps),
    nearly_a_key().map(json.dumps),
)
PORTS = (WorkloadPort("http", 80, 80, Protocol.HTTP),)
WORKLOAD = Workload("a-0", "default", "a", (), "a", "127.0.0.1", ports=PORTS, ready=True)


@given(TEXTS)
@examples(150, 3000)
def test_any_text_as_keys_is_judged_and_planned(text: str) -> None:
    document = {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {"jwtRules": [{"issuer": "i", "jwks": text}]},
    }
    documents, findings = parse_documents(yaml.safe_dump(document).encode(), "file.yaml")
    assert not findings
    resource, problems = decode(documents[0], "default")
    assert resource is not None, problems
    refused = any(finding.is_error for finding in validate_resource(resource))
    published: dict[str, EnvoyResources | None] = {}
    coordinator = Coordinator(Settings(), published.__setitem__)
    coordinator.update((resource,), [WORKLOAD])
    assert not any(finding.code == "internal-error" for finding in coordinator.findings)
    made = published[WORKLOAD.id]
    assert made is not None
    bodies = b"".join(listener.body for listener in made.by_type[LISTENER].values())
    assert (b"keys-not-known" in bodies) == (refused or not text)
    try:
        found = read_key_set(text, alone=True)
    except KeySetError:
        return
    again = read_key_set(found.text)
    assert (again.text, again.dropped, again.is_private) == (found.text, (), False)
    assert all(key["kty"] in ("RSA", "EC", "OKP") for key in json.loads(found.text)["keys"])
