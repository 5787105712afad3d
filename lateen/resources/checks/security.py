"""PeerAuthentication and AuthorizationPolicy."""

from __future__ import annotations

import re

import msgspec

from lateen.resources.checks import Report
from lateen.resources.checks.metadata import is_dry_run
from lateen.resources.checks.selection import check_match_labels, check_targets
from lateen.resources.fields import set_fields
from lateen.resources.security import AuthorizationPolicySpec, Operation, PeerAuthenticationSpec, Rule, Source
from lateen.values.network import MAX_PORT, is_cidr, is_mapped, is_read_header

MAX_RULES = 512
ADDRESSES, PORTS = "such as 10.0.0.0/8 or 10.1.2.3", "write a number from 1 to 65535, in quotes"
PLAIN_KEYS = frozenset(
    {
        "source.ip",
        "remote.ip",
        "source.namespace",
        "source.serviceAccount",
        "source.principal",
        "source.trustDomain",
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.presenter",
        "destination.ip",
        "destination.port",
        "connection.sni",
    }
)
_KEYED = re.compile(
    r"(?:request\.headers\[[^\[\]]+\]|request\.auth\.claims(?:\[[^\[\]]+\])+|experimental\.envoy\.filters\.[^\[\]]+\[.+\])"
)
_OPERATOR = re.compile(r"\{\*\*?\}")
_LITERAL = re.compile(r"[-A-Za-z0-9._~%!$&'()+,;:@=]+")
"""What Envoy takes between the slashes of a template; it ends at any other character."""
HEADER_KEY = "request.headers["
_FREE = frozenset(
    f"rules[].from[].source.{name}" for name in ("namespaces", "notNamespaces", "trustDomains", "notTrustDomains")
)
"""Fields in whose texts a ``*`` stands for others wherever it is."""
_IP_KEYS = frozenset({"source.ip", "remote.ip", "destination.ip"})
_CUSTOM_REFUSED = (
    "namespaces",
    "not_namespaces",
    "service_accounts",
    "not_service_accounts",
    "trust_domains",
    "not_trust_domains",
    "principals",
    "not_principals",
    "request_principals",
    "not_request_principals",
)
_CUSTOM_KEYS = ("source.namespace", "source.serviceAccount", "source.trustDomain", "source.principal", "request.auth.")


def check_peer_authentication(report: Report) -> None:
    spec: PeerAuthenticationSpec = report.resource.spec
    labels = spec.selector.match_labels if spec.selector else {}
    check_match_labels(report, "spec.selector", spec.selector)
    if not spec.port_level_mtls and report.is_given("spec.portLevelMtls", "spec.port_level_mtls"):
        report.error("spec.portLevelMtls", "portLevelMtls names no port", "name one, or leave it out")
    if spec.port_level_mtls and not labels:
        report.error("spec.portLevelMtls", "portLevelMtls needs a selector", "add selector.matchLabels")
    for port in spec.port_level_mtls:
        if not _is_port(port) or port == "0":
            report.error(f"spec.portLevelMtls.{port}", f"{port!r} is no port of a workload", "write its number")
        elif port.startswith("0") and port.lstrip("0") in spec.port_level_mtls:
            report.error(f"spec.portLevelMtls.{port}", f"port {int(port)} stands there twice", "keep one of them")


