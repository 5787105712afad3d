"""What has to be done so that the instances that run become the ones that are wanted. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from lateen.local.project import Project, Workload


class Changes(msgspec.Struct, frozen=True):
    """By instance id: ``renew`` restarts the application alone, ``replace`` the whole instance."""

    start: dict[str, Workload] = {}
    stop: tuple[str, ...] = ()
    renew: dict[str, Workload] = {}
    replace: dict[str, Workload] = {}

    def __bool__(self) -> bool:
        return bool(self.start or self.stop or self.renew or self.replace)


def wanted_instances(project: Project) -> dict[str, Workload]:
    """Every instance that a project asks for."""
    return {
        workload.instance_id(index): workload for workload in project.workloads for index in range(workload.replicas)
    }


def compare(running: Mapping[str, Workload], wanted: Mapping[str, Workload]) -> Changes:
    """The way from the one to the other. A workload's replica count alone is no change of its instances."""
    renew, replace = {}, {}
    for instance_id in running.keys() & wanted.keys():
        before, after = _alone(running[instance_id]), _alone(wanted[instance_id])
        if before == after:
            continue
        same_outside = msgspec.structs.replace(before, application=after.application) == after
        if same_outside and before.application is not None and after.application is not None:
            renew[instance_id] = wanted[instance_id]
        else:
            replace[instance_id] = wanted[instance_id]
    return Changes(
        start={name: wanted[name] for name in wanted if name not in running},
        stop=tuple(name for name in running if name not in wanted),
        renew=renew,
        replace=replace,
    )


def _alone(workload: Workload) -> Workload:
    return msgspec.structs.replace(workload, replicas=1)


def rescale(project: Project, workload_name: str, replicas: int) -> Project:
    """The project with another replica count of one workload. Raises LookupError if there is no such workload."""
    workload = project.workload(workload_name)
    if workload is None or workload.is_gateway:
        raise LookupError(f"there is no workload {workload_name}")
    changed = msgspec.structs.replace(workload, replicas=replicas)
    return msgspec.structs.replace(
        project, workloads=tuple(changed if one is workload else one for one in project.workloads)
    )


def keep_scale(before: Project, running: Project, after: Project) -> Project:
    """``after``, but with the count of ``running`` for each workload whose count the file itself did not change."""
    workloads = []
    for workload in after.workloads:
        was, now = before.workload(workload.name), running.workload(workload.name)
        if was is not None and now is not None and was.replicas == workload.replicas:
            workload = msgspec.structs.replace(workload, replicas=now.replicas)
        workloads.append(workload)
    return msgspec.structs.replace(after, workloads=tuple(workloads))


def find_workloads(project: Project, name: str) -> list[Workload]:
    """The workloads that ``SERVICE``, ``SERVICE/VERSION`` or a workload's own name means; gateways are none."""
    service, _, version = name.partition("/")
    found = []
    for workload in project.workloads:
        by_service = workload.service == service and (not version or workload.version == version)
        if not workload.is_gateway and (by_service or workload.name == name):
            found.append(workload)
    return found
