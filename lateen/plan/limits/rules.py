"""RateLimits of one workload, turned into the limits of its chains.

Comes in: the resources that hold, and listeners. Goes out: the listeners with the limits in every chain that speaks
HTTP. Each rule counts by itself; their order is that of the resources, oldest first.
"""

from __future__ import annotations

from functools import lru_cache

from msgspec.structs import replace

from lateen.mesh.model import Labels, MeshSnapshot
from lateen.mesh.rate_limits import rate_limits
from lateen.plan.access.conditions import host
from lateen.plan.access.model import Header
from lateen.plan.limits.model import BucketKey, Counted, KeyKind, LimitRule, PathTemplate
from lateen.plan.matching import HeaderMatcher, MatchKind, StringMatcher
from lateen.plan.model import Chain, HttpChain, Listener
from lateen.plan.route_building import string_matcher
from lateen.resources.rate_limit import CLAIMS, CLIENT, HEADERS, TOKEN_PRINCIPAL, PathMatch, RateLimitSpec, RequestMatch
from lateen.resources.resource import Resource

DEFAULT_STATUS = 429
_KINDS = {
    CLIENT: (BucketKey(KeyKind.PEER),),
    "source.ip": (BucketKey(KeyKind.DIRECT_ADDRESS),),
    "remote.ip": (BucketKey(KeyKind.REMOTE_ADDRESS),),
    TOKEN_PRINCIPAL: (BucketKey(KeyKind.CLAIM, ("iss",)), BucketKey(KeyKind.CLAIM, ("sub",))),
    "request.host": (BucketKey(KeyKind.HOST),),
    "request.method": (BucketKey(KeyKind.METHOD),),
    "request.path": (BucketKey(KeyKind.PATH),),
}


def limit_rules(snapshot: MeshSnapshot, namespace: str, labels: Labels) -> tuple[LimitRule, ...]:
    """The limits of a workload."""
    return tuple(
        rule for resource in rate_limits(snapshot, namespace, labels) for rule in rules_of(resource.spec, resource)
    )


def rules_of(spec: RateLimitSpec, resource: Resource) -> list[LimitRule]:
    """The rules of one RateLimit."""
    key, found = resource.key, []
    for index, rule in enumerate(spec.rules):
        limit = rule.limit
        found.append(
            LimitRule(
                name=f"{key.namespace}/{key.name}/{rule.name or index}",
                origin=resource.origin_at(f"spec.rules[{index}]"),
                requests=limit.requests,
                interval=float(limit.per),
                burst=limit.requests if limit.burst is None else limit.burst,
                counted=_counted(rule.match),
                keys=tuple(dict.fromkeys(part for text in rule.per for part in _keys(text))),
                shared=spec.scope == "global",
                fail_open=spec.on_failure == "allow",
                on_trial=bool(spec.dry_run),
                status=spec.response.status or DEFAULT_STATUS,
                headers=tuple((name.lower(), value) for name, value in sorted(spec.response.headers.items())),
                body=spec.response.body,
            )
        )
    return found


def _keys(text: str) -> tuple[BucketKey, ...]:
    if text.startswith(HEADERS):
        return (BucketKey(KeyKind.HEADER, (text.removeprefix(HEADERS).removesuffix("]").lower(),)),)
    if text.startswith(CLAIMS):
        return (BucketKey(KeyKind.CLAIM, tuple(text.removeprefix(CLAIMS).removesuffix("]").split("]["))),)
    return _KINDS[text]


def _counted(match: RequestMatch) -> Counted:
    hosts = match.hosts or ()
    return Counted(
        methods=match.methods or (),
        hosts=tuple(_host(text) for text in hosts) if "*" not in hosts else (),
        paths=tuple(_path(path) for path in match.paths or ()),
        headers=tuple(
            HeaderMatcher(name.lower(), string_matcher(wanted)) for name, wanted in sorted(match.headers.items())
        ),
        ports=match.ports or (),
    )


@lru_cache(maxsize=1024)
def _host(text: str) -> StringMatcher:
    condition = host(text)
    return condition.match if isinstance(condition, Header) else StringMatcher(MatchKind.PRESENT)


def _path(path: PathMatch) -> StringMatcher | PathTemplate:
    if path.exact is not None:
        return StringMatcher(MatchKind.EXACT, path.exact)
    if path.prefix is not None:
        return StringMatcher(MatchKind.PREFIX, path.prefix)
    if path.template is not None:
        return PathTemplate(path.template)
    return StringMatcher(MatchKind.REGEX, path.regex or "")


def with_limits(listeners: tuple[Listener, ...], rules: tuple[LimitRule, ...]) -> tuple[Listener, ...]:
    """The listeners with the limits in every chain that speaks HTTP; none too, as some may come."""
    return tuple(
        replace(
            listener,
            chains=tuple(_with(chain, rules) for chain in listener.chains),
            default_chain=_with(listener.default_chain, rules) if listener.default_chain is not None else None,
        )
        for listener in listeners
    )


def _with(chain: Chain, rules: tuple[LimitRule, ...]) -> Chain:
    if not isinstance(chain.action, HttpChain):
        return chain
    return replace(chain, action=replace(chain.action, limits=rules))