def check_authorization_policy(report: Report) -> None:
    spec: AuthorizationPolicySpec = report.resource.spec
    action = spec.action or "ALLOW"
    check_match_labels(report, "spec.selector", spec.selector)
    check_targets(report, spec.selector, spec.target_ref, spec.target_refs)
    if action == "CUSTOM" and (spec.provider is None or not spec.provider.name):
        report.error("spec.provider", "CUSTOM needs provider.name", "name one of extensionProviders", "missing-field")
    if action != "CUSTOM" and spec.provider is not None:
        report.error("spec.provider", f"a provider goes with CUSTOM, not with {action}", "leave it out")
    if not spec.rules and action in ("CUSTOM", "DENY"):
        report.error("spec.rules", f"{action} without rules never matches", "add rules, rules: [{}] for all")
    elif not spec.rules and action == "ALLOW":
        denied = "would be" if is_dry_run(report.resource.annotations) else "is"
        report.note("spec", f"ALLOW without rules matches no request, so every request {denied} denied")
    if len(spec.rules) > MAX_RULES:
        report.error("spec.rules", f"there are more than {MAX_RULES} rules", "write several policies")
    for index, rule in enumerate(spec.rules):
        _check_rule(report, f"spec.rules[{index}]", rule, action)
    _check_texts(report)


def _check_texts(report: Report) -> None:
    free = {
        f"spec.rules[{number}].when[{index}].{name}"
        for number, rule in enumerate(report.resource.spec.rules)
        for index, condition in enumerate(rule.when)
        for name in ("values", "notValues")
        if condition.key in ("source.namespace", "source.trustDomain")
    }
    for path, shape, value in set_fields(report.resource.spec.rules, "spec.rules", "rules"):
        if isinstance(value, tuple) and "" in value:
            report.error(path, "an empty text matches nothing", "leave it out")
        is_free = path in free or shape in _FREE
        for index, text in enumerate(value if isinstance(value, tuple) and not is_free else ()):
            if isinstance(text, str) and _has_literal_star(text):
                message = f"a * of {text[:100]!r} stands for itself: only at one end of a text it stands for others"
                report.warn(f"{path}[{index}]", message, "write prefix* or *suffix, or, of paths, {*} for a segment")


def _has_literal_star(text: str) -> bool:
    """Whether a text has a ``*`` that matches only itself: of two ends the first alone is free."""
    rest = text[1:] if text.startswith("*") else text.removesuffix("*")
    return "*" in rest and "{*" not in text


def _check_rule(report: Report, field: str, rule: Rule, action: str) -> None:
    if rule.from_ == ():
        report.error(f"{field}.from", "from has no sources", "leave it out to match every source")
    if rule.to == ():
        report.error(f"{field}.to", "to has no operations", "leave it out to match every operation")
    for index, entry in enumerate(rule.from_ or ()):
        _check_source(report, f"{field}.from[{index}]", entry.source, action)
    for index, target in enumerate(rule.to or ()):
        _check_operation(report, f"{field}.to[{index}]", target.operation)
    for index, entry in enumerate(rule.from_ or ()):
        if action == "ALLOW" and entry.source is not None and allows_the_unknown(entry.source):
            message = "whom this excludes is known by a certificate; a caller in plain text has none and is allowed"
            report.note(f"{field}.from[{index}].source", message, "name who may call, or make the port STRICT")
    if action == "DENY":
        denies = "would deny" if is_dry_run(report.resource.annotations) else "denies"
        message = f"this DENY asks about HTTP alone, so it {denies} every connection to TCP ports"
        tell = report.warn if _denies_every_connection(rule) else report.note if _asks_for_headers(rule) else None
        if tell is not None:
            tell(field, message, "name the HTTP ports in to[].operation.ports")
    for index, condition in enumerate(rule.when):
        place = f"{field}.when[{index}]"
        if not condition.key:
            report.error(place, "a condition needs a key", "such as request.headers[name]", "missing-field")
            continue
        if condition.key not in PLAIN_KEYS and not _KEYED.fullmatch(condition.key):
            report.error(f"{place}.key", f"{condition.key!r} is no attribute", "such as request.headers[name]")
        _check_header_key(report, f"{place}.key", condition.key)
        if not condition.values and not condition.not_values:
            report.error(place, "a condition needs values or notValues", "give some", "missing-field")
        if action == "CUSTOM" and condition.key.startswith(_CUSTOM_KEYS):
            report.error(f"{place}.key", f"{condition.key} does not go with CUSTOM", "leave it to the provider")
        for name, values in (("values", condition.values), ("notValues", condition.not_values)):
            for number, value in enumerate(values):
                if condition.key in _IP_KEYS:
                    _check_block(report, f"{place}.{name}[{number}]", value)
                if condition.key == "destination.port" and not _is_port(value):
                    report.error(f"{place}.{name}[{number}]", f"{value!r} is no port", PORTS)
                if condition.key == "source.serviceAccount":
                    _check_account(report, f"{place}.{name}[{number}]", value)
                if condition.key == "source.principal":
                    _check_principal(report, f"{place}.{name}[{number}]", value)


