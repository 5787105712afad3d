"""Labels of metrics that are packed into one, and taken apart again."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from lateen.values.packed_labels import PACKED, counted, packed, whole
from lateen.values.told_names import FIELDS, escaped, joined, names_in, parted, told_names

NAMES = st.from_regex(r"l[a-z_]{0,5}", fullmatch=True)
VALUES = st.text(st.sampled_from('abz~;=,/{}"\\ 01é%'), max_size=8)
CLIENT = "spiffe://cluster.local/ns/shop/sa/till"
SERVER = "spiffe://cluster.local/ns/bank/sa/vault"


def _written(value: str) -> str:
    """A label's value as Prometheus writes it, which is JSON's way for these characters."""
    return json.dumps(value, ensure_ascii=False)


def _sample(labels: dict[str, str]) -> str:
    return "up{" + ",".join(f"{name}={_written(value)}" for name, value in labels.items()) + "} 1\n"


def _labels(value: str) -> dict[str, str]:
    """The labels that a packed value stands for."""
    text = whole(_sample({PACKED: value}).encode()).decode()
    return dict(pair.split("=", 1) for pair in text[3:-4].replace('"', "").split(","))


@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=4), VALUES)
def test_what_is_packed_is_whole_again(labels: dict[str, str], other: str) -> None:
    text = _sample({"First": other, PACKED: packed(labels.items()), "Last": other})
    assert whole(text.encode()).decode() == _sample({"First": other, "Last": other, **dict(sorted(labels.items()))})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (f'{PACKED}="reporter=source app=till"', f'app="till",{PACKED}="reporter=source"'),
        (f'{PACKED}="caller={SERVER} a////a {CLIENT}"', f'{PACKED}="caller={SERVER} ~61////~61 {CLIENT}"'),
    ],
    ids=["a Telemetry came or went", "names written in two ways"],
)
@pytest.mark.parametrize("limit", ["", ',le="5"', ',le="+Inf"'])
def test_samples_of_one_series_are_added_up(one: str, other: str, limit: str) -> None:
    text = f"# TYPE up counter\nup{{{one}{limit}}} 1\nup{{{other}{limit}}} 0.5\n"
    kind, line, end = whole(text.encode()).decode().split("\n")
    assert (kind, end) == ("# TYPE up counter", "")
    assert line.endswith(f"{limit}}} 1.5")


def test_buckets_of_a_histogram_stay_apart() -> None:
    text = "".join(f'a_bucket{{{PACKED}="b=c",le="{limit}"}} {limit}\n' for limit in (1, 2, 3)).encode()
    assert whole(text) == text.replace(f'{PACKED}="b=c"'.encode(), b'b="c"')


COUNT = "envoy_istio_request_duration_milliseconds_count"
TOTAL = "envoy_istio_requests_total"


def test_requests_are_counted_by_their_durations() -> None:
    form = counted(packed([("code", "200")]))
    durations = f'{COUNT}{{{PACKED}="{form}"}} 3\n{COUNT}{{own="x",{PACKED}="{form}"}} 4\n'
    told = f'{COUNT}{{code="200"}} 3\n{COUNT}{{code="200",own="x"}} 4\n'
    assert whole(durations.encode()).decode() == (
        f'# TYPE {TOTAL} counter\n{TOTAL}{{code="200"}} 3\n{TOTAL}{{code="200",own="x"}} 4\n{told}'
    )


def test_what_counters_and_durations_have_counted_is_one_family() -> None:
    form = packed([("code", "200")])
    there = f'a 1\n# TYPE {TOTAL} counter\n{TOTAL}{{{PACKED}="{form}"}} 5\nb 1\n'
    durations = f'{COUNT}{{{PACKED}="{counted(form)}"}} 3\n{COUNT}{{{PACKED}="{counted(form)} x=y"}} 1\n'
    found = whole((there + durations + f'{COUNT}{{{PACKED}="{form}"}} 2').encode()).decode().split("\n")
    assert found[:4] == ["a 1", f"# TYPE {TOTAL} counter", f'{TOTAL}{{code="200",x="y"}} 1', f'{TOTAL}{{code="200"}} 8']
    assert found[4:] == ["b 1", f'{COUNT}{{code="200"}} 5', f'{COUNT}{{code="200",x="y"}} 1']


def test_durations_of_other_labels_count_no_requests() -> None:
    other = _written(f'{PACKED}="requests= a=b"')
    for labels in (f'{PACKED}="code=200"', f"x={other}", f'x_{PACKED}="requests= a=b"', f'x={other},{PACKED}="c=d"'):
        assert TOTAL not in whole(f"{COUNT}{{{labels}}} 3\n".encode()).decode()


def test_the_text_is_utf_8_whatever_a_label_holds() -> None:
    assert whole(b'a{b="\xff"} 1\n') == 'a{b="\ufffd"} 1\n'.encode()
    assert whole(f'a{{b="\r\x85",{PACKED}="c="}} 1\n'.encode()) == 'a{b="\r\x85",c=""} 1\n'.encode()


def test_a_namespace_is_quoted_once() -> None:
    peer = 'spiffe://elsewhere/ns/a"b/sa/z'
    labels = whole(_sample({PACKED: f"caller={SERVER}  {peer}"}).encode()).decode()
    assert r'source_workload_namespace="a\"b"' in labels


def test_values_that_look_like_a_packed_label_stay() -> None:
    text = _sample({"first": f',{PACKED}="a=b"', f"x_{PACKED}": "a=b"}).encode()
    assert whole(text) == text


def test_a_caller_is_told_by_its_certificate() -> None:
    names = told_names("till-v1", {"app": "till", "version": "v1"})
    found = _labels(f"reporter=destination response_code=200 caller={SERVER} {names} {CLIENT}")
    assert found == {
        "reporter": "destination",
        "response_code": "200",
        "destination_principal": SERVER,
        "source_principal": CLIENT,
        "source_workload_namespace": "shop",
        "source_workload": "till-v1",
        "source_app": "till",
        "source_version": "v1",
        "source_canonical_service": "till",
        "source_canonical_revision": "v1",
    }


@pytest.mark.parametrize("caller", ["", "-", f"{SERVER}  ", f"{SERVER} /// {CLIENT}"])
def test_a_caller_without_a_name_is_unknown(caller: str) -> None:
    found = _labels(f"caller={caller}")
    assert {found[f"source_{field}"] for field in FIELDS} == {"unknown"}
    assert found["source_principal"] in ("unknown", CLIENT)


def test_a_strange_certificate_changes_no_other_label() -> None:
    forged = f"spiffe://elsewhere/ns/x y/sa/z reporter=source caller=a b {CLIENT}"
    found = _labels(f"reporter=destination caller={SERVER}  {forged}")
    assert (found["reporter"], found["source_principal"]) == ("destination", forged)
    assert found["source_workload"] == "unknown"


def test_a_client_knows_whom_it_calls() -> None:
    member = joined(("bank", "vault-v2", "vault", "v2", "vault", "v2"))
    service = joined(("vault.bank.svc.cluster.local", "vault", "bank"))
    found = _labels(f"called={service}/{member} cluster=outbound own={CLIENT} server={SERVER}")
    assert found["destination_service"] == "vault.bank.svc.cluster.local"
    assert (found["destination_service_name"], found["destination_service_namespace"]) == ("vault", "bank")
    assert (found["destination_workload"], found["destination_version"]) == ("vault-v2", "v2")
    assert (found["source_principal"], found["destination_principal"]) == (CLIENT, SERVER)


def test_a_client_that_reached_no_member_knows_the_service() -> None:
    found = _labels("called=vault.bank/vault/bank cluster=outbound own= server=")
    assert (found["destination_service"], found["destination_service_name"]) == ("vault.bank", "vault")
    assert {found["destination_workload"], found["destination_principal"]} == {"unknown"}


def test_what_there_is_nothing_behind_is_unknown() -> None:
    found = _labels("called=unknown cluster= own= server=")
    assert set(found.values()) == {"unknown"}


def test_what_no_service_is_behind_is_told_by_its_host() -> None:
    found = _labels("called=example.org:80 cluster=PassthroughCluster own=- server=-")
    assert found["destination_service"] == "example.org:80"
    assert (found["destination_service_name"], found["destination_service_namespace"]) == (
        "PassthroughCluster",
        "unknown",
    )
    assert {found["destination_workload"], found["source_principal"], found["destination_principal"]} == {"unknown"}


def test_only_grpc_has_a_status() -> None:
    assert _labels("grpc=14 caller=")["grpc_response_status"] == "14"
    assert _labels("grpc=14 caller=")["request_protocol"] == "grpc"
    assert _labels("grpc= caller=")["request_protocol"] == "http"
    assert "grpc_response_status" not in _labels("grpc= caller=")


@given(st.tuples(VALUES, VALUES, VALUES))
def test_names_that_were_joined_are_parted_again(parts: tuple[str, ...]) -> None:
    assert parted(joined(parts)) == parts
    assert not set(escaped("".join(parts))) & set(' "\\/%;,')


def test_labels_that_are_too_long_for_a_certificate_are_not_told() -> None:
    assert names_in(told_names("a" * 253, {"app": "b" * 63}))["app"] == "b" * 63
    assert names_in(told_names("till", {"app": "é" * 253})) == {"workload": "till"}
    assert told_names("é" * 253, {}) == ""


def test_another_text_has_no_names() -> None:
    assert names_in("till") == names_in("") == {}
