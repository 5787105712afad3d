"""RateLimit: what says nothing, contradicts itself, or could be got around."""

from __future__ import annotations

import re

from lateen.resources.checks import Report, check_pattern, check_port, check_string_match, is_header
from lateen.resources.checks.security import check_template
from lateen.resources.checks.selection import check_match_labels
from lateen.resources.rate_limit import (
    CLAIMS,
    HEADERS,
    PLAIN_KEYS,
    Limit,
    LimitResponse,
    LimitRule,
    PathMatch,
    RateLimitSpec,
    RequestMatch,
)
from lateen.values.network import is_header_name

MAX_RULES = 32
MAX_KEYS = 5
MAX_BODY = 4096
SHORTEST_S = 0.05
LONGEST_S = 86_400.0
LONGEST_MATCH = 16_000
"""Envoy reads 100,000 characters, where each of a text may be six, and a test stands around it."""
LENGTH_OF_TEST = 40
LARGEST_PATTERN = 90
"""Envoy takes no larger program of RE2 than 100, and the pattern is put between anchors."""
_NAME = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9_]{0,61}[a-zA-Z0-9])?")
_CLAIM = re.compile(r"request\.auth\.claims(?:\[[^\[\]:%()\"\\\x00-\x1f]+\])+")
_HOST = re.compile(r"[^\s/?#@]+")
_METHOD = re.compile(r"[A-Z][-A-Z0-9_]*")
_OWN_HEADERS = ("x-ratelimit-", "x-lateen-", "x-envoy-")
_FRAMING = frozenset({"content-length", "transfer-encoding", "connection", "host"})


def check_rate_limit(report: Report) -> None:
    spec: RateLimitSpec = report.resource.spec
    check_match_labels(report, "spec.selector", spec.selector)
    if not spec.rules:
        report.error("spec.rules", "there is no rule, so nothing is limited", "add rules", "missing-field")
    if len(spec.rules) > MAX_RULES:
        report.error("spec.rules", f"there are more than {MAX_RULES} rules", "write several RateLimits")
    if spec.on_failure is not None and spec.scope != "global":
        message = "a limit that each proxy counts by itself cannot fail"
        report.error("spec.onFailure", message, "leave it out, or write scope: global")
    names: set[str] = set()
    for index, rule in enumerate(spec.rules):
        field = f"spec.rules[{index}]"
        name = rule.name or str(index)
        if rule.name and not _NAME.fullmatch(rule.name):
            report.error(f"{field}.name", f"{rule.name!r} is no name", "use letters, digits and dashes")
        elif name in names:
            report.error(f"{field}.name", f"two rules are called {name}", "give each a name of its own")
        names.add(name)
        _check_rule(report, field, rule)
    _check_response(report, "spec.response", spec.response)


def _check_rule(report: Report, field: str, rule: LimitRule) -> None:
    _check_limit(report, f"{field}.limit", rule.limit)
    _check_match(report, f"{field}.match", rule.match)
    if len(rule.per) > MAX_KEYS:
        report.error(f"{field}.per", f"requests are counted by {MAX_KEYS} things at most", "write several rules")
    keys = [key.lower() if key.startswith(HEADERS) else key for key in rule.per]
    for index, key in enumerate(rule.per):
        _check_key(report, f"{field}.per[{index}]", key)
        if keys[index] in keys[:index]:
            report.error(f"{field}.per[{index}]", f"{key} stands there twice", "name it once")


def _check_limit(report: Report, field: str, limit: Limit) -> None:
    if limit.requests == 0:
        report.error(f"{field}.requests", "no request at all would pass", "deny by an AuthorizationPolicy instead")
    if limit.burst == 0:
        report.error(f"{field}.burst", "no request at all would pass", "leave it out, or allow at least 1")
    if not SHORTEST_S <= limit.per <= LONGEST_S:
        report.error(f"{field}.per", "limits are for 50ms at least and 24h at most", "such as 1s, 1m or 1h")


def _check_key(report: Report, field: str, key: str) -> None:
    if key.startswith(HEADERS):
        name = key.removeprefix(HEADERS).removesuffix("]")
        if not key.endswith("]") or not is_header(name):
            report.error(field, f"{key!r} names no header", "such as request.headers[x-api-key]")
    elif key.startswith(CLAIMS):
        if not _CLAIM.fullmatch(key):
            remedy = "such as request.auth.claims[sub]; a claim with : % ( ) or quotes in its name cannot be taken"
            report.error(field, f"{key!r} names no claim", remedy)
    elif key not in PLAIN_KEYS:
        known = ", ".join((*PLAIN_KEYS, "request.headers[NAME]", "request.auth.claims[NAME]"))
        report.error(field, f"requests cannot be counted by {key!r}", f"use one of {known}")


