"""The plans whose translation is held in files: small ones, each about one thing, built by hand."""

from __future__ import annotations

from collections.abc import Callable

from lateen.plan.access.model import (
    AccessPolicy,
    AccessRule,
    All,
    AnyOf,
    DestinationPort,
    DirectAddress,
    Header,
    Not,
    PeerIdentity,
    RemoteAddress,
    ServerName,
    UrlPath,
)
from lateen.plan.clusters import (
    Cluster,
    ConnectionPool,
    Discovery,
    Endpoint,
    EndpointSet,
    LoadBalancing,
    LocalityEndpoints,
    OutlierDetection,
    TcpKeepalive,
)
from lateen.plan.hashing import HashOnCookie, HashOnHeader, HashOnQuery, HashOnSourceIp
from lateen.plan.matching import HeaderMatcher, MatchKind, QueryMatcher, RouteMatch, StringMatcher
from lateen.plan.model import Chain, ChainMatch, HttpChain, Listener, ProxyPlan, TcpChain, TcpTarget, Telemetry
from lateen.plan.proxy import Bind, Proxy, ProxyType
from lateen.plan.routes import (
    CorsPolicy,
    DirectResponse,
    Fault,
    FaultAbort,
    FaultDelay,
    Forward,
    HeaderOps,
    Mirror,
    PrefixRewrite,
    Redirect,
    RegexRewrite,
    RetryPolicy,
    Route,
    RouteAction,
    RouteTable,
    VirtualHost,
    WeightedCluster,
)
from lateen.plan.tls import MESH_ROOTS, WORKLOAD_CERTIFICATE, ClientTls, SecretRef, ServerTls
from lateen.values.names import BUILT_IN, Origin, ResourceKey
from tests.golden.plan_to_envoy import guarded_by_tokens, limited, patched, reported

RULES = Origin("AuthorizationPolicy", "default", "rules", "authz.yaml", 3)
ROUTES = Origin("VirtualService", "default", "reviews", "routes.yaml", 1)

PROXY = Proxy(
    id="productpage-v1-0",
    type=ProxyType.SIDECAR,
    namespace="default",
    workload="productpage-v1",
    labels=(("app", "productpage"), ("version", "v1")),
    service_account="productpage",
    address="240.241.0.7",
)
GATEWAY = Proxy(
    id="ingress-0",
    type=ProxyType.GATEWAY,
    namespace="istio-system",
    workload="ingress",
    labels=(("istio", "ingressgateway"),),
    service_account="ingress",
    address="127.0.0.1",
)
OWN = (("workload", "productpage-v1"), ("namespace", "default"), ("app", "productpage"), ("version", "v1"))
CLIENT_SIDE = Telemetry("source", OWN, access_log="/dev/null")
SERVER_SIDE = Telemetry("destination", OWN, access_log="/dev/null")
MESH_ALPN = ("istio-http/1.1", "istio-h2", "istio")
MESH_SERVER = ServerTls(
    WORKLOAD_CERTIFICATE,
    BUILT_IN,
    roots=MESH_ROOTS,
    require_client=True,
    client_trust_domains=("cluster.local",),
    alpn=("h2", "http/1.1"),
)
REVIEWS = "outbound|9080||reviews.default.svc.cluster.local"


def exact(value: str) -> StringMatcher:
    return StringMatcher(MatchKind.EXACT, value)


def prefix(value: str) -> StringMatcher:
    return StringMatcher(MatchKind.PREFIX, value)


def regex(value: str) -> StringMatcher:
    return StringMatcher(MatchKind.REGEX, value)


def to(cluster: str, **options: object) -> Forward:
    return Forward((WeightedCluster(cluster, 1),), **options)  # type: ignore[arg-type]


def route(name: str, match: RouteMatch, action: RouteAction, **options: object) -> Route:
    return Route(name, match, action, ROUTES, **options)  # type: ignore[arg-type]


def endpoint_set(cluster: str, *endpoints: Endpoint, locality: str = "", service: str = "//") -> EndpointSet:
    return EndpointSet(cluster, (LocalityEndpoints(locality, endpoints),), service)


