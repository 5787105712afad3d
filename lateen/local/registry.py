"""What the supervisor tells the control plane, as files: instances, services and the tokens of proxies.

Every file is written atomically, so a control plane that starts again, or reads at any moment, sees a whole state.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping

import yaml

from lateen.local.links import Link
from lateen.local.project import Port, Service, Workload
from lateen.local.rundir import RunDir, write_atomically
from lateen.values.protocol import Protocol
from lateen.values.told_names import told_names

SERVICES_FILE = "services.yaml"


class Registry:
    """The folder ``registry/`` and ``tokens.json`` of one run."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._tokens: dict[str, dict[str, str]] = {}

    def publish(self, instance_id: str, workload: Workload, link: Link, ready: bool) -> None:
        """Write the entry of one instance, new or changed."""
        entry = entry_of(instance_id, workload, link, ready)
        write_atomically(self._run.registry / f"{instance_id}.json", json.dumps(entry).encode())

    def withdraw(self, instance_id: str) -> None:
        """Remove the entry of one instance."""
        (self._run.registry / f"{instance_id}.json").unlink(missing_ok=True)

    def publish_services(self, services: tuple[Service, ...]) -> None:
        """Write the services as Kubernetes documents."""
        documents = [service_document(service) for service in services]
        text = yaml.dump_all(documents, Dumper=yaml.CSafeDumper, sort_keys=False)
        write_atomically(self._run.registry / SERVICES_FILE, text.encode())

    def issue_tokens(self, workloads: Mapping[str, Workload]) -> dict[str, str]:
        """A new token for each of these instances, all written at once; returns them by instance."""
        issued = {instance_id: secrets.token_urlsafe(32) for instance_id in workloads}
        for instance_id, token in issued.items():
            workload = workloads[instance_id]
            self._tokens[token] = {
                "id": instance_id,
                "namespace": workload.namespace,
                "service_account": workload.service_account,
                "type": "gateway" if workload.is_gateway else "sidecar",
                "told": told_names(workload.name, dict(workload.labels)),
            }
        self._write_tokens()
        return issued

    def revoke_token(self, token: str) -> None:
        """Forget a token: its proxy is no longer served."""
        if self._tokens.pop(token, None) is not None:
            self._write_tokens()

    def _write_tokens(self) -> None:
        write_atomically(self._run.path / "tokens.json", json.dumps(self._tokens).encode())


def entry_of(instance_id: str, workload: Workload, link: Link, ready: bool) -> dict[str, object]:
    """One instance as ``registry/<id>.json`` holds it."""
    entry: dict[str, object] = {
        "id": instance_id,
        "type": "gateway" if workload.is_gateway else "sidecar",
        "namespace": workload.namespace,
        "workload": workload.name,
        "services": [] if workload.is_gateway or not workload.ports else [workload.service],
        "labels": dict(workload.labels),
        "service_account": workload.service_account,
        "address": link.address,
        "ports": [_port(port) for port in workload.ports],
        "ready": ready,
        "network": dict(link.registry),
    }
    if workload.is_gateway:
        entry["bind"] = workload.bind
    if workload.annotations:
        entry["annotations"] = dict(workload.annotations)
    return entry


def _port(port: Port) -> dict[str, object]:
    return {"name": port.name, "number": port.number, "target": port.target, "protocol": port.protocol.value}


def service_document(service: Service) -> dict[str, object]:
    """One service as a Kubernetes Service."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": service.name, "namespace": service.namespace},
        "spec": {
            "selector": dict(service.selector),
            "ports": [
                {
                    "name": port.name,
                    "port": port.number,
                    "targetPort": port.target,
                    **({} if port.protocol is Protocol.UNSPECIFIED else {"appProtocol": port.protocol.value.lower()}),
                }
                for port in service.ports
            ],
        },
    }
