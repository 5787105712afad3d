"""What is read of a resource is all that it says: written out again and read anew, it is the same."""

from __future__ import annotations

import json

import msgspec
import pytest

from lateen.resources.base import Duration
from lateen.resources.decode import decode
from lateen.resources.documents import parse_documents
from lateen.resources.registry import BARE, KINDS
from lateen.resources.resource import Resource
from tests.golden.fields.golden import cases, resources_of


def written(resource: Resource) -> bytes:
    """A resource as JSON."""
    kind = next(kind for kind in KINDS if kind.name == resource.key.kind)
    spec = msgspec.to_builtins(resource.spec, enc_hook=_scalar)
    head = {"apiVersion": f"{kind.group}/{kind.versions[0]}".lstrip("/"), "kind": kind.name}
    metadata = {
        "name": resource.key.name,
        "namespace": resource.key.namespace,
        "labels": dict(resource.labels),
        "annotations": dict(resource.annotations),
    }
    if kind.name in BARE:
        return json.dumps(head | spec).encode()
    return json.dumps(head | {"metadata": metadata} | (spec if kind.flat else {"spec": spec})).encode()


def _scalar(value: object) -> str:
    assert isinstance(value, Duration)
    return f"{float(value):.9f}s"


@pytest.mark.parametrize("case", cases())
def test_what_is_read_can_be_written_and_read_again(case: str) -> None:
    for resource in resources_of(case)[1]:
        documents, findings = parse_documents(written(resource), "again.json")
        assert not findings
        again, problems = decode(documents[0])
        assert again is not None, problems
        assert (again.key, again.spec) == (resource.key, resource.spec)
        assert (again.labels, again.annotations) == (resource.labels, resource.annotations)