def mesh_endpoint(address: str, workload: str = "reviews-v1", port: int = 9080) -> Endpoint:
    tags = (("workload", workload), ("namespace", "default"), ("app", "reviews"), ("version", ""))
    return Endpoint(address, port, mesh_tls=True, workload=workload, tags=tags)


def mesh_client(
    sans: tuple[str, ...] = (), automatic: bool = True, alpn: tuple[str, ...] = ("istio-http/1.1", "istio", "http/1.1")
) -> ClientTls:
    return ClientTls(
        BUILT_IN,
        certificate=WORKLOAD_CERTIFICATE,
        roots=MESH_ROOTS,
        sans=sans or ("spiffe://cluster.local/ns/default/sa/reviews",),
        sni="outbound_.9080_._.reviews.default.svc.cluster.local",
        alpn=alpn,
        automatic=automatic,
    )


def plan_of(
    listeners: tuple[Listener, ...] = (),
    tables: tuple[RouteTable, ...] = (),
    clusters: tuple[Cluster, ...] = (),
    endpoints: tuple[EndpointSet, ...] = (),
    proxy: Proxy = PROXY,
) -> ProxyPlan:
    return ProxyPlan(proxy, listeners, tables, clusters, endpoints)


# --- sidecars --------------------------------------------------------------------------------------------------------


def access_everywhere() -> AccessPolicy:
    """Every kind of condition, on both sides."""
    caller = AnyOf(
        (
            PeerIdentity(exact("spiffe://cluster.local/ns/default/sa/productpage")),
            All((PeerIdentity(regex(".*/ns/shop/.*")), Not(DirectAddress("10.0.0.0/8")))),
            RemoteAddress("192.0.2.1"),
            All((PeerIdentity(StringMatcher(MatchKind.PRESENT)), Header("x-token", StringMatcher(MatchKind.PRESENT)))),
        )
    )
    wanted = All(
        (
            AnyOf((Header(":method", exact("GET")), Header(":method", exact("HEAD")))),
            AnyOf((UrlPath(prefix("/reviews/")), UrlPath(StringMatcher(MatchKind.SUFFIX, ".css")))),
            Header(":authority", StringMatcher(MatchKind.EXACT, "reviews", ignore_case=True)),
            DestinationPort(9080),
            Not(ServerName(StringMatcher(MatchKind.CONTAINS, "internal"))),
        )
    )
    deny = AccessRule("ns[default]-policy[no-admin]-rule[0]", All(), UrlPath(prefix("/admin")), RULES)
    never = AccessRule("ns[default]-policy[nobody]-rule[0]", AnyOf(), All(), RULES)
    allow = AccessRule("ns[default]-policy[viewers]-rule[0]", caller, wanted, RULES)
    return AccessPolicy((deny,), (allow, never))


def inbound_http(access: AccessPolicy = AccessPolicy()) -> HttpChain:  # noqa: B008 - a frozen value
    served = Route("default", RouteMatch(), to("inbound|9080||"), BUILT_IN)
    table = RouteTable("inbound|9080||", (VirtualHost("inbound|http|9080", ("*",), (served,), BUILT_IN),))
    return HttpChain(
        "inbound_9080",
        inline=table,
        access=access,
        telemetry=SERVER_SIDE,
        forwarded_client_cert="append_forward",
        serves_mesh=True,
        server_name="istio-envoy",
    )


def outbound_http() -> HttpChain:
    return HttpChain("outbound_9080", route_table="9080", telemetry=CLIENT_SIDE)


