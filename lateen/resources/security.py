"""PeerAuthentication and AuthorizationPolicy (security.istio.io)."""

from __future__ import annotations

from typing import Literal

import msgspec

from lateen.resources.base import PolicyTargetReference, Spec, WorkloadSelector


class MutualTls(Spec, frozen=True):
    mode: Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"] | None = None


class PeerAuthenticationSpec(Spec, frozen=True):
    selector: WorkloadSelector | None = None
    mtls: MutualTls | None = None
    port_level_mtls: dict[str, MutualTls] = {}


class Source(Spec, frozen=True):
    principals: tuple[str, ...] = ()
    not_principals: tuple[str, ...] = ()
    request_principals: tuple[str, ...] = ()
    not_request_principals: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    not_namespaces: tuple[str, ...] = ()
    service_accounts: tuple[str, ...] = ()
    not_service_accounts: tuple[str, ...] = ()
    ip_blocks: tuple[str, ...] = ()
    not_ip_blocks: tuple[str, ...] = ()
    remote_ip_blocks: tuple[str, ...] = ()
    not_remote_ip_blocks: tuple[str, ...] = ()
    trust_domains: tuple[str, ...] = ()
    not_trust_domains: tuple[str, ...] = ()


class RuleFrom(Spec, frozen=True):
    source: Source | None = None


class Operation(Spec, frozen=True):
    hosts: tuple[str, ...] = ()
    not_hosts: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    not_ports: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    not_methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    not_paths: tuple[str, ...] = ()


class RuleTo(Spec, frozen=True):
    operation: Operation | None = None


class Condition(Spec, frozen=True):
    key: str = ""
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()


class Rule(Spec, frozen=True):
    from_: tuple[RuleFrom, ...] | None = msgspec.field(default=None, name="from")
    to: tuple[RuleTo, ...] | None = None
    when: tuple[Condition, ...] = ()


class ExtensionProvider(Spec, frozen=True):
    name: str = ""


class AuthorizationPolicySpec(Spec, frozen=True):
    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    rules: tuple[Rule, ...] = ()
    action: Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"] | None = None
    provider: ExtensionProvider | None = None
