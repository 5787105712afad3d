"""WasmPlugin and TrafficExtension (extensions.istio.io)."""

from __future__ import annotations

from typing import Any, Literal

from lateen.resources.base import Int32, PolicyTargetReference, Spec, Uint32, WorkloadSelector

PullPolicy = Literal["UNSPECIFIED_POLICY", "IfNotPresent", "Always"]
FailStrategy = Literal["FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD"]
PluginType = Literal["UNSPECIFIED_PLUGIN_TYPE", "HTTP", "NETWORK"]
WorkloadMode = Literal["UNDEFINED", "CLIENT", "SERVER", "CLIENT_AND_SERVER"]


class EnvVar(Spec, frozen=True):
    name: str = ""
    value_from: Literal["INLINE", "HOST"] | None = None
    value: str | None = None


class VmConfig(Spec, frozen=True):
    env: tuple[EnvVar, ...] = ()


class PortNumber(Spec, frozen=True):
    number: Uint32 = 0


class TrafficSelector(Spec, frozen=True):
    mode: WorkloadMode | None = None
    ports: tuple[PortNumber, ...] = ()


class WasmConfig(Spec, frozen=True):
    """One module: where it is and how it runs. WasmPlugin has the same fields beside its own."""

    url: str = ""
    sha256: str = ""
    image_pull_policy: PullPolicy | None = None
    image_pull_secret: str | None = None
    verification_key: str | None = None
    plugin_config: dict[str, Any] = {}
    plugin_name: str | None = None
    fail_strategy: FailStrategy | None = None
    vm_config: VmConfig | None = None
    type: PluginType | None = None


class WasmPluginSpec(WasmConfig, frozen=True):
    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    phase: Literal["UNSPECIFIED_PHASE", "AUTHN", "AUTHZ", "STATS"] | None = None
    priority: Int32 | None = None
    match: tuple[TrafficSelector, ...] = ()


class LuaConfig(Spec, frozen=True):
    inline_code: str = ""


class TrafficExtensionSpec(Spec, frozen=True):
    selector: WorkloadSelector | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    phase: Literal["UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"] | None = None
    priority: Int32 | None = None
    match: tuple[TrafficSelector, ...] = ()
    wasm: WasmConfig | None = None
    lua: LuaConfig | None = None
