"""Which fields of a MeshConfig (and of the proxies' defaults in it) Lateen does not honour, and why.

``REFUSED`` fields would change what traffic meets, so that a MeshConfig with one of them is not used at all.
``WITHOUT_EFFECT`` ones have nothing here that they could change; each is a warning, and the rest of the document holds.
"""

from __future__ import annotations

REFUSED: dict[str, str] = {
    "proxyListenPort": "the proxy's ports stand in a network of its own, so that 15001 is always free",
    "proxyInboundListenPort": "the proxy's ports stand in a network of its own, so that 15006 is always free",
    "proxyHttpPort": "there is no forward proxy beside the captured traffic",
    "outboundTrafficPolicy.tls": "it belongs to ALLOW_ANY_DYNAMIC_DNS",
    "configSources": "resources are read from the files that lateen.yaml names",
    "caCertificates[].spiffeBundleUrl": "bundles are not fetched; give the roots in pem",
    "caCertificates[].certSigners": "the mesh has one signer, its authority",
    "zoneAwareLbSetting": "it needs proxies that discover their own replicas; localityLbSetting works",
    "inboundClusterStatName": "statistics bear the clusters' names",
    "outboundClusterStatName": "statistics bear the clusters' names",
    "verifyCertificateAtClient": "clients always verify unless insecureSkipVerify is set",
    "ca": "the mesh has an authority of its own",
    "discoverySelectors": "the labels of namespaces are not known here",
    "authPolicy": "a PeerAuthentication or a MeshPolicy says which mutual TLS holds",
    "serviceEntryVisibility": "exportTo of each ServiceEntry says who sees it",
}
WITHOUT_EFFECT: dict[str, str] = {
    "hboneIdleTimeout": "there is no ambient mode",
    "serviceScopeConfigs": "there is no ambient mode",
    "serviceSettings": "there is one cluster",
    "certificates": "no certificates are made for DNS names",
    "extensionProviders[].lightstep": "this Envoy has no such tracer; opentelemetry sends the same spans by OTLP",
    "extensionProviders[].stackdriver": "this Envoy has no such tracer; opentelemetry sends the same spans by OTLP",
    "extensionProviders[].opencensus": "this Envoy has no such tracer; opentelemetry sends the same spans by OTLP",
    "extensionProviders[].prometheus": "metrics are always there for Prometheus",
    "extensionProviders[].opentelemetry.dynatraceSampler": "traces are sampled by randomSamplingPercentage",
    "extensionProviders[].sds": "Secrets come from the mesh's resources",
    "enableEnvoyAccessLogService": "name an envoyHttpAls in defaultProviders.accessLogging",
    "disableEnvoyListenerLog": "listeners have no log of their own",
    "enablePrometheusMerge": "metrics are always merged",
    "enableClientSidePolicyCheck": "requests are checked once, where they arrive; source.* says who calls",
    "mixerCheckServer": "a mesh with rules of Mixer has a mixer of its own",
    "mixerReportServer": "a mesh with rules of Mixer has a mixer of its own",
    "sidecarToTelemetrySessionAffinity": "a mesh has one mixer",
    "disableReportBatch": "reports are sent each second, or as 64 KiB of them are there",
    "reportBatchMaxEntries": "reports are sent each second, or as 64 KiB of them are there",
    "reportBatchMaxTime": "reports are sent each second, or as 64 KiB of them are there",
    "rdsRefreshDelay": "changes are told as they happen",
    "sdsUdsPath": "keys always come over SDS",
    "enableSdsTokenMount": "keys always come over SDS",
    "sdsUseK8sSaJwt": "keys always come over SDS",
}
PROXY_CONFIG: dict[str, str] = {
    "environmentVariables": "there is no agent that reads them; environment of lateen.yaml is the application's",
    "image": "there are no images here",
}
_BY_PROVIDER = "define an extensionProvider, and name it in defaultProviders.tracing"
_BY_OTLP = "name an opentelemetry provider in defaultProviders.metrics; statsd is served by rules of Mixer"
DEFAULT_CONFIG: dict[str, str] = {
    **{
        f"tracing.{field}": _BY_PROVIDER
        for field in ("zipkin", "lightstep", "datadog", "stackdriver", "openCensusAgent", "tlsSettings")
    },
    "configPath": "Lateen starts the proxies",
    "binaryPath": "Lateen starts the proxies",
    "customConfigFile": "Lateen writes the bootstrap",
    "proxyBootstrapTemplatePath": "Lateen writes the bootstrap",
    "serviceCluster": "a proxy is known by its workload",
    "tracingServiceName": "a workload is called by its canonical name and its namespace",
    "drainDuration": "proxies are drained as they stop",
    "terminationDrainDuration": "proxies are drained as they stop",
    "discoveryAddress": "proxies reach the control plane over a socket",
    "discoveryRefreshDelay": "changes are told as they happen",
    "controlPlaneAuthPolicy": "proxies reach the control plane over a socket",
    "proxyAdminPort": "the admin interface is a socket in the run directory",
    "statusPort": "lateen status asks the proxies",
    "statNameLength": "it is no option of this Envoy",
    "interceptionMode": "mesh.capture of lateen.yaml says how traffic is captured",
    "zipkinAddress": _BY_PROVIDER,
    "envoyAccessLogService": "name an envoyHttpAls in defaultProviders.accessLogging",
    "envoyMetricsService": _BY_OTLP,
    "envoyMetricsServiceAddress": _BY_OTLP,
    "statsdUdpAddress": _BY_OTLP,
    "availabilityZone": "it is deprecated; a WorkloadEntry has a locality",
    "sds": "keys always come over SDS",
    "proxyMetadata": "there is no agent that reads it",
    "runtimeValues": "Lateen writes the bootstrap",
    "extraStatTags": "metrics have Istio's labels",
    "meshId": "there is one mesh",
    "readinessProbe": "readiness of a service in lateen.yaml is the probe",
    "holdApplicationUntilProxyStarts": "applications always start after their proxy",
    "caCertificatesPem": "the trust of the mesh is its own authority",
    "image": "there are no images here",
    "privateKeyProvider": "this Envoy has no such provider",
    "proxyHeaders.metadataExchangeHeaders": "names of workloads never leave the mesh",
    "proxyHeaders.xForwardedHost": "the host that a client asked for stays in Host unless a route rewrites it",
    "fileFlushInterval": "Envoy's own interval holds",
    "fileFlushMinSizeKb": "Envoy's own size holds",
    "statsCompression": "metrics are scraped over a socket",
    "connectionSettings.listenerConnectionLimit": "it is set before a proxy starts, by Lateen",
    "connectionSettings.globalDownstreamConnectionLimit": "it is set before a proxy starts, by Lateen",
}
