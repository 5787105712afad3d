"""What a user may write in ``lateen.yaml``: one struct per mapping, each field with its meaning and bounds.

This is the only description of the file: decoding (``shape``), the JSON schema for editors (``schema``) and the page
of the reference are all made from it. What the fields come to, defaults filled in, is ``lateen.local.project``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

NAME_PATTERN = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
DURATION_PATTERN = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$"

Name = Annotated[
    str, Meta(pattern=NAME_PATTERN, description="At most 63 small letters, digits and dashes; no dash at an end.")
]
PortNumber = Annotated[int, Meta(ge=1, le=65535, description="A port from 1 to 65535.")]
Duration = Annotated[str, Meta(pattern=DURATION_PATTERN, description="A time: 500ms, 2s, 1m, 1h.")]
Words = Annotated[list[str], Meta(min_length=1, description="The program and its arguments.")]
Path = Annotated[str, Meta(pattern="^/", description="A path of a URL.")]
Command = (
    Annotated[str, Meta(min_length=1, description="One line, split as a shell splits words; no shell runs it.")] | Words
)
Environment = Annotated[
    dict[str, str | int | float | bool],
    Meta(description="Variables of the application's environment; added to those of the shell that runs lateen up."),
]
Labels = Annotated[dict[str, str], Meta(description="Labels of the workload, as resources select it by.")]
Annotations = Annotated[
    dict[str, str], Meta(description="What annotations of Istio's pods say: policy.istio.io/check and its retries.")
]
Replicas = Annotated[int, Meta(ge=0, le=100, description="How many copies run.")]
ServiceAccount = Annotated[
    Name, Meta(description="The identity: spiffe://<trust domain>/ns/<namespace>/sa/<service account>.")
]
WorkingDirectory = Annotated[
    str, Meta(min_length=1, description="Where the command runs, relative to the file; its folder if not given.")
]


class PortFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One port of a service."""

    name: Annotated[str, Meta(min_length=1, description="The protocol, maybe a dash and more: http, grpc-web, tcp-db.")]
    port: Annotated[PortNumber, Meta(description="The port that clients call.")]
    target_port: Annotated[
        PortNumber | None, Meta(description="The port the application listens on; port if not given.")
    ] = None
    protocol: Annotated[
        str | None, Meta(description="What it speaks, where the name does not say: HTTP, HTTP2, GRPC, TLS, TCP...")
    ] = None


Ports = (
    Annotated[dict[str, PortNumber], Meta(description="Name to port: {http: 9080}.")]
    | Annotated[list[PortFields], Meta(description="The long form.")]
)


class ReadinessFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the application may have traffic: exactly one of http, tcp and exec, and how often to ask."""

    http: Annotated[Path | None, Meta(description="A path; an answer from 200 to 399 is ready.")] = None
    tcp: Annotated[PortNumber | None, Meta(description="A port; that it accepts is ready.")] = None
    exec: Annotated[Words | None, Meta(description="A command; that it exits with 0 is ready.")] = None
    port: Annotated[PortNumber | None, Meta(description="The port for http; the first port's target if not given.")] = (
        None
    )
    interval: Annotated[Duration, Meta(description="Time between two probes once ready.")] = "5s"
    timeout: Annotated[Duration, Meta(description="How long one probe may take.")] = "1s"
    initial_delay: Annotated[Duration, Meta(description="Time from the start to the first probe.")] = "0s"
    success_threshold: Annotated[int, Meta(ge=1, description="So many in a row make it ready.")] = 1
    failure_threshold: Annotated[int, Meta(ge=1, description="So many in a row make it not ready.")] = 3


Readiness = ReadinessFields | Literal["none"]


class VersionFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One version of a service: what differs from the service.

    Environment, labels and annotations are added to the service's.
    """

    command: Command | None = None
    environment: Environment = {}
    labels: Labels = {}
    annotations: Annotations = {}
    replicas: Replicas | None = None
    service_account: ServiceAccount | None = None
    readiness: Readiness | None = None
    working_dir: WorkingDirectory | None = None


class ServiceFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One service: the ports that clients call, and the processes behind them."""

    ports: Ports = {}
    command: Command | None = None
    environment: Environment = {}
    labels: Labels = {}
    annotations: Annotations = {}
    replicas: Replicas = 1
    service_account: ServiceAccount | None = None
    namespace: Name | None = None
    readiness: Readiness | None = None
    working_dir: WorkingDirectory | None = None
    versions: Annotated[
        dict[Name, VersionFields | None], Meta(description="Versions that run side by side, labelled version: NAME.")
    ] = {}


class GatewayFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One gateway: an Envoy at the edge, whose ports stand on the machine itself."""

    ports: Ports
    labels: Annotated[
        dict[str, str], Meta(description="What Gateway resources select it by; istio: NAME if not given.")
    ] = {}
    bind: Annotated[str, Meta(description="The address of the machine to listen on.")] = "127.0.0.1"
    namespace: Name | None = None
    service_account: ServiceAccount | None = None


class AccountTokenFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Signed service-account tokens (JWT): who signs them, and for whom."""

    issuer: Annotated[str, Meta(min_length=1, description="What iss has to be.")]
    jwks: Annotated[
        str,
        Meta(min_length=1, description="A file with the issuer's public keys (JWKS). It is read again as it changes."),
    ]
    audiences: Annotated[list[str], Meta(min_length=1, description="One of these has to be in aud.")] = msgspec.field(
        default_factory=lambda: ["istio-ca"]
    )


class IdentityFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The certificates of workloads, and the authority that signs them."""

    ca: Annotated[
        str,
        Meta(
            description="The authority's folder, relative to the file. With ca-cert.pem, ca-key.pem, cert-chain.pem "
            "and root-cert.pem it is plugged in; else it has a root of its own, which outlives the mesh. Without it "
            "the authority ends with the mesh."
        ),
    ] = ""
    life: Annotated[Duration, Meta(description="How long a workload's certificate holds; at least 1m.")] = "24h"
    listen: Annotated[
        str,
        Meta(
            description="HOST:PORT where the authority is reached over TLS by workloads elsewhere that have a token: "
            "one of lateen ca token, or of a service account. Nothing listens without it."
        ),
    ] = ""
    listen_mutual: Annotated[
        str, Meta(description="HOST:PORT where they renew, by the certificate that they have (mutual TLS).")
    ] = ""
    names: Annotated[list[str], Meta(description="Further names or addresses by which these ports are reached.")] = []
    account_tokens: Annotated[
        AccountTokenFields | None, Meta(description="Whose service-account tokens count, beside join tokens.")
    ] = None
    key: Annotated[
        Literal["ec-p256", "ec-p384", "rsa-2048", "rsa-3072", "rsa-4096"], Meta(description="The workloads' keys.")
    ] = "ec-p256"


class JwksFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How keys of tokens are fetched, where a RequestAuthentication names a jwksUri or an issuer alone."""

    allow: Annotated[
        list[str],
        Meta(
            description="Networks that may be called beside the public internet, such as 127.0.0.0/8 or 10.1.2.3: "
            "loopback, private and other special addresses are not. It holds for lists of Mixer's listchecker too."
        ),
    ] = []
    refresh: Annotated[Duration, Meta(description="After how long keys are read again; at least 1s.")] = "20m"


class RateLimitFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where limits are counted that all proxies count together."""

    redis: Annotated[
        str,
        Meta(
            description="A Redis: redis://HOST:6379/0, rediss://... or unix:///path. Without it the mixer counts in "
            "memory, and begins anew as it is started again."
        ),
    ] = ""


class MeshFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of the whole mesh."""

    capture: Annotated[
        Literal["auto", "namespaces", "loopback"], Meta(description="How traffic comes to pass through the sidecars.")
    ] = "auto"
    resources: Annotated[
        list[str] | None,
        Meta(
            description="Files and folders of resources; else those beside the file and in the folder mesh beside it."
        ),
    ] = None
    root_namespace: Annotated[Name, Meta(description="Where resources for the whole mesh stand.")] = "istio-system"
    trust_domain: Annotated[str, Meta(min_length=1, description="The trust domain of all identities.")] = (
        "cluster.local"
    )
    outbound_policy: Annotated[
        Literal["ALLOW_ANY", "REGISTRY_ONLY"], Meta(description="What may be called outside of the mesh.")
    ] = "ALLOW_ANY"
    host_ownership: Annotated[
        bool,
        Meta(description="A VirtualService for a service of another namespace holds for clients of its own alone."),
    ] = False
    jwks: JwksFields = JwksFields()
    rate_limits: RateLimitFields = RateLimitFields()
    identity: IdentityFields = IdentityFields()


class ProjectFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A lateen.yaml: what runs in the mesh on this machine."""

    name: Annotated[Name, Meta(description="The mesh's name; the folder's name if not given.")] | None = None
    namespace: Annotated[Name, Meta(description="Where services stand that name no namespace.")] = "default"
    services: dict[Name, ServiceFields] = {}
    gateways: dict[Name, GatewayFields] = {}
    mesh: MeshFields = MeshFields()
    meshConfig: Annotated[
        dict[str, Any] | None,
        Meta(description="Istio's MeshConfig: options of the whole mesh. It takes effect as it is saved."),
    ] = None