def sidecar(access: AccessPolicy = AccessPolicy()) -> ProxyPlan:  # noqa: B008
    """Redirected traffic: both catching listeners, one service, one port of its own under strict mTLS."""
    loop = Chain(
        "virtualOutbound-blackhole",
        ChainMatch(destination_port=15001),
        TcpChain("BlackHoleCluster", (TcpTarget("BlackHoleCluster"),)),
        BUILT_IN,
    )
    outside = Chain(
        "virtualOutbound-catchall-tcp",
        ChainMatch(),
        TcpChain("PassthroughCluster", (TcpTarget("PassthroughCluster"),), telemetry=CLIENT_SIDE),
        BUILT_IN,
    )
    strict = Chain(
        "0.0.0.0_9080",
        ChainMatch(9080, transport_protocol="tls"),
        inbound_http(access),
        BUILT_IN,
        MESH_SERVER,
    )
    rest = Chain(
        "virtualInbound",
        ChainMatch(transport_protocol="tls"),
        TcpChain("InboundPassthroughCluster", (TcpTarget("InboundPassthroughCluster"),), access, SERVER_SIDE),
        BUILT_IN,
        MESH_SERVER,
    )
    listeners = (
        Listener(
            "virtualOutbound",
            Bind("127.0.0.1", 15001),
            "outbound",
            (loop,),
            BUILT_IN,
            default_chain=outside,
            use_original_dst=True,
        ),
        Listener(
            "0.0.0.0_9080",
            Bind("0.0.0.0", 9080),
            "outbound",
            (Chain("0.0.0.0_9080", ChainMatch(), outbound_http(), BUILT_IN),),
            BUILT_IN,
            bind_to_port=False,
        ),
        Listener(
            "virtualInbound",
            Bind("127.0.0.1", 15006),
            "inbound",
            (strict, rest),
            BUILT_IN,
            original_dst=True,
            inspect_tls=True,
            access_log="/dev/null",
        ),
    )
    reviews = VirtualHost(
        "reviews.default.svc.cluster.local:9080",
        ("reviews", "reviews.default", "reviews.default.svc.cluster.local", "240.240.0.9"),
        (route("default", RouteMatch(), to(REVIEWS, retry=RetryPolicy(2, ("connect-failure", "refused-stream")))),),
        BUILT_IN,
    )
    anyone = VirtualHost("allow_any", ("*",), (route("any", RouteMatch(), to("PassthroughCluster")),), BUILT_IN)
    clusters = (
        Cluster("BlackHoleCluster", Discovery.NONE, BUILT_IN),
        Cluster("PassthroughCluster", Discovery.ORIGINAL_DST, BUILT_IN, "client", source=Bind("0.0.0.0")),
        Cluster("InboundPassthroughCluster", Discovery.ORIGINAL_DST, BUILT_IN, source=Bind("127.0.0.6")),
        Cluster("inbound|9080||", Discovery.STATIC, BUILT_IN, "http1", source=Bind("127.0.0.6")),
        Cluster(
            REVIEWS,
            Discovery.EDS,
            BUILT_IN,
            "http1",
            tls=mesh_client(),
            tags=(("service", "reviews.default.svc.cluster.local"), ("service_name", "reviews")),
        ),
    )
    endpoints = (
        endpoint_set("inbound|9080||", Endpoint("127.0.0.1", 9080)),
        endpoint_set(
            REVIEWS,
            mesh_endpoint("240.241.0.8"),
            mesh_endpoint("240.241.0.9", "reviews-v2"),
            service="reviews.default.svc.cluster.local/reviews/",
        ),
    )
    return plan_of(listeners, (RouteTable("9080", (reviews, anyone), True),), clusters, endpoints)


def guarded_sidecar() -> ProxyPlan:
    """The same with access rules: they ride in the route table, and are narrowed or widened on plain bytes."""
    return sidecar(access_everywhere())


def namespaced_sidecar() -> ProxyPlan:
    """Sockets in other network namespaces."""
    action = TcpChain("db", (TcpTarget("outbound|3306||db.default.svc.cluster.local"),))
    listener = Listener(
        "240.240.0.5_3306",
        Bind("240.240.0.5", 3306, "/proc/self/ns/net"),
        "outbound",
        (Chain("240.240.0.5_3306", ChainMatch(), action, BUILT_IN),),
        BUILT_IN,
        bind_to_port=False,
    )
    cluster = Cluster(
        "outbound|3306||db.default.svc.cluster.local",
        Discovery.EDS,
        BUILT_IN,
        source=Bind("240.241.0.7", 0, "/proc/self/ns/net"),
    )
    return plan_of((listener,), (), (cluster,))


