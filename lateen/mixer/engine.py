"""The rules at work: which of them match, which handlers they call, and what comes of it.

Comes in: ``MixerRules``, handlers, and a bag of attributes for each check. Goes out: an ``Outcome``. All actions of all
rules that match are carried out together, each handler behind its own deadline and breaker.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from msgspec.structs import replace

from lateen.expressions.evaluate import AbsentError, Bag, Evaluator, RecordingBag, compile_expression, compile_match
from lateen.expressions.functions import Unusable
from lateen.expressions.vocabulary import Vocabulary
from lateen.mesh.mixer import model
from lateen.mesh.mixer.model import MixerRules, attributes_in
from lateen.mixer import templates
from lateen.mixer.adapter import INVALID_ARGUMENT, OK, RESOURCE_EXHAUSTED, CheckResult, QuotaArgs
from lateen.mixer.adapters.texts import text
from lateen.mixer.apis import Apis
from lateen.mixer.generators import Generator, Generators
from lateen.mixer.handler import Handler
from lateen.mixer.inputs import inputs_of
from lateen.mixer.instances import InstanceMaker
from lateen.mixer.outcome import HeaderOperation, Outcome, combine
from lateen.mixer.sampling import Sampler
from lateen.plan.mixer.operations import fit
from lateen.resources.mixer.adapters import NEEDS_ABSENT
from lateen.resources.mixer.templates import Variety


class Asked(NamedTuple):
    """What is known of the asking itself. ``fail_open``: whether what no handler decides goes on; None: as it does
    elsewhere. ``id``: the same where the same is asked again; empty where that is not known. ``changed``: rules whose
    operations on headers the proxy does; ``counted``: quotas that it counts."""

    fail_open: bool | None = None
    id: str = ""
    changed: frozenset[str] = frozenset()
    counted: frozenset[str] = frozenset()


BY_HAND = Asked()


class Reported(NamedTuple):
    """An instance for a handler that takes note."""

    handler: Handler
    template: str
    instance: templates.Instance


class _Operation:
    def __init__(self, operation: model.HeaderOperation, vocabulary: Vocabulary) -> None:
        self._name, self._operation = operation.name, operation.operation
        self._values = [compile_expression(value, vocabulary) for value in operation.values]

    def made_of(self, bag: Bag) -> Iterable[HeaderOperation]:
        """None for values that are empty or absent."""
        if self._operation == "remove":
            yield HeaderOperation("remove", self._name)
            return
        operation = self._operation
        for evaluate in self._values:
            value = _value(evaluate, bag)
            if value:
                yield HeaderOperation(operation, self._name, fit(value))
                operation = "append"


def _value(evaluate: Evaluator, bag: Bag) -> Any:
    try:
        return evaluate(bag)
    except (AbsentError, Unusable):
        return None


class _Rule:
    def __init__(self, rule: model.Rule, handlers: Mapping[str, Handler], vocabulary: Vocabulary) -> None:
        self.name = f"{rule.name}.{rule.namespace}"
        self.namespace = "" if rule.everywhere else rule.namespace
        self.looks_at = frozenset(attributes_in(rule))
        self.matches: Callable[[Bag], bool] = (
            compile_match(rule.match, vocabulary) if rule.match is not None else lambda bag: True
        )
        self.checks = [
            (handlers[action.handler.name], InstanceMaker(instance, vocabulary))
            for action in rule.actions
            for instance in action.instances
            if instance.variety is Variety.CHECK
        ]
        self.reports = [
            (handlers[action.handler.name], instance.template, InstanceMaker(instance, vocabulary))
            for action in rule.actions
            for instance in action.instances
            if instance.variety is Variety.REPORT
        ]
        self.quotas = {
            instance.name: (handlers[action.handler.name], InstanceMaker(instance, vocabulary))
            for action in reversed(rule.actions)
            for instance in reversed(action.instances)
            if instance.variety is Variety.QUOTA
        }
        self.generators = [
            Generator(self.namespace, self.matches, handlers[action.handler.name], instance, vocabulary)
            for action in rule.actions
            for instance in action.instances
            if instance.variety is Variety.ATTRIBUTE_GENERATOR
        ]
        self._sampler = Sampler(rule.sampling, vocabulary) if rule.sampling is not None else None
        self.request = [_Operation(one, vocabulary) for one in rule.request]
        self.response = [_Operation(one, vocabulary) for one in rule.response]

    def reports_on(self, bag: Bag) -> bool:
        """Whether it matches, and takes it."""
        return self.matches(bag) and (self._sampler is None or self._sampler.takes(bag))

    @property
    def decides(self) -> bool:
        """Whether a check has anything to do with it."""
        return bool(self.checks or self.quotas or self.request or self.response)


class _Charge:
    def __init__(self, charge: model.Charge) -> None:
        self.quota, self.amount = charge.quota, charge.amount
        self._services = charge.services
        self._clauses = [[_test(clause) for clause in clauses] for clauses in charge.clauses]

    def applies(self, bag: Bag) -> bool:
        """Whether a request takes something off the quota. Connections that pass bytes on take nothing."""
        if bag.get("context.protocol") == "tcp":
            return False
        host, labels = bag.get("destination.service.host"), bag.get("destination.labels")
        if not any(service.is_for(host, labels) for service in self._services):
            return False
        return not self._clauses or any(all(test(bag) for test in tests) for tests in self._clauses)


def _test(clause: model.Clause) -> Callable[[Bag], bool]:
    """An attribute that is absent meets nothing; one that is no text is held against as text."""
    meets = clause.test()

    def test(bag: Bag) -> bool:
        value = bag.get(clause.attribute)
        return value is not None and meets(text(value))

    return test


class Engine:
    """Rules and their handlers, by name, of one generation."""

    def __init__(self, rules: MixerRules, handlers: Mapping[str, Handler]) -> None:
        found = [_Rule(rule, handlers, rules.vocabulary) for rule in rules.rules]
        self._rules = [rule for rule in found if rule.decides]
        self._charges = [_Charge(charge) for charge in rules.charges]
        self._reporting = [rule for rule in found if rule.reports]
        self._apis = Apis(rules.apis)
        generators = [generator for rule in found for generator in rule.generators]
        charged = {clause.attribute for charge in rules.charges for test in charge.clauses for clause in test}
        self._before_checks = Generators(generators, _looked_at(self._rules, charged))
        self._before_reports = Generators(generators, _looked_at(self._reporting))

    async def check(self, bag: Bag, asked: Asked = BY_HAND) -> Outcome:
        """The verdict on one request or connection."""
        recording = RecordingBag(bag)
        known, failed = await self._before_checks.enrich(
            self._apis.on(recording), self._apis.on(bag), fail_open=asked.fail_open
        )
        if failed is not None:
            return Outcome(code=failed.code, message=failed.message, valid=failed.valid)
        namespace = known.get("destination.namespace") or ""
        matching = [rule for rule in self._rules if rule.namespace in ("", namespace) and rule.matches(known)]
        calls = [(rule, handler, instance) for rule in matching for handler, instance in rule.checks]
        results = await asyncio.gather(*(_verdict(handler, instance, known, asked) for _, handler, instance in calls))
        combined = combine((handler.name, result) for (_, handler, _), result in zip(calls, results, strict=True))
        refused_by = [rule.name for (rule, _, _), result in zip(calls, results, strict=True) if result.code != OK]
        if combined.code == OK and combined.answer is None:
            combined, refused_by = await self._charged(combined, matching, known, asked)
        goes_on = combined.code == OK and combined.answer is None
        changing = [rule for rule in matching if rule.name not in asked.changed] if goes_on else []
        return Outcome(
            code=combined.code,
            message=combined.message,
            valid=combined.valid,
            uses=combined.uses,
            request=_operations(changing, "request", known),
            response=_operations(changing, "response", known),
            inputs=inputs_of(recording.seen),
            refused_by=tuple(dict.fromkeys(refused_by)),
            answer=combined.answer,
        )

    async def _charged(
        self, verdict: CheckResult, matching: Iterable[_Rule], bag: Bag, asked: Asked
    ) -> tuple[CheckResult, list[str]]:
        """The verdict after quotas were charged, one after the other, and the name of the rule that refuses, if one
        does. What is charged is asked for each time."""
        for charge in self._charges:
            if charge.quota in asked.counted or not charge.applies(bag):
                continue
            counting = next((rule for rule in matching if charge.quota in rule.quotas), None)
            if counting is None:
                continue
            verdict = replace(verdict, uses=1)
            refusal = await _allotted(*counting.quotas[charge.quota], charge, bag, asked)
            if refusal is not None:
                return refusal, [counting.name]
        return verdict, []

    async def report(self, bag: Bag) -> list[Reported]:
        """The instances that rules make of what is over. One that cannot be made is left out."""
        plain = self._apis.on(bag)
        known, _ = await self._before_reports.enrich(plain, plain)
        namespace = known.get("destination.namespace") or ""
        found = []
        for rule in self._reporting:
            if rule.namespace in ("", namespace) and rule.reports_on(known):
                for handler, template, instance in rule.reports:
                    with contextlib.suppress(AbsentError, Unusable):
                        found.append(Reported(handler, template, instance.made_of(known)))
        return found


def _looked_at(rules: Iterable[_Rule], more: Iterable[str] = ()) -> frozenset[str]:
    return frozenset(name for rule in rules for name in rule.looks_at).union(more)


async def _allotted(
    handler: Handler, instance: InstanceMaker, charge: _Charge, bag: Bag, asked: Asked
) -> CheckResult | None:
    """None where all of it was granted."""
    try:
        made = instance.made_of(bag)
    except (AbsentError, Unusable) as problem:
        why = NEEDS_ABSENT if isinstance(problem, AbsentError) else str(problem)
        return CheckResult(INVALID_ARGUMENT, f"{handler.name}:{instance.name}: {why}", uses=1)
    result = await handler.allot(
        made, QuotaArgs(charge.amount, False, asked.id and f"{asked.id}/{charge.quota}"), fail_open=asked.fail_open
    )
    if result.code != OK:
        return CheckResult(result.code, f"{handler.name}:{result.message}", uses=1)
    if result.granted < charge.amount:
        return CheckResult(RESOURCE_EXHAUSTED, f"Quota is exhausted for: {charge.quota.partition('.')[0]}", uses=1)
    return None


async def _verdict(handler: Handler, instance: InstanceMaker, bag: Bag, asked: Asked) -> CheckResult:
    try:
        made = instance.made_of(bag)
    except AbsentError:
        return CheckResult(INVALID_ARGUMENT, NEEDS_ABSENT)
    except Unusable as problem:
        return CheckResult(INVALID_ARGUMENT, f"{instance.name}: {problem}")
    return await handler.check(made, fail_open=asked.fail_open)


def _operations(rules: Iterable[_Rule], side: str, bag: Bag) -> tuple[HeaderOperation, ...]:
    found: list[_Operation] = [operation for rule in rules for operation in getattr(rule, side)]
    return tuple(made for operation in found for made in operation.made_of(bag))
