"""AuthorizationPolicies of cases from outside the project as filters: ours, and the expected ones.

Comes in: a case, with the ``folder`` that it stands in. Goes out: ``Filter`` values, which say what is compared, and
each term of their rules by itself. Addresses of peers are moved into 127.0.0.0/8, as they have to be real.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml
from envoy.config.rbac.v3 import rbac_pb2
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.network.ext_authz.v3 import ext_authz_pb2 as network_ext_authz_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_pb2
from envoy.extensions.path.match.uri_template.v3 import uri_template_match_pb2  # noqa: F401 - read by its name
from google.protobuf import any_pb2, json_format
from msgspec.structs import replace

from lateen.envoy import external, rbac
from lateen.mesh.build import build_snapshot
from lateen.plan.access.model import AccessPolicy
from lateen.plan.access.rules import ASKING, access_policy
from lateen.resources.decode import decode
from lateen.resources.documents import parse_documents
from lateen.resources.resource import Resource
from lateen.settings import Settings

KINDS = (http_rbac_pb2.RBAC, network_rbac_pb2.RBAC, ext_authz_pb2.ExtAuthz, network_ext_authz_pb2.ExtAuthz)


def moved(address: str) -> str:
    """An address or block in 127.0.0.0/8 that stands for this one."""
    return re.sub(r"^\d+\.", "127.", address)


def policies(case: dict[str, Any]) -> list[dict[str, Any]]:
    """The policies, with addresses of peers where peers of a test can be."""
    text = (case["folder"] / "in.yaml").read_text()
    found = [policy for policy in yaml.safe_load_all(text) if policy]
    for policy in found:
        for rule in policy["spec"].get("rules") or ():
            for entry in rule.get("from") or ():
                for field in ("ipBlocks", "notIpBlocks"):
                    if field in entry["source"]:
                        entry["source"][field] = [moved(block) for block in entry["source"][field]]
            for when in rule.get("when") or ():
                if when["key"] == "source.ip":
                    for field in when.keys() - {"key"}:
                        when[field] = [moved(block) for block in when[field]]
    return found


def ours(case: dict[str, Any], policies: list[dict[str, Any]]) -> AccessPolicy:
    """What our planner makes of a case: of CUSTOM alone, or of all else."""
    documents = list(policies)
    config = {"kind": "MeshConfig", "trustDomainAliases": case.get("trustDomainAliases") or []}
    if "meshConfig" in case:
        config.update(yaml.safe_load((case["folder"] / case["meshConfig"]).read_text()))
    documents.append(config)
    for service in case.get("services") or ():
        namespace, host = service.split("/")
        ports = [{"name": "grpc", "number": 9000, "protocol": "GRPC"}]
        spec = {"hosts": [host], "ports": ports, "resolution": "STATIC"}
        metadata = {"name": "service", "namespace": namespace}
        head = {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": metadata}
        documents.append({**head, "spec": spec})
    parsed, findings = parse_documents(yaml.safe_dump_all(documents).encode(), "in.yaml")
    assert not findings
    resources: list[Resource] = []
    for document in parsed:
        resource, problems = decode(document)
        assert resource is not None, problems
        resources.append(resource)
    settings = Settings(trust_domain=case.get("trustDomain") or "cluster.local", several_authorizers=False)
    snapshot = build_snapshot(settings, resources, [])
    workload = case["workload"]
    found = access_policy(snapshot, workload["namespace"], tuple(sorted(workload["labels"].items()))).policy
    in_vain = tuple(rule for rule in found.deny if rule.name.startswith(ASKING))
    if case["generator"] == "custom":
        return AccessPolicy(external=found.external, deny=in_vain)
    return replace(found, external=(), deny=tuple(rule for rule in found.deny if rule not in in_vain))


class Filter(NamedTuple):
    """A filter as far as it is compared: the rules that it enforces, those that leave a note, and whom it asks."""

    name: str
    enforced: Any = None
    noted: Any = None
    notes: str = ""
    asked: Any = None

    @property
    def shape(self) -> tuple[Any, ...]:
        actions = [rules is not None and rules.action for rules in (self.enforced, self.noted)]
        return (self.name, *actions, self.notes, self.asked)

    @property
    def rules(self) -> Iterator[Any]:
        return (rules for rules in (self.enforced, self.noted) if rules is not None)


def _filter_of(name: str, config: Any) -> Filter:
    """``config`` is the filter's own message. Notes of audits are ours alone."""
    if not hasattr(config, "shadow_rules"):
        return Filter(name, asked=_asked(config))
    enforced = config.rules if config.HasField("rules") else None
    if not config.HasField("shadow_rules") or (enforced is not None and enforced.action == rbac.LOG):
        return Filter(name, enforced)
    return Filter(name, enforced, config.shadow_rules, config.shadow_rules_stat_prefix)


