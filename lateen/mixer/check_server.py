"""Envoy's authorization service, answered by the rules: ``envoy.service.auth.v3.Authorization/Check``.

Comes in: a request or a connection that a proxy asks about. Goes out: the verdict, with what the proxy has to know to
keep it (``lateen.envoy.check_cache``). Whatever fails here becomes an error of the call, which the proxy takes as its
rules say for a mixer that does not answer.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Mapping
from typing import Any

import grpc
import msgspec
from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import external_auth_pb2
from google.protobuf import struct_pb2

from lateen.envoy.check_cache import REFUSED_BY
from lateen.mixer.adapter import OK, PERMISSION_DENIED
from lateen.mixer.check_bag import CheckBag
from lateen.mixer.engine import Asked, Engine
from lateen.mixer.order import Place
from lateen.mixer.outcome import HeaderOperation, Outcome
from lateen.mixer.seldom import Seldom

LOG = logging.getLogger("lateen.mixer")
SERVICE = "envoy.service.auth.v3.Authorization"
LONGEST_KEPT_MS = 24 * 3600 * 1000
MOST_AT_ONCE = 1000
"""Checks beyond these are not begun: whoever waits longer than its deadline is answered too late anyway."""
ANSWERED = PERMISSION_DENIED
"""What Envoy is told of a request that an adapter answers: any code but OK keeps it from going on."""
_NOWHERE = Place()
_REPLACE = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


class CheckTally(msgspec.Struct):
    """What was asked and answered."""

    checks: int = 0
    refused: int = 0
    failed: int = 0
    shed: int = 0


class Knowledge(msgspec.Struct, frozen=True):
    """All that answers depend on, exchanged as one: rules, places by proxy, callers by namespace/workload."""

    engine: Engine
    places: Mapping[str, Place] = {}
    workloads: Mapping[str, Mapping[str, Any]] = {}


class CheckServer:
    """Answers by ``knowledge``, which may be exchanged at any moment."""

    def __init__(self, knowledge: Knowledge) -> None:
        self.knowledge = knowledge
        self.tally = CheckTally()
        self._under_way = 0
        self._seldom = Seldom()

    def handler(self) -> grpc.GenericRpcHandler:
        """What a gRPC server is given."""
        check = grpc.unary_unary_rpc_method_handler(
            self._check, external_auth_pb2.CheckRequest.FromString, external_auth_pb2.CheckResponse.SerializeToString
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"Check": check})

    async def _check(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        self.tally.checks += 1
        if self._under_way >= MOST_AT_ONCE:
            self.tally.shed += 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "too many checks are under way")
        self._under_way += 1
        try:
            outcome = await self._outcome(request, context)
        except Exception as problem:
            self.tally.failed += 1
            if self._seldom.may(type(problem).__name__):
                LOG.error("a check failed", exc_info=problem)
            await context.abort(grpc.StatusCode.INTERNAL, "the check failed")
        finally:
            self._under_way -= 1
        self.tally.refused += outcome.code != OK
        return answer(outcome, request.attributes.request.http.headers)

    async def _outcome(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Outcome:
        told = {
            key.removeprefix("lateen-"): value
            for key, value in context.invocation_metadata() or ()
            if key.startswith("lateen-") and isinstance(value, str)
        }
        told.update(request.attributes.context_extensions)
        place = self.knowledge.places.get(told.get("proxy", ""), _NOWHERE)
        constant = {**place.attributes, **place.ports.get(told.get("port", ""), {})}
        bag = CheckBag(request, constant, self.knowledge.workloads)
        changed, counted = (frozenset(told.get(name, "").split(",")) for name in ("changed", "counted"))
        asked = Asked(place.fail_open, told.get("asked", ""), changed, counted)
        return await self.knowledge.engine.check(bag, asked)


def answer(outcome: Outcome, present: Container[str] = ()) -> Any:
    """The outcome as Envoy takes it. ``present``: the headers that the request has."""
    message = external_auth_pb2.CheckResponse()
    message.status.code = outcome.code or (OK if outcome.goes_on else ANSWERED)
    if outcome.goes_on:
        message.ok_response.SetInParent()
        for operation in _at_once(outcome.request):
            _operate(message.ok_response, operation, present)
    else:
        message.denied_response.status.code = outcome.status
        message.denied_response.body = outcome.body
        for name, value in outcome.headers.items():
            option = message.denied_response.headers.add(append_action=_REPLACE)
            option.header.key, option.header.value = name, value
    message.dynamic_metadata.CopyFrom(_kept(outcome))
    return message


def _at_once(operations: Iterable[HeaderOperation]) -> Iterable[HeaderOperation]:
    """One operation for each header: of several values for one Envoy would take the last."""
    found: dict[str, HeaderOperation] = {}
    for one in operations:
        before = found.get(one.name)
        if one.operation == "append" and before is not None and before.operation != "remove":
            found[one.name] = msgspec.structs.replace(before, value=f"{before.value},{one.value}")
        elif one.operation == "append" and before is not None:
            found[one.name] = msgspec.structs.replace(one, operation="replace")
        else:
            found[one.name] = one
    return found.values()


def _operate(response: Any, operation: HeaderOperation, present: Container[str]) -> None:
    """Envoy appends by a field of its own, and to a header that is there alone."""
    if operation.operation == "remove":
        response.headers_to_remove.append(operation.name)
        return
    option = response.headers.add()
    if operation.operation == "append" and operation.name in present:
        option.append.value = True
    else:
        option.append_action = _REPLACE
    option.header.key, option.header.value = operation.name, operation.value


def _kept(outcome: Outcome) -> struct_pb2.Struct:
    """What the proxy is told of the answer."""
    keeps = outcome.inputs is not None and outcome.uses != 1
    valid = min(int(outcome.valid * 1000), LONGEST_KEPT_MS) if keeps else 0
    fields: dict[str, Any] = {
        "valid": valid,
        "uses": outcome.uses or LONGEST_KEPT_MS,
        "inputs": list(outcome.inputs or ()),
    }
    if not outcome.goes_on:
        fields["status"], fields["body"] = str(outcome.status), outcome.body
        fields["headers"] = [[name, value] for name, value in outcome.headers.items()]
        fields[REFUSED_BY] = ",".join(outcome.refused_by)
    for name, operations in (("request", outcome.request), ("response", outcome.response)):
        if operations:
            fields[name] = [[one.operation, one.name, one.value] for one in operations]
    told = struct_pb2.Struct()
    told.update(fields)
    return told
