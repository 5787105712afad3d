"""handler, instance and rule, and what they consist of."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from lateen.resources.base import Duration, Spec, Uint32, numbered
from lateen.resources.mixer.outside import Connection


class HandlerSpec(Spec, frozen=True):
    compiled_adapter: str = ""
    adapter: str = ""
    params: dict[str, Any] | None = None
    connection: Connection | None = None
    name: str = ""


class InstanceSpec(Spec, frozen=True):
    compiled_template: str = ""
    template: str = ""
    params: dict[str, Any] | None = None
    attribute_bindings: dict[str, str] = {}
    name: str = ""


class Action(Spec, frozen=True):
    handler: str = ""
    instances: tuple[str, ...] = ()
    name: str = ""


class HeaderOperation(Spec, frozen=True):
    """``values`` are expressions."""

    name: str = ""
    values: tuple[str, ...] = ()
    operation: Annotated[Literal["REPLACE", "REMOVE", "APPEND"], numbered("REPLACE", "REMOVE", "APPEND")] | None = None


class Share(Spec, frozen=True):
    numerator: Uint32 = 0
    denominator: Annotated[Literal["HUNDRED", "TEN_THOUSAND"], numbered("HUNDRED", "TEN_THOUSAND")] | None = None


DENOMINATORS = {"HUNDRED": 100, "TEN_THOUSAND": 10_000}


class RandomSampling(Spec, frozen=True):
    attribute_expression: str = ""
    percent_sampled: Share | None = None
    use_independent_randomness: bool = False


class RateLimitSampling(Spec, frozen=True):
    sampling_duration: Duration | None = None
    max_unsampled_entries: int = 0
    sampling_rate: int = 0


class Sampling(Spec, frozen=True):
    random: RandomSampling | None = None
    rate_limit: RateLimitSampling | None = None


class RuleSpec(Spec, frozen=True):
    match: str = ""
    actions: tuple[Action, ...] = ()
    request_header_operations: tuple[HeaderOperation, ...] = ()
    response_header_operations: tuple[HeaderOperation, ...] = ()
    sampling: Sampling | None = None
