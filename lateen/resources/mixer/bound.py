"""Manifests of attributes, descriptors of adapters and templates, QuotaSpec and HTTPAPISpec with their bindings."""

from __future__ import annotations

from typing import Literal

from lateen.resources.base import Spec, StringMatch


class AttributeInfo(Spec, frozen=True):
    description: str = ""
    value_type: (
        Literal[
            "VALUE_TYPE_UNSPECIFIED",
            "STRING",
            "INT64",
            "DOUBLE",
            "BOOL",
            "TIMESTAMP",
            "IP_ADDRESS",
            "EMAIL_ADDRESS",
            "URI",
            "DNS_NAME",
            "DURATION",
            "STRING_MAP",
        ]
        | None
    ) = None


class AttributeManifestSpec(Spec, frozen=True):
    """``attributes`` by their names."""

    revision: str = ""
    name: str = ""
    attributes: dict[str, AttributeInfo] = {}


class DescriptorSpec(Spec, frozen=True):
    """Of an adapter or a template outside Mixer."""

    description: str = ""
    session_based: bool = False
    templates: tuple[str, ...] = ()
    config: str = ""
    descriptor: str = ""


class AttributeMatch(Spec, frozen=True):
    """``clause`` by attributes, all of which have to match."""

    clause: dict[str, StringMatch] = {}


class ChargedQuota(Spec, frozen=True):
    quota: str = ""
    charge: int | None = None


class QuotaRule(Spec, frozen=True):
    match: tuple[AttributeMatch, ...] = ()
    quotas: tuple[ChargedQuota, ...] = ()


class QuotaSpecSpec(Spec, frozen=True):
    rules: tuple[QuotaRule, ...] = ()


class BoundService(Spec, frozen=True):
    """``service`` ``*``: all of them."""

    name: str = ""
    namespace: str = ""
    domain: str = ""
    service: str = ""
    labels: dict[str, str] = {}


class BoundSpec(Spec, frozen=True):
    name: str = ""
    namespace: str = ""


class QuotaSpecBindingSpec(Spec, frozen=True):
    services: tuple[BoundService, ...] = ()
    quota_specs: tuple[BoundSpec, ...] = ()


class StringMapValue(Spec, frozen=True):
    entries: dict[str, str] = {}


class AttributeValue(Spec, frozen=True):
    """One of them; a time is written as text."""

    string_value: str | None = None
    int64_value: int | None = None
    double_value: float | None = None
    bool_value: bool | None = None
    bytes_value: str | None = None
    timestamp_value: str | None = None
    duration_value: str | None = None
    string_map_value: StringMapValue | None = None


class AttributeSet(Spec, frozen=True):
    """``attributes`` by their names."""

    attributes: dict[str, AttributeValue] = {}


class ApiPattern(Spec, frozen=True):
    attributes: AttributeSet | None = None
    http_method: str = ""
    uri_template: str = ""
    regex: str = ""


class ApiKeyPlace(Spec, frozen=True):
    query: str = ""
    header: str = ""
    cookie: str = ""


class HttpApiSpecSpec(Spec, frozen=True):
    attributes: AttributeSet | None = None
    patterns: tuple[ApiPattern, ...] = ()
    api_keys: tuple[ApiKeyPlace, ...] = ()


class HttpApiSpecBindingSpec(Spec, frozen=True):
    services: tuple[BoundService, ...] = ()
    api_specs: tuple[BoundSpec, ...] = ()
