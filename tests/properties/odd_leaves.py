"""Leaves of the kinds that say what is told, and of the first generation: above all what is likely to break."""

from __future__ import annotations

HEADERS = ("x-user", "X_User", "authorization", "host", ":path", "x y", "x\n", "\u00fc", "x:")
ODD = ("t", "a.b", "a b", "\u00fc", "a\nb", "\x00", "=", "", 'q"', "50%", "%FOO%", "x" * 300, "\U0001f600")
FORMATS = (
    "plain",
    "%REQ(x-a)%",
    "%REQ(:PATH)% %PATH(NQ)%",
    "%REQ(x y)%",
    "%HOSTNAME%",
    "%CEL(request.path)%",
    '%START_TIME(%s)% "\u00fc\U0001f600" \\',
    "a\nb",
    "%DYNAMIC_METADATA(a:b):9%",
    "%COALESCE(x)%",
    *ODD,
)
EXPRESSIONS = (
    "response.code >= 400",
    "request.headers['x\\n'] == 'a' || 5 % 2 == 1",
    "request.path.matches('[a-z]+')",
    "request.path.matches('[')",
    "has(request.headers)",
    "request.path == 'a)%b'",
    "request.path\n== ''",
    "'\U0001f600' == \"\u00fc\"",
    "request.path // all of it",
    "request.time",
    "1",
    *ODD,
)
PROVIDERS = ("p0", "p0", "p1", "a\nb", "envoy")
NAMES = ("x", "a b", "\u00fc", "a\nb", "istio_x", "x" * 300, "%", "")
SERVICES = ("a.default.svc.cluster.local", "default/b.default.svc.cluster.local", "nowhere.example", "10.0.0.1")
CONSTRAINTS = (
    "destination.labels[version]",
    "destination.ip",
    "destination.port",
    "destination.namespace",
    "experimental.envoy.filters.a[b]",
    *(f"request.headers[{name}]" for name in HEADERS),
)
ALONE = frozenset({"MeshPolicy", "ClusterRbacConfig"})
"""Kinds of which there is one, whose name is given."""
NOT_EMPTY = frozenset({"Source", "Operation", "Subject"})
ALWAYS: dict[str, frozenset[str]] = {
    "MeshConfigSpec": frozenset({"extensionProviders"}),
    "ExtensionProviderConfig": frozenset({"name"}),
    **{
        f"{kind}": frozenset({"service", "port"})
        for kind in (
            "ExtAuthzGrpc", "ExtAuthzHttp", "ZipkinProvider", "LightstepProvider", "TracingProvider",
            "SkywalkingProvider", "OpencensusProvider", "OpentelemetryProvider", "TcpAccessLogService",
            "HttpAccessLogService", "OtelAccessLogService",
        )
    },
    "RequestBody": frozenset({"maxRequestBytes"}),
    "OpentelemetryHttp": frozenset({"path"}),
    "ProviderHeader": frozenset({"name", "value"}),
    "AccessLogFilter": frozenset({"expression"}),
    "TagOverride": frozenset({"value"}),
    "LiteralTag": frozenset({"value"}),
    "HeaderTag": frozenset({"name"}),
    "EnvironmentTag": frozenset({"name"}),
    "FormatterTag": frozenset({"value"}),
    "PeerAuthenticationSpec": frozenset({"selector"}),
    "WorkloadSelector": frozenset({"matchLabels"}),
    "PeerMethod": frozenset({"mtls"}),
    "ServiceRoleSpec": frozenset({"rules"}),
    "RoleRule": frozenset({"services"}),
    "Constraint": frozenset({"key", "values"}),
    "ServiceRoleBindingSpec": frozenset({"subjects", "roleRef"}),
    "RoleReference": frozenset({"kind", "name"}),
    "OriginMethod": frozenset({"jwt"}),
    "OriginJwt": frozenset({"issuer", "jwks"}),
    "PolicyTarget": frozenset({"name"}),
}  # fmt: skip
NEVER: dict[str, frozenset[str]] = {
    "MeshConfigSpec": frozenset(
        {
            "proxyListenPort", "proxyInboundListenPort", "proxyHttpPort", "configSources", "caCertificates",
            "ca", "zoneAwareLbSetting", "inboundClusterStatName", "outboundClusterStatName",
            "verifyCertificateAtClient", "discoverySelectors", "authPolicy", "serviceEntryVisibility", "rootNamespace",
            "trustDomain",
        }
    ),
    "ExtensionProviderConfig": frozenset({"lightstep", "stackdriver", "opencensus", "prometheus", "sds"}),
    "PeerMethod": frozenset({"jwt"}),
    "PolicyTarget": frozenset({"labels"}),
    "MeshOutboundTrafficPolicy": frozenset({"tls"}),
    "ProviderHeader": frozenset({"envName"}),
    "ServiceRoleBindingSpec": frozenset({"role", "actions"}),
    "OriginJwt": frozenset({"jwksUri"}),
    "TelemetrySpec": frozenset({"targetRef", "targetRefs"}),
}  # fmt: skip
ONE_OF = {
    "ExtensionProviderConfig": (
        "envoyExtAuthzHttp", "envoyExtAuthzGrpc", "zipkin", "datadog", "skywalking", "opentelemetry",
        "envoyFileAccessLog", "envoyHttpAls", "envoyTcpAls", "envoyOtelAls",
    ),
    "CustomTag": ("literal", "environment", "header", "formatter"),
    "OpentelemetryProvider": ("http", "grpc"),
    "LogFormat": ("text", "labels"),
    "PortReference": ("number", "name"),
}  # fmt: skip
TEXTS: dict[tuple[str, str], tuple[str, ...]] = {
    ("ExtensionProviderConfig", "name"): PROVIDERS,
    ("ExtensionProvider", "name"): PROVIDERS,
    ("ProviderRef", "name"): PROVIDERS,
    **{("DefaultProviders", name): PROVIDERS for name in ("tracing", "metrics", "accessLogging")},
    **{
        (kind, "service"): SERVICES
        for kind in ALWAYS
        if kind.endswith(("Provider", "Service")) or kind.startswith("ExtAuthz")
    },
    **{
        ("ExtAuthzHttp", name): (*HEADERS, "x-*", "*", *ODD)
        for name in (
            "includeHeadersInCheck", "includeRequestHeadersInCheck", "headersToUpstreamOnAllow",
            "headersToDownstreamOnDeny", "headersToDownstreamOnAllow",
        )
    },
    ("ExtAuthzHttp", "includeAdditionalHeadersInCheck"): FORMATS,
    ("ExtAuthzHttp", "pathPrefix"): ("/a", "/a?b", "/ b", "/\u00fc", "/a\nb"),
    ("ExtAuthzHttp", "statusOnError"): ("403", "200", "999"),
    ("ExtAuthzGrpc", "statusOnError"): ("403", "503", "x"),
    ("ProviderHeader", "name"): HEADERS,
    ("ProviderHeader", "value"): FORMATS,
    ("ZipkinProvider", "path"): ("/api", "/a b", "x", *ODD),
    ("OpentelemetryHttp", "path"): ("/api", "/a b", "x", *ODD),
    ("SkywalkingProvider", "accessToken"): ODD,
    ("FileAccessLog", "path"): ("/dev/null", "/dev/stdout", *ODD),
    ("LogFormat", "text"): FORMATS,
    ("LogFormat", "labels"): FORMATS,
    **{
        (f"{kind}AccessLogService", name): (*HEADERS, *ODD)
        for kind in ("Http", "Tcp", "Otel")
        for name in (
            "logName", "filterStateObjectsToLog", "additionalRequestHeadersToLog", "additionalResponseHeadersToLog",
            "additionalResponseTrailersToLog",
        )
    },
    ("MeshConfigSpec", "accessLogFile"): ("/dev/stdout", "/dev/null"),
    ("MeshConfigSpec", "accessLogFormat"): (*FORMATS, '{"a": "%REQ(x y)%"}', '{"a": ["%HOSTNAME%", 1, null]}'),
    ("ServerHeader", "value"): ("x", *ODD),
    ("AccessLogFilter", "expression"): EXPRESSIONS,
    ("TagOverride", "value"): EXPRESSIONS,
    ("MetricSelector", "customMetric"): ("requests_total", "istio_response_bytes", "x"),
    ("LiteralTag", "value"): ODD,
    ("HeaderTag", "name"): HEADERS,
    ("HeaderTag", "defaultValue"): ODD,
    ("EnvironmentTag", "name"): ("HOME", *ODD),
    ("EnvironmentTag", "defaultValue"): ODD,
    ("FormatterTag", "value"): FORMATS,
    ("TlsConfig", "ecdhCurves"): ("P-256", "X25519", "P-1"),
    ("DestinationRuleSpec", "host"): ("a", "b.default.svc.cluster.local"),
    ("RoleRule", "services"): ("*", "a.default.svc.cluster.local", "a*", "x"),
    ("Constraint", "key"): CONSTRAINTS,
    ("Constraint", "values"): ("*", "v1", "10.0.0.0/8", "80", "[a]", *ODD),
    **{("RoleRule", name): ("/a", "/a*", "*b", *ODD) for name in ("paths", "notPaths")},
    **{("RoleRule", name): ("GET", "*", *ODD) for name in ("methods", "notMethods", "hosts", "notHosts")},
    **{
        ("Subject", name): ("*", "a", "a*", "10.0.0.0/8", *ODD)
        for name in (
            "user", "names", "notNames", "group", "groups", "notGroups", "namespaces", "notNamespaces", "ips", "notIps",
            "properties",
        )
    },
    ("RoleReference", "kind"): ("ServiceRole",),
    ("RoleReference", "name"): ("r0", "r1", "r2", "r3"),
    ("RbacTarget", "services"): ("a.default.svc.cluster.local",),
    ("RbacTarget", "namespaces"): ("default", "*"),
    ("WorkloadSelector", "matchLabels"): ("a", "v1"),
    ("LabelSelector", "labels"): ("a", "v1"),
    ("WorkloadEntrySpec", "labels"): ("a", "v1", "x"),
    ("Subset", "labels"): ("v1", "x"),
    ("GatewaySpec", "selector"): ("ingressgateway",),
    ("OriginJwt", "jwks"): ('{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}',),
    ("OriginJwt", "issuer"): ("i", "https://i.example", *ODD),
    ("OriginJwt", "jwtHeaders"): HEADERS,
    ("OriginJwt", "jwtParams"): ODD,
    ("OriginJwt", "audiences"): ODD,
    ("PolicyTarget", "name"): ("a", "b"),
    ("PortReference", "name"): ("http", "tcp", "auto"),
    ("PathMatch", "suffix"): ("/a", "b", *ODD),
}  # fmt: skip
ROUTING: dict[tuple[str, str], tuple[str, ...]] = {
    ("HttpRedirect", "uri"): ("/x", "/x y", *ODD),
    ("HttpRedirect", "prefixRewrite"): ("/z", *ODD),
    ("HttpRedirect", "authority"): ("b.example", "c.example:80", *ODD),
    ("HttpRewrite", "uri"): ("/x", "/x y", *ODD),
    ("HttpRewrite", "authority"): ("b.example", *ODD),
    ("RegexRewrite", "match"): ("/x/(.*)", ".*", "a\nb", "\\d"),
    ("RegexRewrite", "rewrite"): (r"/\1", "/x", r"\2", "\\", *ODD),
    ("HttpBody", "string"): ODD,
    ("HttpRoute", "name"): ODD,
    ("HttpMatchRequest", "name"): ODD,
    ("StringMatch", "exact"): ("/x", "/x y", *ODD),
    ("StringMatch", "prefix"): ("/", "/x", *ODD),
    ("CorsPolicy", "allowOrigin"): ("https://x.example", "*", *ODD),
    ("CorsPolicy", "allowHeaders"): HEADERS,
    ("CorsPolicy", "exposeHeaders"): HEADERS,
    ("CorsPolicy", "allowMethods"): ("GET", "POST", "M-X", *ODD),
    ("HeaderOperations", "set"): FORMATS,
    ("HeaderOperations", "add"): FORMATS,
    ("HeaderOperations", "remove"): HEADERS,
    ("ConsistentHash", "httpHeaderName"): HEADERS,
    ("ConsistentHash", "httpQueryParameterName"): ODD,
    ("HttpCookie", "name"): ODD,
    ("HttpCookie", "path"): ODD,
    ("CookieAttribute", "name"): ODD,
    ("CookieAttribute", "value"): ODD,
    ("ClientTlsSettings", "sni"): ("x.example", *ODD),
    ("ClientTlsSettings", "subjectAltNames"): ("x.example", "spiffe://cluster.local/ns/default/sa/a", *ODD),
    ("ServerTlsSettings", "subjectAltNames"): ("x.example", *ODD),
    ("ServiceEntrySpec", "subjectAltNames"): ("x.example", *ODD),
    ("Server", "name"): ODD,
    ("LocalityDistribute", "from"): ("r1/z1", "r2/*", *ODD),
    ("WorkloadEntrySpec", "locality"): ("r1/z1", *ODD),
}
"""Of the kinds that route."""
KEYS: dict[tuple[str, str], tuple[str, ...]] = {
    ("HttpMatchRequest", "headers"): HEADERS,
    ("HttpMatchRequest", "withoutHeaders"): HEADERS,
    ("HttpMatchRequest", "queryParams"): NAMES,
    ("HeaderOperations", "set"): HEADERS,
    ("HeaderOperations", "add"): HEADERS,
    ("Tracing", "customTags"): NAMES,
    ("ProxyTracing", "customTags"): NAMES,
    ("MetricsOverride", "tagOverrides"): ("request_method", "reporter", "source_workload", *NAMES),
    ("ExtAuthzHttp", "includeAdditionalHeadersInCheck"): HEADERS,
    ("LogFormat", "labels"): NAMES,
    ("PeerAuthenticationSpec", "portLevelMtls"): ("80", "9000", "080", "x"),
    ("WorkloadSelector", "matchLabels"): ("app", "version"),
    ("LabelSelector", "labels"): ("app",),
    ("WorkloadEntrySpec", "ports"): ("http", "tcp", "auto", "x"),
    ("WorkloadEntrySpec", "labels"): ("app", "version", "x"),
    ("Subset", "labels"): ("version", "x"),
    ("GatewaySpec", "selector"): ("istio",),
    ("Subject", "properties"): (
        "source.ip",
        "request.auth.claims[a][b]",
        "request.auth.audiences",
        *(f"request.headers[{name}]" for name in HEADERS),
    ),
}
"""By struct and field, the keys of a map; those of others mean nothing."""