def _check_header_key(report: Report, field: str, key: str) -> None:
    """Say of a header that no request can have it: Istio takes any name."""
    if key.startswith(HEADER_KEY):
        name = key.removeprefix(HEADER_KEY).removesuffix("]")
        if not is_read_header(name):
            report.note(field, f"no header is called {name[:100]!r}, so this matches no request", "correct the name")


def allows_the_unknown(source: Source) -> bool:
    """Whether a source excludes identities and asks for none."""
    excludes = source.not_principals or source.not_namespaces or source.not_service_accounts or source.not_trust_domains
    asks = source.principals or source.namespaces or source.service_accounts or source.trust_domains
    return bool(excludes) and not asks


def _denies_every_connection(rule: Rule) -> bool:
    """Whether nothing in the rule can be told of a TCP connection; fields of HTTP count as true there."""
    sources = [entry.source for entry in rule.from_ or () if entry.source is not None]
    operations = [entry.operation for entry in rule.to or () if entry.operation is not None]
    if operations:
        return not any(operation.ports or operation.not_ports for operation in operations)
    return bool(sources) and not any(
        msgspec.structs.replace(source, request_principals=(), not_request_principals=()) != Source()
        for source in sources
    )


def _asks_for_headers(rule: Rule) -> bool:
    """Whether all that a rule asks about are headers and tokens, by ``when``; Istio says nothing of that."""
    return not (rule.from_ or rule.to) and bool(rule.when) and all(one.key.startswith("request.") for one in rule.when)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10 and int(text) <= MAX_PORT


def _check_source(report: Report, field: str, source: Source | None, action: str) -> None:
    if source is None or source == Source():
        report.error(field, "the source is empty", "leave from out to match every source")
        return
    for name, blocks in (
        ("ipBlocks", source.ip_blocks),
        ("notIpBlocks", source.not_ip_blocks),
        ("remoteIpBlocks", source.remote_ip_blocks),
        ("notRemoteIpBlocks", source.not_remote_ip_blocks),
    ):
        for index, block in enumerate(blocks):
            _check_block(report, f"{field}.source.{name}[{index}]", block)
    accounts = (*source.service_accounts, *source.not_service_accounts)
    others = (*source.principals, *source.not_principals, *source.namespaces, *source.not_namespaces)
    if accounts and others:
        report.error(f"{field}.source", "serviceAccounts do not go with principals or namespaces", "keep one of them")
    if len(source.service_accounts) > 16 or len(source.not_service_accounts) > 16:
        report.error(f"{field}.source", "there are more than 16 service accounts", "write several sources")
    for name, names in (
        ("serviceAccounts", source.service_accounts),
        ("notServiceAccounts", source.not_service_accounts),
    ):
        for index, account in enumerate(names):
            _check_account(report, f"{field}.source.{name}[{index}]", account)
    for name, names in (("principals", source.principals), ("notPrincipals", source.not_principals)):
        for index, principal in enumerate(names):
            _check_principal(report, f"{field}.source.{name}[{index}]", principal)
    if action == "CUSTOM":
        for name in _CUSTOM_REFUSED:
            if getattr(source, name):
                report.error(f"{field}.source", f"{name} does not go with CUSTOM", "leave it to the provider")


