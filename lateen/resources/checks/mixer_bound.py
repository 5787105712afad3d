"""Manifests of attributes, and what is bound to services: quotas and descriptions of HTTP APIs."""

from __future__ import annotations

import msgspec

from lateen.expressions.functions import Unusable, compile_pattern, to_duration, to_timestamp
from lateen.expressions.parse import is_attribute
from lateen.expressions.vocabulary import BUILT_IN
from lateen.resources.base import StringMatch
from lateen.resources.checks import Report
from lateen.resources.mixer.bound import (
    AttributeManifestSpec,
    AttributeSet,
    AttributeValue,
    BoundService,
    BoundSpec,
    HttpApiSpecBindingSpec,
    HttpApiSpecSpec,
    QuotaSpecBindingSpec,
    QuotaSpecSpec,
)
from lateen.resources.mixer.uri_template import pattern_of
from lateen.values.network import is_header_name

TOLD = ("source.", "origin.", "connection.", "context.", "destination.")
"""Attributes that say who calls, how and whom: by them rules decide."""
UNSPECIFIED = "VALUE_TYPE_UNSPECIFIED"


def check_manifest(report: Report) -> None:
    spec: AttributeManifestSpec = report.resource.spec
    if not spec.attributes:
        report.error("spec", "the manifest defines no attributes", "give attributes", "missing-field")
    for name, info in spec.attributes.items():
        field = f"spec.attributes.{name}"
        if not is_attribute(name):
            message = f"{name!r} cannot stand in expressions"
            report.error(field, message, "join names of letters, digits and _ by dots")
            continue
        if info.value_type in (None, UNSPECIFIED):
            report.error(field, f"{name} has no type", "give valueType, such as STRING", "missing-field")
            continue
        known = BUILT_IN.get(name)
        if known is not None and known.value != info.value_type:
            message = f"{name} is {known.value} here, whatever a manifest says"
            report.error(f"{field}.valueType", message, f"write {known.value}, or name another attribute")


def check_quota_spec(report: Report) -> None:
    spec: QuotaSpecSpec = report.resource.spec
    if not spec.rules:
        report.error("spec", "there are no rules", "give rules", "missing-field")
    for index, rule in enumerate(spec.rules):
        place = f"spec.rules[{index}]"
        if not rule.quotas:
            report.error(place, "the rule charges no quotas", "give quotas", "missing-field")
        for number, quota in enumerate(rule.quotas):
            field = f"{place}.quotas[{number}]"
            if not quota.quota:
                report.error(field, "no quota is named", "give quota", "missing-field")
            if quota.charge is not None and quota.charge < 0:
                report.error(f"{field}.charge", "the charge is below 0", "write 1 or more")
        for number, match in enumerate(rule.match):
            if not match.clause:
                report.error(f"{place}.match[{number}]", "the match has no clause", "give clause", "missing-field")
            for attribute, text in match.clause.items():
                _check_clause(report, f"{place}.match[{number}].clause.{attribute}", attribute, text)


def _check_clause(report: Report, field: str, attribute: str, text: StringMatch) -> None:
    if not is_attribute(attribute):
        report.error(field, f"{attribute!r} is no attribute", "write one such as request.path")
    given = [one for one in (text.exact, text.prefix, text.regex) if one is not None]
    if len(given) != 1:
        report.error(field, "one of exact, prefix and regex is needed", "write one of them", "missing-field")
    if text.regex is not None:
        _check_regex(report, f"{field}.regex", text.regex)


def _check_regex(report: Report, field: str, pattern: str) -> None:
    try:
        compile_pattern(pattern)
    except Unusable as problem:
        report.error(field, str(problem), "correct it")


def check_quota_binding(report: Report) -> None:
    spec: QuotaSpecBindingSpec = report.resource.spec
    _check_bound(report, spec.services, spec.quota_specs, "quotaSpecs")


def check_api_binding(report: Report) -> None:
    spec: HttpApiSpecBindingSpec = report.resource.spec
    _check_bound(report, spec.services, spec.api_specs, "apiSpecs")


def _check_bound(
    report: Report, services: tuple[BoundService, ...], bound: tuple[BoundSpec, ...], written: str
) -> None:
    if not services:
        report.error("spec", "no services are bound", "give services", "missing-field")
    for index, service in enumerate(services):
        if not service.name and not service.service:
            report.error(f"spec.services[{index}]", "no service is named", "give name or service", "missing-field")
    if not bound:
        report.error("spec", f"nothing is bound to them: {written} is empty", f"give {written}", "missing-field")
    for index, one in enumerate(bound):
        if not one.name:
            report.error(f"spec.{written}[{index}]", "it has no name", "give name", "missing-field")


def check_api_spec(report: Report) -> None:
    spec: HttpApiSpecSpec = report.resource.spec
    if not spec.patterns and not spec.attributes and not spec.api_keys:
        report.error("spec", "it describes nothing", "give attributes, patterns or apiKeys", "missing-field")
    _check_values(report, "spec.attributes.attributes", spec.attributes)
    for index, pattern in enumerate(spec.patterns):
        place = f"spec.patterns[{index}]"
        _check_values(report, f"{place}.attributes.attributes", pattern.attributes)
        if pattern.attributes is None or not pattern.attributes.attributes:
            report.error(place, "the pattern sets no attributes", "give attributes", "missing-field")
        if bool(pattern.uri_template) is bool(pattern.regex):
            report.error(place, "one of uriTemplate and regex is needed", "write one of them", "missing-field")
        if not pattern.http_method:
            report.error(place, "no method is named", "give httpMethod", "missing-field")
        if pattern.regex:
            _check_regex(report, f"{place}.regex", pattern.regex)
        if pattern.uri_template:
            _check_template(report, f"{place}.uriTemplate", pattern.uri_template)
    for index, key in enumerate(spec.api_keys):
        if sum(bool(one) for one in (key.query, key.header, key.cookie)) != 1:
            message = "one of query, header and cookie is needed"
            report.error(f"spec.apiKeys[{index}]", message, "write one of them", "missing-field")
        if key.header and not is_header_name(key.header):
            report.error(f"spec.apiKeys[{index}].header", f"{key.header!r} is no name of a header", "such as x-api-key")


def _check_template(report: Report, field: str, template: str) -> None:
    try:
        compile_pattern(pattern_of(template))
    except (ValueError, Unusable) as problem:
        report.error(field, str(problem), "write such as /pets/{id}")


def _check_values(report: Report, field: str, given: AttributeSet | None) -> None:
    for name, value in given.attributes.items() if given is not None else ():
        place = f"{field}.{name}"
        found = [one for one in msgspec.structs.fields(AttributeValue) if getattr(value, one.name) is not None]
        if not is_attribute(name):
            report.error(place, f"{name!r} is no attribute", "write one such as api.operation")
        elif name.startswith(TOLD):
            message = f"{name} is what a request itself tells, and cannot be described"
            report.error(place, message, "set api.service, api.operation or an attribute of a manifest")
        elif len(found) != 1:
            report.error(place, "one value is needed", "give one, such as stringValue", "missing-field")
        elif value.bytes_value is not None:
            report.error(
                f"{place}.bytesValue", "no attribute is made of bytes", "write stringValue", "unsupported-field"
            )
        else:
            _check_time(report, place, value)


def _check_time(report: Report, field: str, value: AttributeValue) -> None:
    for name, text, read in (
        ("timestampValue", value.timestamp_value, to_timestamp),
        ("durationValue", value.duration_value, to_duration),
    ):
        try:
            if text is not None:
                read(text)
        except Unusable as problem:
            report.error(f"{field}.{name}", str(problem), "correct it")
