"""What is looked at before anything is started: whether the gateways' ports are free on this machine."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterable

from lateen.findings import Finding, error
from lateen.local.project import Port, Project, Workload
from lateen.local.rundir import RunDir

TAKEN = "it is taken"
NOT_ALLOWED = "this user may not listen on it"


def taken_ports(project: Project, others: Iterable[RunDir]) -> list[Finding]:
    """One finding for each port of a gateway that cannot be listened on, saying who has it where that is known."""
    neighbours = list(others)
    findings = []
    for gateway in project.gateways:
        for port in gateway.ports:
            problem = bind_problem(gateway.bind, port.target)
            if problem:
                findings.append(port_finding(project, gateway, port, problem, neighbours))
    return findings


def bind_problem(address: str, port: int) -> str:
    """Why nobody can listen there, in words; empty if all is well."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except PermissionError:
            return NOT_ALLOWED
        except OSError as problem:
            return TAKEN if problem.errno == errno.EADDRINUSE else str(problem.strerror or problem)
    return ""


def port_finding(project: Project, gateway: Workload, port: Port, problem: str, others: Iterable[RunDir]) -> Finding:
    """The finding for one port that nobody can listen on for this ``bind_problem``."""
    where = f"{gateway.bind}:{port.target}"
    origin = project.origin_of_port(gateway, port)
    message = f"the gateway {gateway.name} cannot have {where}: {problem}"
    if problem == NOT_ALLOWED:
        remedy = (
            f"use a port from 1024 on, such as {port.target + 8000}, or let ordinary users listen on it: "
            f"sysctl net.ipv4.ip_unprivileged_port_start={port.target}"
        )
        return error("port-not-allowed", message, origin, remedy)
    if problem != TAKEN:
        return error("port-not-free", message, origin, "give bind an address of this machine: 127.0.0.1 or 0.0.0.0")
    holder = _mesh_with(where, others) or _process_with(port.target)
    if holder:
        message += f" by {holder}"
    return error("port-taken", message, origin, "give the gateway another port, or stop what has it")


def _mesh_with(where: str, others: Iterable[RunDir]) -> str:
    for run in others:
        record = run.read_record() if run.is_held() else None
        if record is not None and any(address == where for _, address in record.gateways):
            return f"the mesh {record.name} (stop it by: lateen down {record.name})"
    return ""


def _process_with(port: int) -> str:
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp4"):
            listens = connection.status == psutil.CONN_LISTEN and getattr(connection.laddr, "port", 0) == port
            if listens and connection.pid:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
    return ""