# --- what is counted -------------------------------------------------------------------------------------------------


def _check_match(report: Report, field: str, match: RequestMatch) -> None:
    for name in ("methods", "hosts", "paths", "ports"):
        if getattr(match, name) == ():
            message = f"{name} is empty, which no request fits"
            report.error(f"{field}.{name}", message, "leave it out for every request, or add entries")
    for index, method in enumerate(match.methods or ()):
        if not _METHOD.fullmatch(method):
            report.error(f"{field}.methods[{index}]", f"{method!r} is no method", "write it in capitals, such as GET")
    for index, host in enumerate(match.hosts or ()):
        wrong = not host.strip("*") or "*" in host[1:-1] or not _HOST.fullmatch(host)
        if host != "*" and wrong:
            report.error(f"{field}.hosts[{index}]", f"{host!r} is no host", "such as shop.example or *.example")
    for index, path in enumerate(match.paths or ()):
        _check_path(report, f"{field}.paths[{index}]", path)
    for name, wanted in match.headers.items():
        if not is_header(name):
            report.error(f"{field}.headers.{name}", f"{name!r} is no header", "such as x-kind")
        check_string_match(report, f"{field}.headers.{name}", wanted)
        if wanted.regex is not None:
            _check_size(report, f"{field}.headers.{name}.regex", wanted.regex)
    for index, port in enumerate(match.ports or ()):
        check_port(report, f"{field}.ports[{index}]", port)
    paths = (path.exact or path.prefix or path.regex or path.template or "" for path in match.paths or ())
    texts = [*(match.methods or ()), *(match.hosts or ()), *paths, *map(str, match.ports or ())]
    if sum(len(text) + LENGTH_OF_TEST for text in texts) > LONGEST_MATCH:
        report.error(field, "there is more to look for than Envoy reads", "write several rules, or shorter texts")


def _check_path(report: Report, field: str, path: PathMatch) -> None:
    given = [name for name in ("exact", "prefix", "regex", "template") if getattr(path, name) is not None]
    if len(given) != 1:
        message = f"{' and '.join(given)} exclude each other" if given else "the path says nothing"
        report.error(field, message, "write exact, prefix, regex or template")
        return
    if path.regex is not None:
        check_pattern(report, f"{field}.regex", path.regex)
        _check_size(report, f"{field}.regex", path.regex)
        return
    text = path.exact or path.prefix or path.template or ""
    if not text.startswith("/"):
        report.error(f"{field}.{given[0]}", f"{text!r} is no path", "begin it with /")
    if "?" in text or "#" in text:
        report.error(f"{field}.{given[0]}", "paths are looked at without their query", "leave ? and # out")
    if path.template is not None:
        check_template(report, f"{field}.template", text)
        parts = [".*".join(map(_quoted, part.split("{**}"))) for part in text.split("{*}")]
        _check_size(report, f"{field}.template", "[^/]+".join(parts))


def _quoted(text: str) -> str:
    import re2

    return str(re2.escape(text))


def _check_size(report: Report, field: str, pattern: str) -> None:
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        size = re2.compile(pattern, options).programsize
    except re2.error:
        return
    if size > LARGEST_PATTERN:
        report.error(field, f"the pattern is too large for Envoy: {size} of {LARGEST_PATTERN}", "write several paths")


# --- the answer ------------------------------------------------------------------------------------------------------


def _check_response(report: Report, field: str, response: LimitResponse) -> None:
    if response.status is not None and not 400 <= response.status <= 599:
        report.error(
            f"{field}.status", f"{response.status} does not tell a client that it failed", "such as 429 or 503"
        )
    if len(response.body.encode()) > MAX_BODY:
        report.error(f"{field}.body", f"the body is longer than {MAX_BODY} bytes", "write less")
    for name, value in response.headers.items():
        low = name.lower()
        if not is_header_name(name) or low in _FRAMING or low.startswith(_OWN_HEADERS):
            report.error(f"{field}.headers.{name}", f"{name!r} cannot be set here", "use a header of your own")
        if any(ord(character) < 32 or ord(character) == 127 for character in value):
            report.error(f"{field}.headers.{name}", "a header value cannot hold control characters", "leave them out")
