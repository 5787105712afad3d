"""What annotations of a workload say of checks there."""

from __future__ import annotations

import pytest

from lateen.control.mixer_placing import placed
from lateen.mesh.model import WorkloadPort
from lateen.plan.mixer.policy import BASE_WAIT, CHECK, MAX_WAIT, RETRIES, BadAnnotation, policy_of
from lateen.values.protocol import Protocol
from tests.unit.plan.building import snapshot, workload


@pytest.mark.parametrize(
    ("mode", "mesh", "wanted"),
    [
        ("", (False, False), (True, False)),
        ("", (False, True), (True, True)),
        ("", (True, False), (False, False)),
        ("enable", (True, True), (True, False)),
        ("disable", (False, False), (False, False)),
        ("allow-on-error", (True, False), (True, True)),
    ],
)
def test_a_workload_says_it_otherwise_than_the_mesh(
    mode: str, mesh: tuple[bool, bool], wanted: tuple[bool, bool]
) -> None:
    disabled, fail_open = mesh
    policy = policy_of({CHECK: mode} if mode else {}, disabled=disabled, fail_open=fail_open)
    assert (policy.checked, policy.fail_open) == wanted


def test_retries_wait_longer_each_time_up_to_a_bound() -> None:
    assert policy_of({}).patience == 0
    policy = policy_of({RETRIES: "4", BASE_WAIT: "100ms", MAX_WAIT: "0.3s"})
    assert policy.patience == pytest.approx(0.1 + 0.2 + 0.3 + 0.3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (CHECK, "yes"),
        (CHECK, "Enable"),
        (RETRIES, "-1"),
        (RETRIES, "11"),
        (RETRIES, "1.5"),
        (RETRIES, "\u0663"),
        (BASE_WAIT, "80"),
        (BASE_WAIT, "0s"),
        (BASE_WAIT, "2s"),
        (MAX_WAIT, "1h"),
    ],
)
def test_a_value_that_cannot_be_is_told(name: str, value: str) -> None:
    with pytest.raises(BadAnnotation) as told:
        policy_of({name: value})
    assert told.value.name == name
    assert told.value.remedy


def test_the_mode_that_is_near_is_told() -> None:
    with pytest.raises(BadAnnotation) as told:
        policy_of({CHECK: "disabled"})
    assert told.value.remedy == "did you mean disable?"


REPORTING = """
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {name: log}
spec: {compiledAdapter: stdio}
---
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {name: entry}
spec: {compiledTemplate: logentry}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: logs}
spec: {actions: [{handler: log, instances: [entry]}]}
---
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
disableMixerHttpReports: %s
"""


@pytest.mark.parametrize("disabled", [False, True])
def test_reports_of_requests_may_be_switched_off(disabled: bool) -> None:
    ports = (WorkloadPort("http", 80, 80, Protocol.HTTP), WorkloadPort("tcp", 81, 81, Protocol.TCP))
    found = snapshot(REPORTING % str(disabled).lower(), workload("a", ports=ports))
    told = {one.port: (one.where, one.why) for one in placed(found)}
    assert told[81][0] == "mixer"
    assert told[80] == (("nowhere", "reports of requests are switched off") if disabled else told[81])