def permissive_ports() -> ProxyPlan:
    """One port, mesh TLS by its ALPN and plain text beside it: the plain chain drops what callers say of themselves."""
    plain = HttpChain("inbound_9080", inline=inbound_http().inline, telemetry=SERVER_SIDE)
    chains = (
        Chain(
            "0.0.0.0_9080",
            ChainMatch(9080, transport_protocol="tls", application_protocols=MESH_ALPN),
            inbound_http(),
            BUILT_IN,
            MESH_SERVER,
        ),
        Chain("0.0.0.0_9080-plain", ChainMatch(9080), plain, BUILT_IN),
    )
    listener = Listener(
        "virtualInbound", Bind("127.0.0.1", 15006), "inbound", chains, BUILT_IN, inspect_tls=True, inspect_http=True
    )
    cluster = Cluster("inbound|9080||", Discovery.STATIC, BUILT_IN, "http2")
    return plan_of((listener,), (), (cluster,), (endpoint_set("inbound|9080||", Endpoint("127.0.0.1", 9080)),))


def two_policies_one_table() -> ProxyPlan:
    """Chains that guard one table differently: each gets its own copy, written into the listener."""
    open_chain = Chain("open", ChainMatch(9080), inbound_http(), BUILT_IN)
    guarded = Chain("guarded", ChainMatch(9081), inbound_http(access_everywhere()), BUILT_IN)
    listener = Listener("virtualInbound", Bind("127.0.0.1", 15006), "inbound", (open_chain, guarded), BUILT_IN)
    return plan_of((listener,), (), (Cluster("inbound|9080||", Discovery.STATIC, BUILT_IN, "http1"),))


# --- routes ----------------------------------------------------------------------------------------------------------


def route_features() -> ProxyPlan:
    """Every condition on requests and everything that routes do."""
    header = HeaderOps(set=(("x-set", "%REQ(:METHOD)%"),), add=(("x-add", "a"),), remove=("x-gone",))
    split = Forward(
        (
            WeightedCluster("v1", 80, request_headers=header),
            WeightedCluster("v2", 20, response_headers=header, host_rewrite="v2.example.com"),
        ),
        timeout=0.5,
        retry=RetryPolicy(3, ("5xx", "retriable-status-codes"), (429,), 0.2, 0.05, previous_priorities=True),
        mirrors=(Mirror("v2", 100.0), Mirror("v3", 12.5)),
        hash_policies=(HashOnHeader("x-user"), HashOnCookie("c", "/", 0), HashOnQuery("q"), HashOnSourceIp()),
    )
    match = RouteMatch(
        StringMatcher(MatchKind.EXACT, "/Split", ignore_case=True),
        (
            HeaderMatcher("x-user", StringMatcher(MatchKind.PRESENT)),
            HeaderMatcher(":method", exact("GET")),
            HeaderMatcher("x-no", prefix("a"), invert=True, missing_as_empty=True),
            HeaderMatcher("cookie", regex("^(.*?;)?(user=jason)(;.*)?$")),
        ),
        (QueryMatcher("page", exact("1")), QueryMatcher("all", StringMatcher(MatchKind.PRESENT))),
    )
    routes = (
        route("split", match, split, request_headers=header, response_headers=header, stat_prefix="split"),
        route("rewrite", RouteMatch(prefix("/old/")), to("v1", path_rewrite=PrefixRewrite("/new/"), host_rewrite="n")),
        route("regex", RouteMatch(regex("/item/\\d+")), to("v1", path_rewrite=RegexRewrite("^/item/(.*)", "/i/\\1"))),
        route("moved", RouteMatch(exact("/moved")), Redirect(308, "/there", "", "example.com", "https", 8443)),
        route("moved-prefix", RouteMatch(prefix("/p/")), Redirect(prefix="/q/")),
        route("teapot", RouteMatch(exact("/teapot")), DirectResponse(418, b"x" * 5000)),
        route("faulty", RouteMatch(prefix("/f")), to("v1"), fault=Fault(FaultDelay(1.5, 50), FaultAbort(0.01, 503))),
        route("faulty-grpc", RouteMatch(prefix("/g")), to("v1"), fault=Fault(abort=FaultAbort(100, grpc_status=14))),
        route(
            "cors",
            RouteMatch(prefix("/api")),
            to("v1"),
            cors=CorsPolicy((exact("https://a.example"),), ("GET", "POST"), ("x-a",), ("x-b",), "600", True, False),
        ),
        route("default", RouteMatch(), to("v1", retry=RetryPolicy(0, ()))),
    )
    table = RouteTable("9080", (VirtualHost("all", ("*",), routes, ROUTES, require_tls=False),))
    listener = Listener(
        "127.0.0.1_9080",
        Bind("127.0.0.1", 9080),
        "outbound",
        (Chain("http", ChainMatch(), outbound_http(), BUILT_IN),),
        BUILT_IN,
    )
    clusters = tuple(Cluster(name, Discovery.EDS, ROUTES, "http1", tls=mesh_client()) for name in ("v1", "v2"))
    return plan_of((listener,), (table,), clusters)


