"""The environment of the processes that a mesh starts. Pure: the supervisor's own environment comes in."""

from __future__ import annotations

from collections.abc import Mapping

from lateen.local.links import Link
from lateen.local.procfs import RUN_ID_VARIABLE
from lateen.local.project import Application, Service, Workload
from lateen.values.proxy_variables import FOR_PROXIES, OTEL_ATTRIBUTES

PROXY_KEEPS = ("PATH", "LANG", "TZ", "TMPDIR", OTEL_ATTRIBUTES)


def application_environment(
    inherited: Mapping[str, str],
    *,
    run_id: str,
    instance_id: str,
    workload: Workload,
    application: Application,
    services: tuple[Service, ...],
    link: Link | None,
) -> dict[str, str]:
    """What an application sees: the inherited environment, facts about itself and its peers, then the user's own.

    PORT is the first port; POD_NAME, POD_NAMESPACE, POD_IP and SERVICE_ACCOUNT are as in a pod; each service of its
    namespace is told as NAME_SERVICE_HOST and NAME_SERVICE_PORT, which the loopback network needs and overrides.
    """
    environment = {name: value for name, value in inherited.items() if not name.startswith("LATEEN_")}
    environment["PYTHONUNBUFFERED"] = environment.get("PYTHONUNBUFFERED", "1")
    for service in services:
        if service.namespace == workload.namespace and service.ports:
            prefix = service.name.upper().replace("-", "_")
            environment[f"{prefix}_SERVICE_HOST"] = service.name
            environment[f"{prefix}_SERVICE_PORT"] = str(service.ports[0].number)
    if workload.ports:
        environment["PORT"] = str(workload.ports[0].target)
    environment["POD_NAME"] = instance_id
    environment["POD_NAMESPACE"] = workload.namespace
    environment["SERVICE_ACCOUNT"] = workload.service_account
    if link is not None:
        environment["POD_IP"] = link.address
        environment.update(link.app_environment)
    environment.update(dict(application.environment))
    environment[RUN_ID_VARIABLE] = run_id
    return environment


def proxy_environment(inherited: Mapping[str, str], run_id: str) -> dict[str, str]:
    """What an Envoy sees: next to nothing, so that no variable of the user's changes what it does.

    Those that begin with LATEEN_PROXY_ are meant for it: tags of traces and headers of providers may name them.
    """
    kept = {name: value for name, value in inherited.items() if name in PROXY_KEEPS or name.startswith(FOR_PROXIES)}
    return {**kept, RUN_ID_VARIABLE: run_id}


def control_environment(inherited: Mapping[str, str], run_id: str) -> dict[str, str]:
    """What the control plane sees. gRPC's library is not to log whatever strangers send."""
    own = {"PYTHONUNBUFFERED": "1", "GRPC_VERBOSITY": inherited.get("GRPC_VERBOSITY", "NONE")}
    return {**inherited, **own, RUN_ID_VARIABLE: run_id}
