"""Mixer's kinds: parameters of adapters and templates, and the expressions that rules and instances hold.

Attributes that are not known here may be defined by a manifest; whether they are, is seen where all resources are
looked at together.
"""

from __future__ import annotations

from collections.abc import Iterable

from lateen.expressions.check import check
from lateen.expressions.language import CEXL, LANGUAGES, parse_as
from lateen.expressions.parse import is_attribute
from lateen.expressions.syntax import Call, Expression, ExpressionError, Literal, UnknownAttributeError
from lateen.expressions.vocabulary import BUILT_IN, DEFAULT_VOCABULARY, ValueType, Vocabulary
from lateen.resources.checks import Report
from lateen.resources.checks.mixer_adapters import PARAMS
from lateen.resources.checks.mixer_outside import check_connection
from lateen.resources.mixer.adapters import ADAPTERS
from lateen.resources.mixer.content import (
    LANGUAGE,
    HandlerContent,
    InstanceContent,
    handler_content,
    instance_content,
    language_of,
)
from lateen.resources.mixer.kinds import DENOMINATORS, HandlerSpec, HeaderOperation, InstanceSpec, RuleSpec, Sampling
from lateen.resources.mixer.outside import OutsideParams
from lateen.resources.mixer.templates import ANY, OUT, TEMPLATES, Variety, expressions_of, with_outputs
from lateen.resources.shape import Problem
from lateen.values.network import is_header_name

