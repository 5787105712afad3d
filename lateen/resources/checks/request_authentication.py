"""RequestAuthentication: rules for tokens. Keys are looked at only as far as their form goes; nothing is fetched."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from lateen.resources.checks import Report, check_duration, is_header
from lateen.resources.checks.selection import check_match_labels, check_targets
from lateen.resources.request_authentication import JwtRule, RequestAuthenticationSpec

MAX_RULES = 4096
MAX_URI = 2048
MAX_CLAIMS = 64
PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "k"})


def check_request_authentication(report: Report) -> None:
    spec: RequestAuthenticationSpec = report.resource.spec
    check_match_labels(report, "spec.selector", spec.selector)
    check_targets(report, spec.selector, spec.target_ref, spec.target_refs)
    if len(spec.jwt_rules) > MAX_RULES:
        report.error("spec.jwtRules", f"there are more than {MAX_RULES} rules")
    for index, rule in enumerate(spec.jwt_rules):
        _check_rule(report, f"spec.jwtRules[{index}]", rule)


def _check_rule(report: Report, field: str, rule: JwtRule) -> None:
    if rule.issuer == "":
        report.error(f"{field}.issuer", "the issuer is empty", "leave it out, or name it")
    if not rule.issuer and not rule.jwks_uri:
        report.error(field, "a rule needs an issuer or a jwksUri", code="missing-field")
    if rule.jwks and rule.jwks_uri:
        report.error(field, "jwks and jwksUri exclude each other", "keep one of them")
    if rule.jwks_uri is not None:
        _check_uri(report, f"{field}.jwksUri", rule.jwks_uri)
    if rule.jwks:
        _check_keys(report, f"{field}.jwks", rule.jwks)
    for name, texts in (
        ("audiences", rule.audiences),
        ("fromParams", rule.from_params),
        ("fromCookies", rule.from_cookies),
        ("fromHeaders", tuple(header.name for header in rule.from_headers)),
        ("spaceDelimitedClaims", rule.space_delimited_claims),
    ):
        for index, text in enumerate(texts):
            if not text:
                report.error(f"{field}.{name}[{index}]", "the name is empty", "leave it out")
    if len(rule.space_delimited_claims) > MAX_CLAIMS:
        report.error(f"{field}.spaceDelimitedClaims", f"there are more than {MAX_CLAIMS} claims")
    if rule.output_payload_to_header == "":
        report.error(f"{field}.outputPayloadToHeader", "the header name is empty", "leave it out")
    _check_outputs(report, field, rule)
    check_duration(report, f"{field}.timeout", rule.timeout)


def _check_outputs(report: Report, field: str, rule: JwtRule) -> None:
    seen: set[str] = set()
    for index, output in enumerate(rule.output_claim_to_headers):
        place = f"{field}.outputClaimToHeaders[{index}]"
        if not output.claim:
            report.error(place, "there is no claim", "give claim", "missing-field")
        if not is_header(output.header):
            report.error(f"{place}.header", f"{output.header!r} is not a header name")
        elif output.header.lower() in seen:
            report.error(f"{place}.header", f"header {output.header} stands twice", "give each claim its own")
        seen.add(output.header.lower())


def _check_uri(report: Report, field: str, uri: str) -> None:
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError as problem:
        report.error(field, f"{uri!r} is no URL: {problem}")
        return
    if parts.scheme not in ("http", "https") or not parts.hostname:
        report.error(field, f"{uri!r} is no URL of http or https", "such as https://issuer.example.com/keys")
    if len(uri) > MAX_URI:
        report.error(field, f"the URL is longer than {MAX_URI} characters")


def _check_keys(report: Report, field: str, text: str) -> None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    keys = value.get("keys", [value]) if isinstance(value, dict) else None
    if not isinstance(keys, list) or not all(isinstance(key, dict) and key.get("kty") for key in keys):
        report.error(field, "jwks is no set of JSON web keys", 'such as {"keys": [...]}')
    elif any(PRIVATE_MEMBERS & key.keys() for key in keys):
        report.warn(field, "jwks has private keys: whoever reads it can make tokens", "publish public keys alone")
