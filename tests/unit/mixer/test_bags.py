"""Who calls, as checks and reports know it: by the certificate, and by the names in it."""

from __future__ import annotations

import pytest
from envoy.data.accesslog.v3 import accesslog_pb2
from envoy.service.auth.v3 import external_auth_pb2
from google.protobuf import wrappers_pb2

from lateen.envoy.check_cache import NOTES
from lateen.envoy.peer import CALLER_STATE
from lateen.mixer.bags import RequestBag
from lateen.mixer.check_bag import CheckBag
from lateen.mixer.report_bag import ReportBag

OWN = "spiffe://cluster.local/ns/default/sa/"
NAMES = "client-v1/client/v1/client/v1"
KNOWN = {
    "cluster.local/default/client-v1": {
        "source.workload.name": "client-v1",
        "source.labels": {"app": "client"},
        "source.serviceAccount": "client",
    }
}


def checked(principal: str, names: str) -> RequestBag:
    request = external_auth_pb2.CheckRequest()
    request.attributes.source.principal = principal
    if names:
        request.attributes.metadata_context.filter_metadata[NOTES].update({"names": names})
    return CheckBag(request, {}, KNOWN)


def reported(principal: str, names: str) -> RequestBag:
    entry = accesslog_pb2.HTTPAccessLogEntry()
    entry.common_properties.tls_properties.peer_certificate_properties.subject_alt_name.add(uri=principal)
    state = wrappers_pb2.StringValue(value=f"{OWN}server {names} {principal}")
    entry.common_properties.filter_state_objects[CALLER_STATE].Pack(state)
    return ReportBag(entry, {}, KNOWN)


@pytest.mark.parametrize("bag", [checked, reported])
@pytest.mark.parametrize(
    ("principal", "names", "workload"),
    [
        (f"{OWN}client", NAMES, "client-v1"),
        (f"{OWN}client", "", None),
        (f"{OWN}client", "other/client/v1/client/v1", None),
        (f"{OWN}another", NAMES, None),
        ("spiffe://elsewhere/ns/default/sa/client", NAMES, None),
        ("spiffe://cluster.local/ns/bank/sa/client", NAMES, None),
    ],
)
def test_names_count_with_the_identity_alone(bag, principal: str, names: str, workload: str | None) -> None:
    found = bag(principal, names)
    assert found.get("source.workload.name") == workload
    assert found.get("source.labels") == ({"app": "client"} if workload else None)
    assert found.get("source.namespace") == principal.split("/")[4]
