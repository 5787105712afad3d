"""Policy and MeshPolicy, each judged by itself."""

from __future__ import annotations

from lateen.resources.checks import Report, check_pattern
from lateen.resources.checks.request_authentication import check_jwt_rule
from lateen.resources.legacy_authentication import AuthenticationPolicySpec, OriginJwt, PathMatch, PolicyTarget
from lateen.resources.legacy_tokens import jwt_rule
from lateen.values.network import MAX_PORT, is_label

NAME = "default"


def check_authentication_policy(report: Report) -> None:
    spec: AuthenticationPolicySpec = report.resource.spec
    is_mesh = report.resource.key.kind == "MeshPolicy"
    if report.resource.key.name != NAME and (is_mesh or not spec.targets):
        whose = "a MeshPolicy" if is_mesh else "a Policy without targets"
        report.error("metadata.name", f"{whose} has to be named {NAME}", f"name it {NAME}, or give targets")
    if spec.targets and (is_mesh or report.resource.key.name == NAME):
        whose = "a MeshPolicy" if is_mesh else f"a Policy named {NAME}"
        report.error("spec.targets", f"{whose} has no targets", "give the Policy another name")
    for index, target in enumerate(spec.targets):
        _check_target(report, f"spec.targets[{index}]", target)
    _check_peers(report, spec)
    _check_origins(report, spec)


def _check_target(report: Report, field: str, target: PolicyTarget) -> None:
    if not is_label(target.name):
        message = f"{target.name!r} is no short name of a service" if target.name else "a target needs a name"
        report.error(f"{field}.name", message, "name a service of the Policy's namespace, without dots")
    for index, port in enumerate(target.ports):
        place = f"{field}.ports[{index}]"
        if (port.number is None) == (not port.name):
            report.error(place, "a port has either a number or a name", "keep one of them")
        if port.number is not None and not 0 < port.number <= MAX_PORT:
            report.error(
                f"{place}.number", f"port {port.number} is not between 1 and {MAX_PORT}", "name a port of the service"
            )


def _check_peers(report: Report, spec: AuthenticationPolicySpec) -> None:
    if len(spec.peers) > 1:
        report.error("spec.peers", "there is more than one way to know peers", "keep one")
    for index, peer in enumerate(spec.peers):
        place = f"spec.peers[{index}]"
        if peer.jwt is None and peer.mtls is None and not report.is_given(f"{place}.mtls"):
            report.error(place, "the way to know peers is empty", "write mtls: {}", "missing-field")


def _check_origins(report: Report, spec: AuthenticationPolicySpec) -> None:
    for index, origin in enumerate(spec.origins):
        place = f"spec.origins[{index}]"
        if origin.jwt is None:
            report.error(f"{place}.jwt", "an origin is known by a token", "give jwt", "missing-field")
            continue
        if not origin.jwt.issuer:
            report.error(f"{place}.jwt.issuer", "a token needs an issuer", "give issuer", "missing-field")
        check_jwt_rule(report, f"{place}.jwt", jwt_rule(origin.jwt))
        _check_triggers(report, f"{place}.jwt", origin.jwt)
    if spec.principal_binding == "USE_ORIGIN" and not spec.origins:
        report.error("spec.principalBinding", "USE_ORIGIN needs origins", "add origins, or leave it out")


def _check_triggers(report: Report, field: str, jwt: OriginJwt) -> None:
    for index, rule in enumerate(jwt.trigger_rules):
        for name, matches in (("includedPaths", rule.included_paths), ("excludedPaths", rule.excluded_paths)):
            for number, match in enumerate(matches):
                _check_path(report, f"{field}.triggerRules[{index}].{name}[{number}]", match)


def _check_path(report: Report, field: str, match: PathMatch) -> None:
    given = [name for name in ("exact", "prefix", "suffix", "regex") if getattr(match, name) is not None]
    if len(given) != 1:
        report.error(field, "a path is matched in one way", "write exact, prefix or suffix")
        return
    text = getattr(match, given[0])
    if match.regex is not None:
        check_pattern(report, f"{field}.regex", text)
    elif not text or "*" in text or "{" in text:
        report.error(f"{field}.{given[0]}", f"{text!r} cannot be matched as a path", "name the path as it is")
