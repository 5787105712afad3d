"""A plan whose one chain is limited: by rules with every condition and key, with answers of their own, and on trial."""

from __future__ import annotations

from lateen.plan.access.model import All, AnyOf, Header, Not, PeerIdentity, UrlPath
from lateen.plan.limits.model import BucketKey, Charged, Counted, KeyKind, LimitRule, PathTemplate
from lateen.plan.matching import HeaderMatcher, MatchKind, StringMatcher
from lateen.plan.model import Chain, ChainMatch, HttpChain, Listener
from lateen.plan.proxy import Bind
from lateen.plan.routes import DirectResponse, Route, RouteMatch, RouteTable, VirtualHost
from lateen.values.names import BUILT_IN, Origin

PRESENT = StringMatcher(MatchKind.PRESENT)
LIMITS = Origin("RateLimit", "default", "limits", "limits.yaml", 3)
COUNTED = Counted(
    methods=("GET", "POST"),
    hosts=(
        StringMatcher(MatchKind.REGEX, "(?i)a\\.example(:[0-9]+)?"),
        StringMatcher(MatchKind.SUFFIX, ".b.example", ignore_case=True),
        StringMatcher(MatchKind.PREFIX, "c.", ignore_case=True),
    ),
    paths=(
        StringMatcher(MatchKind.EXACT, '/a"b'),
        StringMatcher(MatchKind.PREFIX, "/b/"),
        StringMatcher(MatchKind.REGEX, "/c/\\d+"),
        PathTemplate("/d.e/{*}/f/{**}"),
    ),
    headers=(HeaderMatcher("x-kind", StringMatcher(MatchKind.EXACT, "big")),),
    ports=(80, 81),
)
KEYS = (
    BucketKey(KeyKind.PEER),
    BucketKey(KeyKind.DIRECT_ADDRESS),
    BucketKey(KeyKind.REMOTE_ADDRESS),
    BucketKey(KeyKind.HOST),
    BucketKey(KeyKind.METHOD),
    BucketKey(KeyKind.PATH),
    BucketKey(KeyKind.HEADER, ("x-key",)),
    BucketKey(KeyKind.CLAIM, ("place", "room")),
)
CHARGED = (
    Charged(Header("x-a", StringMatcher(MatchKind.EXACT, 'a"\u00fc'))),
    Charged(Not(AnyOf((UrlPath(StringMatcher(MatchKind.PREFIX, "/b")), Header("x-b", PRESENT)))), 3),
    Charged(All((PeerIdentity(StringMatcher(MatchKind.REGEX, "spiffe://[^/]+/a")), AnyOf())), 2),
    Charged(),
)
RULES = (
    LimitRule("default/limits/all", LIMITS, 10, 60.0, 5, COUNTED, KEYS),
    LimitRule("default/limits.v2/1", LIMITS, 1, 1.0, 1, status=503, headers=(("x-why", "100%"),), body="later"),
    LimitRule("default/limits/2", LIMITS, 7, 0.5, 70, keys=KEYS[:1], on_trial=True, body="never"),
    LimitRule("default/shared/0", LIMITS, 7, 60.0, 9, COUNTED, KEYS[:1], shared=True),
    LimitRule("default/shared/1", LIMITS, 7, 60.0, 7, shared=True, status=503, headers=(("x-a", "b"),), body="later"),
    LimitRule("mixer:calls.default/calls.default", LIMITS, 5, 3600.0, 5, keys=KEYS[:1], charged=CHARGED, body="no"),
    LimitRule("mixer:dear.default/dear.default", LIMITS, 5, 3600.0, 5, charged=(Charged(amount=2),)),
    LimitRule("default/open/0", LIMITS, 7, 0.5, 7, shared=True, fail_open=True, on_trial=True),
)


def listeners() -> tuple[Listener, ...]:
    """One listener."""
    route = Route("default", RouteMatch(), DirectResponse(200, b"yes"), BUILT_IN)
    table = RouteTable("http.80", (VirtualHost("all", ("*",), (route,), BUILT_IN),))
    chain = HttpChain("inbound_80", inline=table, limits=RULES)
    return (Listener("in", Bind("127.0.0.1", 80), "inbound", (Chain("all", ChainMatch(), chain, LIMITS),), LIMITS),)
