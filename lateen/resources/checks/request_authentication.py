"""RequestAuthentication: rules for tokens. Keys are looked at only as far as their form goes; nothing is fetched."""

from __future__ import annotations

from lateen.findings import Finding, Severity
from lateen.resources.checks import Report, check_duration, is_header
from lateen.resources.checks.selection import check_match_labels, check_targets
from lateen.resources.key_set import KeySetError, read_key_set
from lateen.resources.request_authentication import JwtRule, RequestAuthenticationSpec
from lateen.resources.resource import Resource
from lateen.values.network import is_header_name
from lateen.values.web_address import url_problem

MAX_RULES = 4096
ASK_FOR_TOKENS = 'ask for one by presence: REQUIRED, or by an AuthorizationPolicy with requestPrincipals: ["*"]'
MAX_CLAIMS = 64
HEADER_NAME = "such as x-user"


def check_request_authentication(report: Report) -> None:
    spec: RequestAuthenticationSpec = report.resource.spec
    check_match_labels(report, "spec.selector", spec.selector)
    check_targets(report, spec.selector, spec.target_ref, spec.target_refs)
    if len(spec.jwt_rules) > MAX_RULES:
        report.error("spec.jwtRules", f"there are more than {MAX_RULES} rules", "write several policies")
    for index, rule in enumerate(spec.jwt_rules):
        check_jwt_rule(report, f"spec.jwtRules[{index}]", rule)
    _check_demand(report, spec)


def _check_demand(report: Report, spec: RequestAuthenticationSpec) -> None:
    """Say what a policy does not do that is easily expected of it."""
    if not spec.jwt_rules:
        report.note("spec", "there are no jwtRules, so nothing is looked at and every request passes", "add a rule")
    required = [(index, rule) for index, rule in enumerate(spec.jwt_rules) if rule.presence == "REQUIRED"]
    for number, (index, rule) in enumerate(required):
        if any(_places(rule) & _places(other) for _, other in required[:number]):
            message = "this token is required at the place of another that is required, so every request is refused"
            report.warn(f"spec.jwtRules[{index}].presence", message, "give each rule a fromHeaders of its own")


def token_demand(resource: Resource) -> tuple[Finding, ...]:
    """A note where a policy by itself asks for no token: another one may, which whoever reads one file cannot see."""
    spec = resource.spec
    if not isinstance(spec, RequestAuthenticationSpec) or not spec.jwt_rules:
        return ()
    if any(rule.presence == "REQUIRED" for rule in spec.jwt_rules):
        return ()
    message = "by itself this lets requests without a token pass: only tokens that are there are verified"
    return (Finding("no-token-required", Severity.INFO, message, resource.origin_at("spec.jwtRules"), ASK_FOR_TOKENS),)


def _places(rule: JwtRule) -> set[tuple[str, str]]:
    """Where a rule looks for its token."""
    found = {("header", header.name.lower()) for header in rule.from_headers}
    found |= {("parameter", name) for name in rule.from_params} | {("cookie", name) for name in rule.from_cookies}
    return found or {("header", "authorization"), ("parameter", "access_token")}


def check_jwt_rule(report: Report, field: str, rule: JwtRule) -> None:
    """One rule for tokens, wherever it stands."""
    if rule.issuer == "":
        report.error(f"{field}.issuer", "the issuer is empty", "leave it out, or name it")
    if not rule.issuer and not rule.jwks_uri:
        report.error(field, "a rule needs an issuer or a jwksUri", "give issuer", "missing-field")
    if rule.jwks and rule.jwks_uri:
        report.error(field, "jwks and jwksUri exclude each other", "keep one of them")
    if rule.issuer and not rule.jwks and not rule.jwks_uri and url_problem(rule.issuer):
        message = f"there are no keys: {rule.issuer[:100]!r} is no URL where the issuer could be asked for them"
        report.warn(f"{field}.issuer", message, "give jwks or jwksUri", "keys-not-fetched")
    if rule.jwks_uri is not None:
        _check_uri(report, f"{field}.jwksUri", rule.jwks_uri)
    if rule.jwks:
        _check_keys(report, f"{field}.jwks", rule.jwks)
    for name, texts in (
        ("audiences", rule.audiences),
        ("fromParams", rule.from_params),
        ("fromCookies", rule.from_cookies),
        ("spaceDelimitedClaims", rule.space_delimited_claims),
    ):
        for index, text in enumerate(texts):
            if not text:
                report.error(f"{field}.{name}[{index}]", "the name is empty", "leave it out")
    if len(rule.space_delimited_claims) > MAX_CLAIMS:
        report.error(f"{field}.spaceDelimitedClaims", f"there are more than {MAX_CLAIMS} claims", "leave some out")
    for index, header in enumerate(rule.from_headers):
        _check_header(report, f"{field}.fromHeaders[{index}].name", header.name)
        if not (header.prefix or "").isprintable():
            report.error(
                f"{field}.fromHeaders[{index}].prefix",
                "the prefix has characters that no header can have",
                "such as Bearer",
            )
    if rule.output_payload_to_header is not None:
        _check_header(report, f"{field}.outputPayloadToHeader", rule.output_payload_to_header, is_output=True)
    _check_outputs(report, field, rule)
    check_duration(report, f"{field}.timeout", rule.timeout)


def _check_header(report: Report, field: str, name: str, *, is_output: bool = False) -> None:
    if not name:
        report.error(field, "the header name is empty", "leave it out")
    elif not is_header_name(name):
        report.error(field, f"{name!r} is not a header name", HEADER_NAME)
    elif is_output and name.lower() == "host":
        report.error(field, "the host of a request cannot be made of a token", "name a header of its own")


def _check_outputs(report: Report, field: str, rule: JwtRule) -> None:
    seen: set[str] = set()
    for index, output in enumerate(rule.output_claim_to_headers):
        place = f"{field}.outputClaimToHeaders[{index}]"
        if not output.claim:
            report.error(place, "there is no claim", "give claim", "missing-field")
        if not is_header(output.header):
            report.error(f"{place}.header", f"{output.header!r} is not a header name", HEADER_NAME)
        elif output.header.lower() in seen:
            report.error(f"{place}.header", f"header {output.header} stands twice", "give each claim its own")
        elif output.header.lower() == "host":
            _check_header(report, f"{place}.header", output.header, is_output=True)
        seen.add(output.header.lower())


def _check_uri(report: Report, field: str, uri: str) -> None:
    problem = url_problem(uri)
    if problem:
        report.error(field, f"{uri[:100]!r} {problem}", "such as https://issuer.example.com/keys")


def _check_keys(report: Report, field: str, text: str) -> None:
    try:
        keys = read_key_set(text, alone=True)
    except KeySetError as problem:
        report.error(field, f"jwks is no usable set of public keys: {problem}", 'such as {"keys": [...]}')
        return
    if keys.left_out:
        report.warn(field, keys.left_out, "leave it out, or mend it", "unused-key")
    if keys.is_private:
        report.warn(field, "jwks has private keys: whoever reads it can make tokens", "publish public keys alone")