def _check_block(report: Report, field: str, block: str) -> None:
    if not is_cidr(block):
        report.error(field, f"{block!r} is no address or address range", ADDRESSES)
    elif is_mapped(block):
        message = f"{block!r} is an IPv4 address as IPv6 writes it, which no connection has, so it matches nobody"
        report.warn(field, message, "write it as IPv4 does: 10.0.0.0/8")


def _check_account(report: Report, field: str, account: str) -> None:
    if "*" in account or account.count("/") > 1 or len(account) > 320 or not all(account.split("/")):
        report.error(field, f"{account!r} is not namespace/account", "write both in full: shop/cart")


def _check_principal(report: Report, field: str, principal: str) -> None:
    if principal.startswith("spiffe:"):
        message = f"a principal is written without its scheme, so {principal!r} matches nobody"
        report.warn(field, message, f"write {principal.removeprefix('spiffe:').lstrip('/')}")


def _check_operation(report: Report, field: str, operation: Operation | None) -> None:
    if operation is None or operation == Operation():
        report.error(field, "the operation is empty", "leave to out to match every operation")
        return
    for name, ports in (("ports", operation.ports), ("notPorts", operation.not_ports)):
        for index, port in enumerate(ports):
            if not _is_port(port):
                report.error(f"{field}.operation.{name}[{index}]", f"{port!r} is no port", PORTS)
    for name, paths in (("paths", operation.paths), ("notPaths", operation.not_paths)):
        for index, path in enumerate(paths):
            _check_path(report, f"{field}.operation.{name}[{index}]", path)
    for name, methods in (("methods", operation.methods), ("notMethods", operation.not_methods)):
        for index, method in enumerate(methods):
            if method != method.upper():
                message = f"methods of HTTP are written in capitals, and {method!r} is not"
                report.note(f"{field}.operation.{name}[{index}]", message, f"write {method.upper()}")


def _check_path(report: Report, field: str, path: str) -> None:
    """Say what a path means that is easily taken for something else: each of these is compared as it is written."""
    if "{*}" in path or "{**}" in path:
        check_template(report, field, path)
    elif "{" in path or "}" in path:
        report.error(field, f"{path!r} has braces and is no template", "use {*} or {**}, or prefix* or *suffix")
    elif "?" in path or "#" in path:
        report.note(field, "paths are compared without what follows ? or #, so this matches no request", "leave it out")
    elif path and path[0] not in "/*":
        report.note(field, f"paths of requests begin with /, so {path!r} matches none", f"write /{path}")


def check_template(report: Report, field: str, path: str) -> None:
    """Path templates: ``{*}`` is one segment; ``{**}`` is any number of them, and the last of the two kinds."""
    operators = _OPERATOR.findall(path)
    rest = _OPERATOR.sub("", path)
    if "{" in rest or "}" in rest:
        report.error(field, "a template has no names", "use {*} or {**}")
    elif "*" in rest:
        report.error(field, "a template does not mix with *", "use {*} or {**}")
    elif not path.startswith("/"):
        report.error(field, "a template begins with /", f"write /{path}")
    elif mixed := [part for part in path.split("/") if _OPERATOR.search(part) and not _OPERATOR.fullmatch(part)]:
        message = f"the segment {mixed[0]} of the template has more than its operator"
        report.error(field, message, "give an operator a segment of its own, or use a prefix: /ok*")
    elif unfit := [part for part in path[1:].removesuffix("/").split("/") if not _is_segment(part)]:
        message = f"a template has no segment {unfit[0][:100]!r}" if unfit[0] else "a template has no empty segment"
        report.error(field, message, "write letters, digits and -._~%!$&'()+,;:@= between single slashes")
    if "{**}" in operators[:-1]:
        report.error(field, "{**} can only be the last operator of a path", "write {*} before it")


def _is_segment(part: str) -> bool:
    return bool(_OPERATOR.fullmatch(part) or _LITERAL.fullmatch(part))