# --- clusters --------------------------------------------------------------------------------------------------------


def cluster_features() -> ProxyPlan:
    """Every discovery, balancing, limit and protocol."""
    pool = ConnectionPool(
        max_connections=10,
        max_pending_requests=20,
        max_requests=30,
        max_retries=4,
        max_requests_per_connection=1,
        max_connection_duration=600,
        http_idle_timeout=60.5,
        max_concurrent_streams=7,
        keepalive=TcpKeepalive(3, 60, 10),
        http2_keepalive=(30, 5),
    )
    outlier = OutlierDetection(
        consecutive_5xx=0,
        consecutive_gateway_errors=3,
        split_local_origin=True,
        consecutive_local_origin_failures=2,
        interval=1,
        base_ejection_time=5,
        max_ejection_percent=100,
        min_health_percent=30,
        http_error_codes=(429,),
    )
    example = ClientTls(ROUTES, system_roots=True, auto_sni=True, alpn=("h2",))
    pinned = ClientTls(ROUTES, system_roots=True, sni="api.example.com")
    careless = ClientTls(ROUTES, verify=False, sni="old.example.com")
    mutual = ClientTls(
        ROUTES,
        certificate=SecretRef("kubernetes://client", source=ResourceKey("Secret", "default", "client")),
        roots=SecretRef("kubernetes://client-cacert", source=ResourceKey("Secret", "default", "client")),
        sans=("api.example.com", "192.0.2.7", "spiffe://other/ns/a/sa/b"),
        sni="api.example.com",
    )
    here = Bind("0.0.0.0")
    clusters = (
        Cluster("limits", Discovery.EDS, ROUTES, "http2", 0.25, pool=pool, outlier=outlier, tls=mesh_client()),
        Cluster("outlier-defaults", Discovery.EDS, ROUTES, "http1", outlier=OutlierDetection(5)),
        Cluster("ring", Discovery.EDS, ROUTES, "http1", load_balancing=LoadBalancing.RING_HASH, minimum_ring_size=64),
        Cluster("maglev", Discovery.EDS, ROUTES, "http1", load_balancing=LoadBalancing.MAGLEV, maglev_table_size=251),
        Cluster("random", Discovery.EDS, ROUTES, load_balancing=LoadBalancing.RANDOM),
        Cluster("tcp", Discovery.EDS, ROUTES, pool=ConnectionPool(tcp_idle_timeout=5), proxy_protocol="V2"),
        Cluster("dns", Discovery.STRICT_DNS, ROUTES, "http2", tls=example, source=here),
        Cluster("dns-one", Discovery.LOGICAL_DNS, ROUTES, "http1", tls=pinned, dns_refresh=5),
        Cluster("careless", Discovery.STATIC, ROUTES, "client", tls=careless, proxy_protocol="V1"),
        Cluster("mutual", Discovery.STATIC, ROUTES, "http1", tls=mutual),
        Cluster("mesh", Discovery.EDS, ROUTES, "http1", tls=mesh_client(automatic=False)),
    )
    localities = EndpointSet(
        "random",
        (
            LocalityEndpoints(
                "eu/a/1", (Endpoint("192.0.2.1", 80, 3), Endpoint("192.0.2.2", 80, healthy=False)), 0, 90
            ),
            LocalityEndpoints("eu/b", (Endpoint("192.0.2.3", 80),), 1, 10),
        ),
    )
    endpoints = (
        localities,
        endpoint_set("tcp", Endpoint("unix:///run/db.sock", 0)),
        endpoint_set("dns", Endpoint("localhost", 443)),
        endpoint_set("dns-one", Endpoint("localhost", 443)),
        endpoint_set("careless", Endpoint("192.0.2.5", 443)),
        endpoint_set("mesh", mesh_endpoint("240.241.0.8")),
    )
    return plan_of(clusters=clusters, endpoints=endpoints)


