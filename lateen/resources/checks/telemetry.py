"""Telemetry: tracing, metrics and access logs."""

from __future__ import annotations

from lateen.resources.checks import Report, check_duration
from lateen.resources.checks.header_format import check_format
from lateen.resources.checks.selection import check_match_labels, check_targets
from lateen.resources.telemetry import CustomTag, MetricsOverride, ProviderRef, TelemetrySpec, Tracing
from lateen.values.envoy_attributes import in_place_of, unknown_attributes
from lateen.values.expression import find_syntax_error, without_string
from lateen.values.network import is_read_header
from lateen.values.packed_labels import PACKED
from lateen.values.prometheus_label import as_label, label_problem

OF_THE_PAGE = frozenset({"pod", "namespace", "le", "quantile"})
"""Labels by which the merged page says whose a series is, and those of histograms."""


def check_telemetry(report: Report) -> None:
    spec: TelemetrySpec = report.resource.spec
    check_match_labels(report, "spec.selector", spec.selector)
    check_targets(report, spec.selector, spec.target_ref, spec.target_refs)
    if len(spec.tracing) > 1:
        report.warn("spec.tracing", "only one entry of tracing is used", "merge them")
    for index, tracing in enumerate(spec.tracing):
        _check_tracing(report, f"spec.tracing[{index}]", tracing)
    for index, metrics in enumerate(spec.metrics):
        field = f"spec.metrics[{index}]"
        _check_providers(report, field, metrics.providers)
        check_duration(report, f"{field}.reportingInterval", metrics.reporting_interval)
        for number, override in enumerate(metrics.overrides):
            _check_override(report, f"{field}.overrides[{number}]", override)
    for index, logging in enumerate(spec.access_logging):
        field = f"spec.accessLogging[{index}]"
        _check_providers(report, field, logging.providers)
        if logging.filter is not None:
            _check_expression(report, f"{field}.filter.expression", logging.filter.expression, "nothing is logged")


def _check_expression(report: Report, field: str, text: str, otherwise: str) -> None:
    problem = find_syntax_error(text)
    if problem:
        report.error(field, f"this is no CEL expression: {problem}", "write such as response.code >= 400")
        return
    for name in unknown_attributes(text):
        remedy = in_place_of(name)
        report.warn(field, f"Envoy has no attribute {name}, so that {otherwise}", remedy, "unknown-attribute")


def _check_providers(report: Report, field: str, providers: tuple[ProviderRef, ...]) -> None:
    for index, provider in enumerate(providers):
        if not provider.name:
            report.error(f"{field}.providers[{index}]", "the provider has no name", "give name", "missing-field")


def _check_tracing(report: Report, field: str, tracing: Tracing) -> None:
    if len(tracing.providers) > 1:
        report.warn(f"{field}.providers", "only one provider of tracing is used", "keep one")
    _check_providers(report, field, tracing.providers)
    share = tracing.random_sampling_percentage
    if share is not None and not 0 <= share <= 100:
        report.error(f"{field}.randomSamplingPercentage", f"{share} is not between 0 and 100")
    for name, tag in tracing.custom_tags.items():
        check_tag(report, f"{field}.customTags.{name}", name, tag)


def check_tag(report: Report, field: str, name: str, tag: CustomTag) -> None:
    """One tag of spans, wherever it stands."""
    if not name:
        report.error(field, "a tag has an empty name")
    given = sum(kind is not None for kind in (tag.literal, tag.environment, tag.header, tag.formatter))
    if given > 1:
        report.error(field, "a tag has one source", "keep one of literal, environment, header and formatter")
    if given == 0:
        report.warn(field, "the tag has no source, so it is not set", "give literal, environment, header or formatter")
    if tag.literal is not None and not tag.literal.value:
        report.error(f"{field}.literal", "the value is empty", code="missing-field")
    if tag.formatter is not None and not tag.formatter.value:
        report.error(f"{field}.formatter", "the value is empty", code="missing-field")
    elif tag.formatter is not None:
        check_format(report, f"{field}.formatter.value", tag.formatter.value)
    if tag.environment is not None and not tag.environment.name:
        report.error(f"{field}.environment", "the variable has no name", "give name", "missing-field")
    if tag.header is not None and not tag.header.name:
        report.error(f"{field}.header", "the header has no name", "give name", "missing-field")
    elif tag.header is not None and not is_read_header(tag.header.name):
        report.error(f"{field}.header.name", f"{tag.header.name!r} is no name of a header", "such as x-request-id")


def _check_override(report: Report, field: str, override: MetricsOverride) -> None:
    match = override.match
    if match is not None:
        if match.custom_metric == "":
            report.error(f"{field}.match.customMetric", "the metric's name is empty", "leave it out")
        if match.custom_metric is not None and match.metric is not None:
            report.error(f"{field}.match", "metric and customMetric exclude each other", "keep one of them")
    for name, tag in override.tag_overrides.items():
        place = f"{field}.tagOverrides.{name}"
        wrong = label_problem(name, OF_THE_PAGE) if tag.operation != "REMOVE" else ""
        if wrong:
            report.error(place, f"{name!r} {wrong}", f"write another name{_such_as(name)}")
        if name == PACKED:
            report.error(place, "labels that are always the same have this name in the proxy", "give another name")
        if tag.operation == "REMOVE" and tag.value:
            report.error(f"{place}.value", "REMOVE takes no value", "leave value out")
        if tag.value:
            _check_expression(report, f"{place}.value", without_string(tag.value), "it always reads unknown")
        if tag.operation != "REMOVE" and not tag.value:
            report.error(place, "UPSERT needs a value", "give value", "missing-field")


def _such_as(name: str) -> str:
    near = as_label(name)
    return f", such as {near}" if name and not label_problem(near, OF_THE_PAGE) else ""
