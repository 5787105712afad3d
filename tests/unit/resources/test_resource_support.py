"""What is not done yet is refused, so that nothing is accepted and ignored."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import inspect

from lateen.resources.decode import decode
from lateen.resources.documents import parse_documents
from lateen.resources.judge import judge
from lateen.resources.registry import KINDS
from lateen.resources.support import UNSUPPORTED, check_support

GATEWAY = (
    "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a}\nspec:\n  servers:\n  - hosts: [a.b]\n"
)


def _refused(text: str) -> list[tuple[str, str]]:
    (document,), _ = parse_documents(text.encode(), "file.yaml")
    resource, findings = decode(document)
    assert resource is not None, findings
    return [(finding.code, finding.origin.field) for finding in check_support(resource)]


def _shapes(wanted: inspect.Type, shape: str) -> set[str]:
    if isinstance(wanted, inspect.UnionType):
        return set().union(*(_shapes(one, shape) for one in wanted.types))
    if isinstance(wanted, inspect.VarTupleType):
        return _shapes(wanted.item_type, f"{shape}[]")
    if isinstance(wanted, inspect.DictType):
        return _shapes(wanted.value_type, f"{shape}{{}}")
    found: set[str] = set()
    for field in wanted.fields if isinstance(wanted, inspect.StructType) else ():
        below = f"{shape}.{field.encode_name}" if shape else field.encode_name
        found |= {below} | _shapes(field.type, below)
    return found


@pytest.mark.parametrize("kind", sorted(UNSUPPORTED))
def test_every_refused_field_exists(kind: str) -> None:
    struct: type[msgspec.Struct] = next(entry.struct for entry in KINDS if entry.name == kind)
    assert UNSUPPORTED[kind] <= _shapes(inspect.type_info(struct), "")


def test_refused_fields_are_told_where_they_stand() -> None:
    text = (
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec:\n  host: a\n"
        "  trafficPolicy:\n    loadBalancer: {simple: RANDOM, zoneAwareLbSetting: {enabled: true}}\n"
    )
    assert _refused(text) == [
        ("unsupported-field", "spec.trafficPolicy.loadBalancer.zoneAwareLbSetting"),
    ]


@pytest.mark.parametrize(
    ("server", "refused"),
    [
        ("    port: {number: 80, protocol: HTTP, name: x}\n", []),
        ("    port: {number: 80, protocol: UDP, name: x}\n", ["spec.servers[0].port.protocol"]),
        (
            "    port: {number: 80, protocol: HTTPS, name: x}\n    tls: {mode: SIMPLE, credentialName: other/y}\n",
            ["spec.servers[0].tls"],
        ),
        (
            "    port: {number: 80, protocol: HTTPS, name: x}\n    tls: {mode: SIMPLE, credentialName: sds://y}\n",
            ["spec.servers[0].tls"],
        ),
    ],
)
def test_gateways(server: str, refused: list[str]) -> None:
    assert [field for _, field in _refused(GATEWAY + server)] == refused


def test_kinds_that_are_not_done_are_refused_as_a_whole() -> None:
    text = "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: a}\n"
    assert _refused(text) == [("unsupported-kind", "kind")]


def test_judging_files_warns_of_it_only_when_asked() -> None:
    data = (GATEWAY + "    port: {number: 80, protocol: HTTP, name: x}\n    defaultEndpoint: 127.0.0.1:1\n").encode()
    assert judge(data, "file.yaml")[0].findings == ()
    (finding,) = judge(data, "file.yaml", with_support=True)[0].findings
    assert (finding.code, finding.is_error) == ("unsupported-field", False)


def test_a_proxy_config_is_told_which_of_its_fields_change_nothing() -> None:
    text = "apiVersion: networking.istio.io/v1beta1\nkind: ProxyConfig\nmetadata: {name: a}\n"
    text += "spec: {concurrency: 2, image: {imageType: debug}, environmentVariables: {A: b}}\n"
    assert _refused(text) == [("without-effect", f"spec.{name}") for name in ("environmentVariables", "image")]


def test_a_redirect_that_envoy_does_not_have_is_refused() -> None:
    text = (
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\n"
        "spec: {hosts: [a.example], http: [{redirect: {uri: /x, redirectCode: %d}}]}\n"
    )
    assert _refused(text % 304) == [("unsupported-field", "spec.http[0].redirect.redirectCode")]
    assert _refused(text % 308) == []