# --- gateways --------------------------------------------------------------------------------------------------------


def gateway() -> ProxyPlan:
    """The edge: HTTP that redirects to HTTPS, HTTPS with a certificate from a Secret, TLS passed through by name."""
    telemetry = Telemetry("source", (("workload", "ingress"), ("namespace", "istio-system")))

    def edge(table: str) -> HttpChain:
        return HttpChain(
            f"outbound_{table}",
            route_table=table,
            telemetry=telemetry,
            forwarded_client_cert="sanitize_set",
            trust_edge=True,
            server_name="istio-envoy",
            idle_timeout=300,
        )

    credential = SecretRef("kubernetes://shop", source=ResourceKey("Secret", "istio-system", "shop"))
    tls = ServerTls(
        credential,
        ROUTES,
        alpn=("h2", "http/1.1"),
        min_version="TLSV1_3",
        cipher_suites=("ECDHE-RSA-AES128-GCM-SHA256",),
    )
    shop, https = ("shop.example.com",), "https.443.https.shop.default"
    forwarding = VirtualHost("shop:443", shop, (route("default", RouteMatch(), to(REVIEWS)),), ROUTES)
    insecure = VirtualHost("shop:80", shop, (route("default", RouteMatch(), to(REVIEWS)),), ROUTES, require_tls=True)
    passing = TcpChain("pass", (TcpTarget("v1", 3), TcpTarget("v2", 1)), idle_timeout=60, telemetry=telemetry)
    listeners = (
        Listener(
            "0.0.0.0_8080",
            Bind("127.0.0.1", 8080),
            "outbound",
            (Chain("http", ChainMatch(), edge("http.80"), ROUTES),),
            ROUTES,
        ),
        Listener(
            "0.0.0.0_8443",
            Bind("127.0.0.1", 8443),
            "outbound",
            (
                Chain("https", ChainMatch(server_names=shop), edge(https), ROUTES, tls),
                Chain("pass", ChainMatch(server_names=("*.pass.example.com",)), passing, ROUTES),
            ),
            ROUTES,
            inspect_tls=True,
        ),
    )
    tables = (RouteTable("http.80", (insecure,), True), RouteTable(https, (forwarding,), True))
    clusters = (Cluster(REVIEWS, Discovery.EDS, BUILT_IN, "http1", tls=mesh_client()),)
    return plan_of(listeners, tables, clusters, (endpoint_set(REVIEWS, mesh_endpoint("240.241.0.8")),), GATEWAY)


CASES: dict[str, Callable[[], ProxyPlan]] = {
    "sidecar": sidecar,
    "guarded_sidecar": guarded_sidecar,
    "namespaced_sidecar": namespaced_sidecar,
    "permissive_ports": permissive_ports,
    "two_policies_one_table": two_policies_one_table,
    "route_features": route_features,
    "cluster_features": cluster_features,
    "gateway": gateway,
    "guarded_by_tokens": lambda: plan_of(guarded_by_tokens.listeners(), (), ()),
    "limited": lambda: plan_of(limited.listeners(), (), ()),
    "reported": lambda: plan_of(reported.listeners(), (), (Cluster("told", Discovery.NONE, BUILT_IN),)),
    "patched_filters": lambda: patched.filters(sidecar()),
    "patched_tables": lambda: patched.tables_and_clusters(sidecar()),
}
