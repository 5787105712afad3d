"""A plan whose one chain looks at tokens: two issuers in one place, and others in places of their own."""

from __future__ import annotations

from lateen.plan.access.tokens import TokenProvider
from lateen.plan.model import Chain, ChainMatch, HttpChain, Listener
from lateen.plan.proxy import Bind
from lateen.plan.routes import DirectResponse, Route, RouteMatch, RouteTable, VirtualHost
from lateen.values.names import BUILT_IN, Origin

RULES = Origin("RequestAuthentication", "default", "tokens", "tokens.yaml", 3)
KEYS = '{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'
PROVIDERS = (
    TokenProvider("origins-0", KEYS, RULES, "https://a.example", audiences=("shop",), spaced_claims=("scope",)),
    TokenProvider("origins-1", KEYS, RULES, "https://b.example", forward=True),
    TokenProvider(
        "origins-2",
        KEYS,
        RULES,
        "https://c.example",
        headers=(("x-token", "Key "),),
        params=("t",),
        payload_header="x-payload",
        claim_headers=(("x-user", "sub"),),
        required=True,
    ),
    TokenProvider("origins-3", KEYS, RULES, cookies=("c",)),
)


def listeners() -> tuple[Listener, ...]:
    """One listener."""
    route = Route("default", RouteMatch(), DirectResponse(200, b"yes"), BUILT_IN)
    table = RouteTable("http.80", (VirtualHost("all", ("*",), (route,), BUILT_IN),))
    chain = HttpChain("inbound_80", inline=table, tokens=PROVIDERS)
    return (Listener("in", Bind("127.0.0.1", 80), "inbound", (Chain("all", ChainMatch(), chain, RULES),), RULES),)
