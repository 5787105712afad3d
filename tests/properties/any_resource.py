"""Resources of any shape that the structs of a kind allow, with leaves that are likely to make sense.

Most fields are left out, so that many of the resources pass validation.
"""

from __future__ import annotations

import types
import typing
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from hypothesis import strategies as st

from lateen.resources.base import Duration
from lateen.resources.registry import KINDS
from tests.properties import kubernetes_leaves, odd_leaves
from tests.properties.odd_leaves import HEADERS

LONG_HOST = ".".join(["x" * 60] * 4) + ".example"
HOSTS = ("a", "b", "a.default.svc.cluster.local", "api.example", "*.example", "nowhere.example", LONG_HOST, "A.example")
TEXTS: dict[str, tuple[str, ...]] = {
    "host": HOSTS,
    "hosts": HOSTS,
    "name": ("x", "http", "tls-1", "y"),
    "subset": ("v1", "v2", "x"),
    "uri": ("/", "/x", "/x y"),
    "prefixRewrite": ("/z",),
    "rewrite": (r"/\1", "/x"),
    "match": ("/x/(.*)", ".*"),
    "regex": (".*", "a+", "/x/[a-z]{1,3}", "(?i)x", "\\d"),
    "authority": ("b.example", "c.example:80"),
    "gateways": ("mesh", "g", "default/g"),
    "exportTo": (".", "default"),
    "protocol": ("HTTP", "HTTPS", "TCP", "TLS", "GRPC", "HTTP2", "MONGO"),
    "address": ("10.9.9.9", "127.0.0.1", "db.example", "unix:///tmp/" + "x" * 200, "unix:///tmp/x", "unix://@x", "::1"),
    "addresses": ("10.8.0.1", "10.7.0.0/16", "2001:db8::1", "10.8.0.1/33", "0.0.0.0/0", "127.0.0.1", "::ffff:10.0.0.1"),
    "retryOn": ("5xx", "gateway-error,connect-failure", "503,reset", "retriable-4xx"),
    "mode": (),
    "credentialName": ("cert", "other"),
    "sni": ("x.example",),
    "sniHosts": ("api.example", "x.example", "*.example"),
    "subjectAltNames": ("x.example", "spiffe://cluster.local/ns/default/sa/a"),
    "allowMethods": ("GET", "POST"),
    "allowOrigin": ("https://x.example", "*"),
    "locality": ("r1/z1", "r2/*"),
    "bind": ("127.0.0.1", "unix:///tmp/x.sock", "0.0.0.0", "::", "unix:///tmp/" + "x" * 200, "10.1.0.1", "unix://@x"),
    "defaultEndpoint": (
        "127.0.0.1:8080",
        "unix:///tmp/app.sock",
        "0.0.0.0:9000",
        "unix:///tmp/" + "x" * 200,
        "unix://@x",
        "[::1]:80",
    ),
    "cipherSuites": ("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    "destinationSubnets": ("10.0.0.0/8", "10.1.2.3"),
    "sourceSubnet": ("10.0.0.0/8", "10.0.0.0/99"),
    "consistentHash": (),
    "httpHeaderName": ("x-user",),
    "path": ("/", "/p"),
    "targetPort": ("http", "8080"),
    "serverCertificate": ("certificate.pem",),
    "clientCertificate": ("certificate.pem",),
    "privateKey": ("key.pem",),
    "caCertificates": ("roots.pem",),
    "caCrl": ("",),
}
PLAIN = (*("x", "v1", "x.example", "a") * 4, "", "a\nb", "\x00", "\u00fc", "a b", "x" * 300, "%", "1")
NUMBERS: dict[str, tuple[int, ...]] = {
    "number": (80, 80, 8080, 443, 9000, 15443, 15001, 15006, 15021, 53, 1, 65535),
    "port": (80, 80, 8080, 9000, 15006, 1, 65535),
    "ports": (80, 8080, 9000, 15006, 1, 65535, 0),
    "weight": (1, 50, 100),
    "status": (200, 404, 503),
    "httpStatus": (400, 503),
    "redirectCode": (301, 308),
    "attempts": (0, 1, 3),
    "requests": (1, 100, 2**32 - 1),
}
ALWAYS: dict[str, frozenset[str]] = {
    "VirtualServiceSpec": frozenset({"hosts"}),
    "HttpRouteDestination": frozenset({"destination"}),
    "L4RouteDestination": frozenset({"destination"}),
    "Destination": frozenset({"host"}),
    "TcpRoute": frozenset({"route"}),
    "TlsRoute": frozenset({"match", "route"}),
    "TlsMatchAttributes": frozenset({"sniHosts"}),
    "DestinationRuleSpec": frozenset({"host"}),
    "Subset": frozenset({"name"}),
    "GatewaySpec": frozenset({"servers"}),
    "Server": frozenset({"port", "hosts"}),
    "GatewayPort": frozenset({"number", "name", "protocol"}),
    "ServicePort": frozenset({"number", "name", "protocol"}),
    "SidecarPort": frozenset({"number", "name", "protocol"}),
    "IngressListener": frozenset({"port", "defaultEndpoint"}),
    "EgressListener": frozenset({"hosts"}),
    "ServiceEntrySpec": frozenset({"hosts", "ports"}),
    "WorkloadEntrySpec": frozenset({"address"}),
    "PortSelector": frozenset({"number"}),
    "PortTrafficPolicy": frozenset({"port"}),
    "HttpMirrorPolicy": frozenset({"destination"}),
    "RegexRewrite": frozenset({"match", "rewrite"}),
    "RequestAuthenticationSpec": frozenset({"jwtRules"}),
    "JwtRule": frozenset({"issuer"}),
    "JwtHeader": frozenset({"name"}),
    "ClaimToHeader": frozenset({"header", "claim"}),
    "AuthorizationPolicySpec": frozenset({"rules"}),
    "RuleFrom": frozenset({"source"}),
    "RuleTo": frozenset({"operation"}),
    "Condition": frozenset({"key", "values"}),
    "RateLimitSpec": frozenset({"rules"}),
    "LimitRule": frozenset({"limit"}),
    "Limit": frozenset({"requests", "per"}),
    **odd_leaves.ALWAYS,
    **kubernetes_leaves.ALWAYS,
}
"""By struct, what is always given."""
NEVER: dict[str, frozenset[str]] = {
    "Server": frozenset({"defaultEndpoint"}),
    "GatewayPort": frozenset({"targetPort"}),
    "SidecarPort": frozenset({"targetPort"}),
    "WorkloadEntrySpec": frozenset({"network"}),
    "LoadBalancerSettings": frozenset({"zoneAwareLbSetting"}),
    "IngressListener": frozenset({"captureMode"}),
    "RequestAuthenticationSpec": frozenset({"targetRef", "targetRefs"}),
    "AuthorizationPolicySpec": frozenset({"targetRef", "targetRefs"}),
    **odd_leaves.NEVER,
    **kubernetes_leaves.NEVER,
}
ED25519 = '{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}'
ADDRESSES = ("10.0.0.1", "10.1.2.3/8", "::1", "2001:db8::/32", "::ffff:10.0.0.1", "fe80::1%eth0")
_BETWEEN = ("", "//", " ", "?", "%", "\u00fc", '"', "|", "~", "\n", "{x}", "*")
PATHS = (*(f"/a{text}b/{{*}}" for text in _BETWEEN), "/{**}/", "//{*}", "/{*}//", "/{*}" * 9, '/"', "*")
ODD = ("t", "a.b", "a b", "\u00fc", "a\nb", "\x00", "=", "")
OWN_TEXTS: dict[tuple[str, str], tuple[str, ...]] = {
    ("Server", "hosts"): ("*", "api.example", "*.example", "default/b.example", "./c.example"),
    ("EgressListener", "hosts"): ("*/*", "./*", "default/a.default.svc.cluster.local", "~/*"),
    ("VirtualServiceSpec", "hosts"): (
        "a",
        "b.default.svc.cluster.local",
        "api.example",
        "*.example",
        "10.9.9.9",
        "A",
        "A.Example",
        "10.1.0.1",
        "*",
    ),
    ("VirtualServiceSpec", "gateways"): ("mesh", "g"),
    ("JwtRule", "issuer"): ("i", "https://i.example", "*", "i\nj", "\u00fc", "\x00"),
    ("JwtRule", "jwks"): (ED25519, f'{{"keys": [{ED25519}, {{"kty": "oct", "k": "AAAA"}}]}}', "{}"),
    ("JwtRule", "jwksUri"): ("https://i.example/keys", "http://127.0.0.1:1/", "file:///x"),
    ("JwtRule", "audiences"): ODD,
    ("JwtRule", "fromParams"): ODD,
    ("JwtRule", "fromCookies"): ODD,
    ("JwtRule", "spaceDelimitedClaims"): ODD,
    ("JwtRule", "outputPayloadToHeader"): HEADERS,
    ("JwtHeader", "name"): HEADERS,
    ("JwtHeader", "prefix"): ("Bearer ", *ODD),
    ("ClaimToHeader", "header"): HEADERS,
    ("ClaimToHeader", "claim"): ODD,
    **{("Source", name): ADDRESSES for name in ("ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks")},
    ("Operation", "ports"): ("80", "0", "65535", "080"),
    ("Operation", "notPorts"): ("80", "0"),
    ("Operation", "paths"): PATHS,
    ("Operation", "notPaths"): PATHS,
    ("Operation", "hosts"): (*ODD, "*", "*.example", "a*"),
    ("Operation", "methods"): ("GET", "get", *ODD),
    ("Condition", "key"): (
        "source.principal",
        "source.namespace",
        "request.auth.claims[a][b]",
        "connection.sni",
        "experimental.envoy.filters.x[y]",
        *(f"request.headers[{name}]" for name in HEADERS),
    ),
    ("Condition", "values"): ("*", "a*", "*a", "[a]", *ODD),
    ("LimitRule", "per"): (
        "source.principal",
        "source.ip",
        "request.auth.principal",
        "request.path",
        *(f"request.headers[{name}]" for name in HEADERS),
        *(f"request.auth.claims[{name}]" for name in (*ODD, "https://a.example", "a}b", "a\\b", "a][b", "a,b", "a%b")),
    ),
    ("LimitRule", "name"): ("a", "a-b", "a.b", "x" * 63),
    ("RequestMatch", "methods"): ("GET", "M-SEARCH", "get", 'X"Y'),
    ("RequestMatch", "hosts"): ("a.example", "*.example", "a*", "*", 'q"uote', "b\\slash", "\u00fc.example", "x" * 90),
    ("PathMatch", "exact"): ("/a", '/"', "/\\", "/\u00fc", "/%2f", "/" + "a" * 200),
    ("PathMatch", "prefix"): ("/", "/b'\"c"),
    ("PathMatch", "regex"): ("/x/[0-9]+", '/"\\d"', "(?i)/A", "/a|b", "\\Q.\\E/\u00fc"),
    ("PathMatch", "template"): ("/a/{*}/b", "/{**}", '/"{*}.x', "/" + "a" * 95 + "{*}"),
    ("LimitResponse", "body"): ("later", '{"a": "%REQ(x)%"}', "\u00fc\n"),
    **odd_leaves.TEXTS,
    **odd_leaves.ROUTING,
    **kubernetes_leaves.TEXTS,
}
KEYS = {**odd_leaves.KEYS, **kubernetes_leaves.KEYS}
DEEPEST = 7
DURATIONS = ("1s", "0.5s", "10s", "1h", "3ms", "0s", "87600h", "1ms", "0.0015s", "2147483647s", "90000000h", "-1s")
pick = st.sampled_from


def documents(kind_name: str) -> st.SearchStrategy[dict[str, Any]]:
    """Whole documents of a kind, which may or may not be valid."""
    kind = next(kind for kind in KINDS if kind.name == kind_name)
    head: dict[str, Any] = {"apiVersion": f"{kind.group}/{kind.versions[0]}".removeprefix("/"), "kind": kind.name}
    if kind_name in odd_leaves.ALONE:
        head["metadata"] = {"name": "default"}
    return _struct(kind.struct, 0).map(lambda spec: {**head, **spec} if kind.flat else {**head, "spec": spec})


ONE_OF = {
    "HttpRoute": ("route", "redirect", "directResponse"),
    "VirtualServiceSpec": ("http", "http", "tls", "tcp"),
    **odd_leaves.ONE_OF,
    **kubernetes_leaves.ONE_OF,
}
"""By struct, of which exactly one is given."""


@st.composite
def _struct(draw: Any, struct: Any, depth: int) -> dict[str, Any]:
    hints = typing.get_type_hints(struct, include_extras=True)
    always, never = ALWAYS.get(struct.__name__, frozenset()), NEVER.get(struct.__name__, frozenset())
    one_of = ONE_OF.get(struct.__name__, ())
    if one_of:
        one = draw(pick(one_of))
        always, never = always | {one}, never | (frozenset(one_of) - {one})
    infos = [info for info in msgspec.structs.fields(struct) if info.encode_name not in never]
    most = min(len(infos), max(1, 4 - depth // 2))
    least = 1 if infos and struct.__name__ in odd_leaves.NOT_EMPTY else 0
    chosen = draw(st.sets(st.integers(0, len(infos) - 1), min_size=least, max_size=most)) if infos else set()
    made: dict[str, Any] = {}
    for index, info in enumerate(infos):
        if (index in chosen and depth < DEEPEST) or info.encode_name in always:
            place, hint = (struct.__name__, info.encode_name), hints[info.name]
            texts, keys = OWN_TEXTS.get(place), KEYS.get(place, ("x", "y"))
            made[info.encode_name] = draw(_texts(hint, texts, keys) if texts else _value(hint, place[1], depth, keys))
    return made


def _texts(hint: Any, texts: tuple[str, ...], keys: tuple[str, ...]) -> st.SearchStrategy[Any]:
    for kind in (hint, *get_args(hint)):
        if get_origin(kind) in (tuple, list):
            return st.lists(pick(texts), min_size=1, max_size=2, unique=True)
        if get_origin(kind) is dict:
            return st.dictionaries(pick(keys), pick(texts), min_size=1, max_size=2)
    return pick(texts)


def _value(hint: Any, name: str, depth: int, keys: tuple[str, ...] = ("x", "y")) -> st.SearchStrategy[Any]:
    if get_origin(hint) is Annotated:
        return _value(get_args(hint)[0], name, depth, keys)
    origin, args = get_origin(hint), get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*(_value(one, name, depth, keys) for one in args if one is not type(None)))
    if origin is Literal:
        return pick(args)
    if origin in (tuple, list):
        return st.lists(
            _value(args[0], name, depth), min_size=1, max_size=2 if depth or name == "extensionProviders" else 1
        )
    if origin is dict:
        return st.dictionaries(pick(keys), _value(args[1], name, depth), min_size=1, max_size=2)
    return _leaf(hint, name, depth)


def _leaf(hint: Any, name: str, depth: int) -> st.SearchStrategy[Any]:
    if hint is Duration:
        return pick(DURATIONS)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return _struct(hint, depth + 1)
    if hint is bool:
        return st.booleans()
    if hint is int:
        return pick(NUMBERS.get(name, (0, 1, 2, 7, 100, 8080, 65536, 2**31 - 1, 2**31, 2**32 - 1)))
    if hint is float:
        return pick((0.0, 0.5, 1.0, 10.0, 100.0, 0.0001, 1e-9, 99.99999, 101.0, 1e12))
    if hint is str:
        return pick(TEXTS.get(name) or PLAIN)
    return st.none()
