"""From what runs to what is wanted."""

from __future__ import annotations

from pathlib import Path

from lateen.local.changes import compare, find_workloads, keep_scale, rescale, wanted_instances
from lateen.local.project import Project
from lateen.local.project_file import read_project


def project(text: str) -> Project:
    found, findings = read_project(text.encode(), str(Path("/x/lateen.yaml")))
    assert found is not None, findings
    return found


TEXT = "services: {a: {command: x, ports: {http: 80}, versions: {v1: , v2: {replicas: 2}}}, b: {command: y}}"
ONE = project(TEXT)


def test_nothing_changed_is_no_change() -> None:
    assert not compare(wanted_instances(ONE), wanted_instances(ONE))


def test_a_count_starts_and_stops_and_touches_nothing_else() -> None:
    changes = compare(wanted_instances(ONE), wanted_instances(rescale(ONE, "a-v2", 3)))
    assert list(changes.start) == ["a-v2-2"]
    assert not (changes.stop or changes.renew or changes.replace)
    assert compare(wanted_instances(ONE), wanted_instances(rescale(ONE, "a-v2", 1))).stop == ("a-v2-1",)


def test_a_command_renews_and_an_identity_replaces() -> None:
    renewed = project(
        "services: {a: {command: x, ports: {http: 80}, versions: {v1: , v2: {replicas: 2}}}, b: {command: z}}"
    )
    assert set(compare(wanted_instances(ONE), wanted_instances(renewed)).renew) == {"b-0"}
    other = project("services: {b: {command: y, service_account: other}}")
    changes = compare(wanted_instances(ONE), wanted_instances(other))
    assert set(changes.replace) == {"b-0"}
    assert set(changes.stop) == {"a-v1-0", "a-v2-0", "a-v2-1"}


def test_a_count_set_by_hand_outlives_edits_of_other_things() -> None:
    scaled = rescale(ONE, "a-v2", 5)
    kept = keep_scale(ONE, scaled, ONE).workload("a-v2")
    assert kept is not None and kept.replicas == 5
    edited = rescale(ONE, "a-v2", 3)
    taken = keep_scale(ONE, scaled, edited).workload("a-v2")
    assert taken is not None and taken.replicas == 3


def test_names_of_workloads() -> None:
    assert [one.name for one in find_workloads(ONE, "a")] == ["a-v1", "a-v2"]
    assert [one.name for one in find_workloads(ONE, "a/v2")] == ["a-v2"]
    assert [one.name for one in find_workloads(ONE, "a-v1")] == ["a-v1"]
    assert find_workloads(ONE, "c") == []