FRAMING = frozenset({"content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "keep-alive"})
"""Headers that say how a message is sent."""


def check_handler(report: Report) -> None:
    spec = report.resource.spec
    if isinstance(spec, HandlerSpec) and spec.adapter and spec.compiled_adapter:
        message = "adapter and compiledAdapter exclude each other"
        report.error("spec.adapter", message, "keep the one whose adapter is meant")
        return
    if isinstance(spec, HandlerSpec) and spec.connection is not None and spec.compiled_adapter:
        message = f"{spec.compiled_adapter} runs here, and nothing is connected to"
        report.error("spec.connection", message, "leave it out, or name an adapter of kind adapter in adapter")
        return
    found = handler_content(report.resource)
    if not isinstance(found, HandlerContent):
        _tell(report, found)
        return
    for name in sorted(found.adapter.required):
        if getattr(found.params, name) is None:
            report.error(found.place, f"{found.adapter.name} needs {name}", f"give {name}", "missing-field")
    if isinstance(found.params, OutsideParams):
        check_connection(report, found.params.connection)
        return
    judge = PARAMS.get(found.adapter.name)
    if judge is not None:
        judge(report, found.place, found.params)


def check_instance(report: Report) -> None:
    _check_language(report)
    spec = report.resource.spec
    if isinstance(spec, InstanceSpec) and spec.template and spec.compiled_template:
        message = "template and compiledTemplate exclude each other"
        report.error("spec.template", message, "keep the one whose template is meant")
        return
    found = instance_content(report.resource)
    if not isinstance(found, InstanceContent):
        _tell(report, found)
        return
    for name, types in found.template.types.items():
        if types == ANY and not getattr(found.params, name):
            message = f"instances of {found.template.name} need {name}"
            report.error(found.place, message, f"give {name}, which is an expression", "missing-field")
    for field in expressions_of(found.template, found.params):
        check_expression(report, f"{found.place}{field.written}", field.text, field.types)
    if found.template.variety is Variety.ATTRIBUTE_GENERATOR:
        _check_bindings(report, found)
    elif found.bindings:
        message = f"instances of {found.template.name} find no attributes"
        report.error("spec.attributeBindings", message, "leave it out")


def _check_bindings(report: Report, found: InstanceContent) -> None:
    if not found.bindings:
        message = "no attribute takes what is found"
        report.error("spec.attributeBindings", message, "write such as source.name: $out.source_pod_name")
    vocabulary = with_outputs(found.template, DEFAULT_VOCABULARY)
    for attribute, text in found.bindings.items():
        field = f"spec.attributeBindings.{attribute}"
        if not is_attribute(attribute):
            report.error(field, f"{attribute!r} is no attribute", "write one such as source.name")
            continue
        kind = BUILT_IN.get(attribute)
        check_expression(report, field, text, () if kind is None else (kind,), vocabulary)


def check_rule(report: Report) -> None:
    spec: RuleSpec = report.resource.spec
    _check_language(report)
    if spec.match:
        check_expression(report, "spec.match", spec.match, (ValueType.BOOL,))
    operations = (*spec.request_header_operations, *spec.response_header_operations)
    if not spec.actions and not operations:
        report.error("spec", "the rule does nothing", "give actions or header operations", "missing-field")
    for index, action in enumerate(spec.actions):
        field = f"spec.actions[{index}]"
        if not action.handler:
            report.error(field, "the action names no handler", "give handler", "missing-field")
        if action.name:
            message = "outputs of actions are told to nobody"
            report.error(f"{field}.name", message, "leave it out", "unsupported-field")
        if not action.instances:
            report.error(field, "the action names no instances", "give instances", "missing-field")
    _check_operations(report, "spec.requestHeaderOperations", spec.request_header_operations)
    _check_operations(report, "spec.responseHeaderOperations", spec.response_header_operations)
    if spec.sampling is not None:
        _check_sampling(report, spec.sampling)


def _check_sampling(report: Report, said: Sampling) -> None:
    place = "spec.sampling"
    if said.random is None and said.rate_limit is None:
        report.error(place, "it says nothing", "give random or rateLimit", "missing-field")
    if said.random is not None:
        field, share = f"{place}.random", said.random.percent_sampled
        if share is None:
            report.error(field, "no share is given, so nothing would be reported", "give percentSampled")
        elif share.numerator > DENOMINATORS[share.denominator or "HUNDRED"]:
            report.error(f"{field}.percentSampled.numerator", "the share is more than all", "write a smaller one")
        if said.random.attribute_expression:
            types = (ValueType.INT64, ValueType.DOUBLE)
            check_expression(report, f"{field}.attributeExpression", said.random.attribute_expression, types)
    limit = said.rate_limit
    if limit is not None:
        if not limit.sampling_duration or limit.sampling_duration <= 0:
            report.error(f"{place}.rateLimit", "it says no time", "give samplingDuration, such as 1s", "missing-field")
        if limit.sampling_rate < 1:
            report.error(f"{place}.rateLimit.samplingRate", "one of how many is not said", "write 1 or more")
        if limit.max_unsampled_entries < 0:
            report.error(f"{place}.rateLimit.maxUnsampledEntries", "the count is below 0", "write 0 or more")


def check_expression(
    report: Report, field: str, text: str, types: Iterable[ValueType], vocabulary: Vocabulary = DEFAULT_VOCABULARY
) -> None:
    """Syntax and types of one expression."""
    language = language_of(report.resource)
    try:
        tree, _ = check(text, parse_as(language, text, vocabulary), vocabulary, types)
        if language == CEXL and _takes_a_pattern_from_outside(tree):
            message = "the receiver of matches is the pattern, and here a part of the request is taken for it"
            report.warn(field, message, 'write "PATTERN".matches(VALUE)')
    except UnknownAttributeError as problem:
        if OUT.rstrip(".") not in problem.message:
            return
        if vocabulary is DEFAULT_VOCABULARY:
            message = f"at {problem}, as only attributeBindings know what is found"
            report.error(field, message, "bind it to an attribute, and write that")
        else:
            report.error(field, f"at {problem}", problem.remedy)
    except ExpressionError as problem:
        report.error(field, f"at {problem}", problem.remedy, "invalid-expression")


def _takes_a_pattern_from_outside(tree: Expression) -> bool:
    """Whether ``value.matches("pattern")`` is written, the other way round."""
    if not isinstance(tree, Call):
        return False
    if tree.function == "matches" and isinstance(tree.arguments[1], Literal):
        return not isinstance(tree.arguments[0], Literal)
    return any(_takes_a_pattern_from_outside(part) for part in tree.arguments)


def _check_operations(report: Report, field: str, operations: tuple[HeaderOperation, ...]) -> None:
    for index, operation in enumerate(operations):
        place = f"{field}[{index}]"
        if not operation.name:
            report.error(place, "the operation names no header", "give name", "missing-field")
        elif operation.name.startswith(":") or not is_header_name(operation.name):
            report.error(f"{place}.name", f"{operation.name!r} is no header that can be changed", "name another")
        elif operation.name.lower() in FRAMING:
            message = f"{operation.name} says where a message ends, and changed it breaks what goes on"
            report.error(f"{place}.name", message, "leave it out")
        if operation.operation == "REMOVE" and operation.values:
            report.error(f"{place}.values", "REMOVE takes no values", "leave values out")
        if operation.operation != "REMOVE" and not operation.values:
            report.error(place, "the operation has no values", "give values", "missing-field")
        for number, text in enumerate(operation.values):
            check_expression(report, f"{place}.values[{number}]", text, (ValueType.STRING,))


def _check_language(report: Report) -> None:
    language = language_of(report.resource)
    if language not in LANGUAGES:
        message = f"expressions in {language} are not read"
        place = f"metadata.annotations.{LANGUAGE}"
        report.error(place, message, f"write {' or '.join(LANGUAGES)}", "unsupported-field")


def _tell(report: Report, problems: Iterable[Problem]) -> None:
    for problem in problems:
        report.error(problem.field, problem.message, problem.remedy, problem.code)


OLDER_INSTANCES = tuple(TEMPLATES)
"""Kinds that are named for their template."""
OLDER_HANDLERS = tuple(ADAPTERS)
"""Kinds that are named for their adapter."""
