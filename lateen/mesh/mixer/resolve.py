"""Resolves Mixer's rules: which handlers and instances their names mean, and whether these fit one another.

Comes in: resources of config.istio.io. Goes out: ``MixerRules`` and findings. A rule with a part that cannot be is left
out whole, as half of it would mean something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b

from msgspec.structs import replace

from lateen.expressions.check import check
from lateen.expressions.language import parse_as
from lateen.expressions.parse import parse
from lateen.expressions.syntax import Expression, ExpressionError
from lateen.expressions.vocabulary import BUILT_IN, DEFAULT_VOCABULARY, IN_PLACE_OF, ValueType, Vocabulary
from lateen.findings import Finding, error, warning
from lateen.mesh.mixer.apis import apis_of, attributes_set
from lateen.mesh.mixer.charges import charges_of, uncounted
from lateen.mesh.mixer.early import Early
from lateen.mesh.mixer.model import (
    Action,
    Binding,
    Grant,
    Handler,
    HeaderOperation,
    Instance,
    InstanceField,
    MixerRules,
    Rule,
    Sampling,
)
from lateen.mesh.mixer.names import (
    ADAPTER,
    HANDLER,
    HANDLER_KINDS,
    INSTANCE,
    INSTANCE_KINDS,
    MIXER_KINDS,
    RBAC,
    NameInRule,
    described_by,
    full_name,
    meant,
)
from lateen.mesh.mixer.roles import grants_of
from lateen.resources.mixer import kinds
from lateen.resources.mixer.adapters import ListcheckerParams
from lateen.resources.mixer.content import (
    HandlerContent,
    InstanceContent,
    handler_content,
    instance_content,
    is_counted_by_proxies,
    language_of,
)
from lateen.resources.mixer.outside import OutsideParams, short_name
from lateen.resources.mixer.templates import Variety, expressions_of, with_outputs
from lateen.resources.resource import Resource
from lateen.values.names import Origin, ResourceKey

TEXTS = frozenset({ValueType.STRING, ValueType.DNS_NAME, ValueType.EMAIL_ADDRESS, ValueType.URI})
"""Types whose values are texts."""


def resolve(by_kind: Mapping[str, Sequence[Resource]], root_namespace: str) -> tuple[MixerRules, tuple[Finding, ...]]:
    """The rules that hold, in the order of their names, and what is wrong with what they name."""
    resolver = _Resolver(by_kind, root_namespace)
    rules = sorted(by_kind.get("rule", ()), key=lambda rule: (rule.key.namespace, rule.key.name))
    found = [resolver.rule(rule) for rule in rules]
    held = tuple(rule for rule in found if rule is not None)
    charged = charges_of(by_kind, resolver.present, resolver.vocabulary)
    asks_roles = any(action.handler.adapter == RBAC for rule in held for action in rule.actions)
    grants, of_roles = grants_of(by_kind) if asks_roles else ((), ())
    apis, of_apis = apis_of(by_kind, resolver.vocabulary)
    findings = (
        *resolver.findings,
        *of_roles,
        *of_apis,
        *resolver.unused(charged.used),
        *charged.findings,
        *uncounted(held, charged.charges),
    )
    rules_here = MixerRules(held, charged.charges, grants, apis, resolver.vocabulary, _generation(by_kind, grants))
    return rules_here, tuple(dict.fromkeys(findings))


def _generation(by_kind: Mapping[str, Sequence[Resource]], grants: tuple[Grant, ...]) -> str:
    """A hash of all that rules say."""
    said = [
        (str(resource.key), repr(resource.spec), language_of(resource), is_counted_by_proxies(resource))
        for kind in MIXER_KINDS
        for resource in by_kind.get(kind, ())
    ]
    return blake2b(repr((sorted(said), grants)).encode(), digest_size=8).hexdigest() if said else ""


def _set_here(by_kind: Mapping[str, Sequence[Resource]]) -> Iterator[str]:
    """Attributes that requests have by instances that bind them, or by descriptions of APIs."""
    yield from attributes_set(by_kind)
    for kind in INSTANCE_KINDS:
        for resource in by_kind.get(kind, ()):
            yield from getattr(resource.spec, "attribute_bindings", ())


class _Resolver:
    def __init__(self, by_kind: Mapping[str, Sequence[Resource]], root_namespace: str) -> None:
        self.findings: list[Finding] = []
        set_here = frozenset(_set_here(by_kind))
        self.vocabulary = self._defined(by_kind.get("attributemanifest", ()), set_here)
        self._early = Early(self.vocabulary, set_here)
        self._root = root_namespace
        self.present = {
            resource.key: resource for kind in (*HANDLER_KINDS, *INSTANCE_KINDS) for resource in by_kind.get(kind, ())
        }
        self._adapters = {resource.key: resource for resource in by_kind.get(ADAPTER, ())}
        self._used: set[int] = set()
        self._made_handlers: dict[int, Handler | None] = {}
        self._made_instances: dict[int, Instance | None] = {}

    def _defined(self, manifests: Sequence[Resource], set_here: frozenset[str]) -> Vocabulary:
        """The built-in attributes and those of manifests; where two differ, what the first one by name says holds."""
        found: dict[str, tuple[ValueType, Resource]] = {}
        for resource in sorted(manifests, key=lambda one: (one.key.namespace, one.key.name)):
            for name, info in resource.spec.attributes.items():
                if name in BUILT_IN:
                    continue
                kind, place = ValueType(info.value_type), resource.origin_at(f"spec.attributes.{name}")
                before, first = found.setdefault(name, (kind, resource))
                if before is not kind:
                    message = f"{name} is {before.value} already, by {first.key.namespace}/{first.key.name}"
                    self.findings.append(error("other-type", message, place, f"write {before.value}, or another name"))
                elif first is resource and name not in set_here:
                    message = f"no request has {name} here: expressions that need it do not hold"
                    remedy = f"write {IN_PLACE_OF[name]}" if name in IN_PLACE_OF else "give another by |, or remove it"
                    self.findings.append(warning("absent-attribute", message, place, remedy))
        return DEFAULT_VOCABULARY.extended({name: kind for name, (kind, _) in found.items()})

    def unused(self, charged: frozenset[ResourceKey]) -> Iterable[Finding]:
        """Notes on what no rule names; ``charged`` are instances that a QuotaSpec names."""
        for resource in self.present.values():
            if id(resource) not in self._used and resource.key not in charged:
                message = f"no rule names this {resource.key.kind}, so it does nothing"
                yield warning("unused", message, resource.origin, "name it in a rule's actions, or remove it")

    def rule(self, resource: Resource) -> Rule | None:
        spec: kinds.RuleSpec = resource.spec
        before = len(self.findings)
        match = self._expression(resource, "spec.match", spec.match, ValueType.BOOL) if spec.match else None
        actions = [self._action(resource, index, action) for index, action in enumerate(spec.actions)]
        request = self._operations(resource, "spec.requestHeaderOperations", spec.request_header_operations)
        response = self._operations(resource, "spec.responseHeaderOperations", spec.response_header_operations)
        sampling = self._sampling(resource, spec.sampling, actions) if spec.sampling is not None else None
        if len(self.findings) > before:
            return None
        done = [action for action in actions if action is not None]
        if match is not None:
            self.findings.extend(self._early.match(match, done, resource))
        for side, operations in (("request", request), ("response", response)):
            for index, operation in enumerate(operations):
                place = f"spec.{side}HeaderOperations[{index}]"
                self.findings.extend(self._early.operation(operation, resource, place))
        return Rule(
            name=resource.key.name,
            namespace=resource.key.namespace,
            everywhere=resource.key.namespace == self._root,
            match=match,
            actions=tuple(done),
            request=request,
            response=response,
            origin=resource.origin,
            sampling=sampling,
        )

    def _sampling(self, rule: Resource, said: kinds.Sampling, actions: list[Action | None]) -> Sampling:
        instances = [instance for action in actions if action is not None for instance in action.instances]
        if instances and not any(instance.variety is Variety.REPORT for instance in instances):
            message = "sampling is for what is reported, and this rule reports nothing"
            self.findings.append(error("without-effect", message, rule.origin_at("spec.sampling"), "leave it out"))
        drawn, limit = said.random or kinds.RandomSampling(), said.rate_limit
        share = drawn.percent_sampled or kinds.Share()
        denominator = kinds.DENOMINATORS[share.denominator or "HUNDRED"]
        text, place = drawn.attribute_expression, "spec.sampling.random.attributeExpression"
        return Sampling(
            share=share.numerator / denominator if said.random is not None else None,
            numerator=self._expression(rule, place, text, ValueType.INT64, ValueType.DOUBLE) if text else None,
            denominator=denominator,
            independent=drawn.use_independent_randomness,
            window=float(limit.sampling_duration or 0.0) if limit is not None else None,
            most=limit.max_unsampled_entries if limit is not None else 0,
            rate=limit.sampling_rate if limit is not None else 1,
        )

    def _action(self, rule: Resource, index: int, action: kinds.Action) -> Action | None:
        place = f"spec.actions[{index}]"
        handler = self._handler(rule, f"{place}.handler", action.handler)
        instances = [
            self._instance(rule, f"{place}.instances[{number}]", name) for number, name in enumerate(action.instances)
        ]
        if handler is None or any(instance is None for instance in instances):
            return None
        taken = handler.templates
        for number, instance in enumerate(instances):
            if instance is not None and instance.template not in taken:
                message = f"{handler.adapter} takes no instances of {instance.template}"
                remedy = f"give instances of {' or '.join(sorted(taken))}"
                origin = rule.origin_at(f"{place}.instances[{number}]")
                self.findings.append(error("wrong-template", message, origin, remedy))
            elif instance is not None:
                self._fits_list(handler, instance, rule.origin_at(f"{place}.instances[{number}]"))
                self.findings.extend(self._early.instance(instance, rule, f"{place}.instances[{number}]"))
        return Action(handler, tuple(one for one in instances if one is not None), action.name)

    def _fits_list(self, handler: Handler, instance: Instance, origin: Origin) -> None:
        """A list that could hold no value of this type would refuse every request."""
        if not isinstance(handler.params, ListcheckerParams):
            return
        of_addresses = handler.params.entry_type == "IP_ADDRESSES"
        for field in instance.fields:
            if field.type in (TEXTS | {ValueType.IP_ADDRESS} if of_addresses else TEXTS):
                continue
            message = f"the value of {instance.name} is {field.type.value}, and {handler.name} is a list of texts"
            remedy = "give a text, or write entryType: IP_ADDRESSES for a list of addresses"
            if of_addresses:
                message = f"the value of {instance.name} is {field.type.value}, and {handler.name} is one of addresses"
                remedy = "give an address, such as source.ip"
            self.findings.append(error("wrong-value", message, origin, remedy))

    def _handler(self, rule: Resource, place: str, name: str) -> Handler | None:
        resource = self._named(rule, place, name, HANDLER)
        if resource is None:
            return None
        if id(resource) not in self._made_handlers:
            self._made_handlers[id(resource)] = self._made_handler(resource)
        made = self._made_handlers[id(resource)]
        if made is None:
            message = f"the handler {name} cannot be used"
            self.findings.append(error("unusable-handler", message, rule.origin_at(place), "correct the handler"))
        return made

    def _made_handler(self, resource: Resource) -> Handler | None:
        content = handler_content(resource)
        if not isinstance(content, HandlerContent):
            return None
        params, templates = content.params, content.adapter.templates
        if isinstance(params, OutsideParams):
            described = described_by(content.adapter.name, resource.key.namespace, self._adapters)
            if described is None:
                message = f"there is no adapter {content.adapter.name}"
                origin = resource.origin_at("spec.adapter")
                self.findings.append(error("unknown-adapter", message, origin, "add a resource of kind adapter"))
                return None
            params = replace(params, config=described.spec.config)
            templates = frozenset(short_name(name) for name in described.spec.templates)
        by_proxies = is_counted_by_proxies(resource)
        return Handler(full_name(resource), content.adapter.name, params, resource.origin, templates, by_proxies)

    def _instance(self, rule: Resource, place: str, name: str) -> Instance | None:
        resource = self._named(rule, place, name, INSTANCE)
        if resource is None:
            return None
        if id(resource) not in self._made_instances:
            self._made_instances[id(resource)] = self._made_instance(resource)
        made = self._made_instances[id(resource)]
        if made is None:
            message = f"the instance {name} cannot be used"
            self.findings.append(error("unusable-instance", message, rule.origin_at(place), "correct the instance"))
        return made

    def _made_instance(self, resource: Resource) -> Instance | None:
        content = instance_content(resource)
        if not isinstance(content, InstanceContent):
            return None
        fields, language = [], language_of(resource)
        for field in expressions_of(content.template, content.params):
            place = f"{content.place}{field.written}"
            try:
                tree, kind = check(
                    field.text, parse_as(language, field.text, self.vocabulary), self.vocabulary, field.types
                )
            except ExpressionError as problem:
                self._wrong(resource, place, problem)
                return None
            fields.append(InstanceField(field.way, tree, kind))
        bindings = self._bindings(resource, content)
        if bindings is None:
            return None
        return Instance(
            name=full_name(resource),
            template=content.template.name,
            variety=content.template.variety,
            fields=tuple(fields),
            origin=resource.origin,
            bindings=bindings,
        )

    def _bindings(self, resource: Resource, content: InstanceContent) -> tuple[Binding, ...] | None:
        """What attributes take of the outputs; None where one of them cannot be, which is told."""
        found, language = [], language_of(resource)
        vocabulary = with_outputs(content.template, self.vocabulary)
        for attribute, text in sorted(content.bindings.items()):
            place = f"spec.attributeBindings.{attribute}"
            try:
                kind = check(attribute, parse(attribute), self.vocabulary)[1]
                tree = check(text, parse_as(language, text, vocabulary), vocabulary, (kind,))[0]
            except ExpressionError as problem:
                self._wrong(resource, place, problem)
                return None
            found.append(Binding(attribute, tree))
        return tuple(found)

    def _named(self, rule: Resource, place: str, name: str, what: str) -> Resource | None:
        resource = meant(NameInRule(place, name, what), rule.key.namespace, self.present)
        if resource is not None:
            self._used.add(id(resource))
            return resource
        message = f"there is no {what} {name}"
        remedy = f"add it, or correct the name: the {what}'s NAME, or NAME.NAMESPACE"
        self.findings.append(error(f"unknown-{what}", message, rule.origin_at(place), remedy))
        return None

    def _operations(
        self, rule: Resource, place: str, operations: tuple[kinds.HeaderOperation, ...]
    ) -> tuple[HeaderOperation, ...]:
        found = []
        for index, operation in enumerate(operations):
            values = [
                self._expression(rule, f"{place}[{index}].values[{number}]", text, ValueType.STRING)
                for number, text in enumerate(operation.values)
            ]
            action = (operation.operation or "REPLACE").lower()
            found.append(
                HeaderOperation(operation.name.lower(), action, tuple(one for one in values if one is not None))
            )
        return tuple(found)

    def _expression(self, resource: Resource, place: str, text: str, *types: ValueType) -> Expression | None:
        try:
            tree = parse_as(language_of(resource), text, self.vocabulary, match=place == "spec.match")
            return check(text, tree, self.vocabulary, types)[0]
        except ExpressionError as problem:
            self._wrong(resource, place, problem)
            return None

    def _wrong(self, resource: Resource, place: str, problem: ExpressionError) -> None:
        origin = resource.origin_at(place)
        self.findings.append(error("invalid-expression", f"at {problem}", origin, problem.remedy))