def _asked(config: Any) -> dict[str, Any]:
    """Who is asked, when and about what; headers in any order and case."""
    found = json_format.MessageToDict(config)
    found.pop("transportApiVersion", None)

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items() if name != "ignoreCase"}
        return sorted(map(plain, value), key=str) if isinstance(value, list) else value

    asked = plain(found)
    assert isinstance(asked, dict)
    return asked


def expected(case: dict[str, Any]) -> list[Filter]:
    found = []
    for name in case.get("outputs") or ():
        output = yaml.safe_load((case["folder"] / name).read_text())
        message = any_pb2.Any()
        json_format.ParseDict(_with_moved_peers(output["typedConfig"]), message)
        config = next(kind() for kind in KINDS if message.Is(kind.DESCRIPTOR))
        message.Unpack(config)
        found.append(_filter_of(output["name"], config))
    return found


def _with_moved_peers(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_moved_peers(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {name: _with_moved_peers(item) for name, item in value.items()}
    if "directRemoteIp" in found:
        found["directRemoteIp"]["addressPrefix"] = moved(found["directRemoteIp"]["addressPrefix"])
    return found


def our_filters(case: dict[str, Any], policy: AccessPolicy) -> list[Filter]:
    """The same of ours, as Envoy would get them."""
    if case["protocol"] == "tcp":
        found = []
        for made in rbac.network_filters(policy):
            config = next(kind() for kind in KINDS if made.typed_config.Is(kind.DESCRIPTOR))
            made.typed_config.Unpack(config)
            found.append(_filter_of(made.name, config))
        return found
    names = [external.numbered(external.MATCHING_FILTER, index) for index in range(len(policy.external))]
    found = []
    for name, config in rbac.http_filters(policy):
        found.append(_filter_of("envoy.filters.http.rbac", config))
        if name in names:
            index = names.index(name)
            asking = external.http_filter(policy.external[index].authorizer, index)
            found.append(_filter_of(external.HTTP_FILTER, asking))
    return found


def _parts(message: Any) -> tuple[str, Any]:
    """``and``, ``or`` or empty, and what is joined so."""
    kind = message.WhichOneof("rule" if isinstance(message, rbac_pb2.Permission) else "identifier")
    value = getattr(message, kind)
    if kind in ("and_rules", "or_rules", "and_ids", "or_ids"):
        return kind.partition("_")[0], value.rules if kind.endswith("rules") else value.ids
    return "", ()


def _terms(message: Any) -> Iterator[Any]:
    """What all has to hold of a permission or a principal, one by one; of several sources, of each."""
    kind, parts = _parts(message)
    if kind == "and" or (kind == "or" and (len(parts) == 1 or any(_parts(part)[0] == "and" for part in parts))):
        for part in parts:
            yield from _terms(part)
    elif kind or not (isinstance(message.any, bool) and message.any):
        yield message


def _never(message: Any) -> bool:
    """Whether a permission or a principal is written to match nothing."""
    negated = message.WhichOneof("rule" if isinstance(message, rbac_pb2.Permission) else "identifier")
    return negated in ("not_rule", "not_id") and bool(getattr(message, negated).any)


def alone(rules: Any) -> Iterator[tuple[str, Any]]:
    """Each term of each policy as rules of its own, with the name of the policy."""
    for name in sorted(rules.policies):
        policy = rules.policies[name]
        if all(map(_never, (*policy.permissions, *policy.principals))):
            continue
        for permission in policy.permissions:
            for term in _terms(permission):
                yield name, _only(rbac_pb2.Policy(permissions=[term], principals=[rbac_pb2.Principal(any=True)]))
        for principal in policy.principals:
            for term in _terms(principal):
                yield name, _only(rbac_pb2.Policy(permissions=[rbac_pb2.Permission(any=True)], principals=[term]))


def _only(policy: Any) -> Any:
    return rbac_pb2.RBAC(policies={"only": policy})
