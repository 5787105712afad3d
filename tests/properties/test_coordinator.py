"""However the mesh got to where it is, every proxy has what it would have been given from scratch."""

import msgspec
from hypothesis import given, strategies as st

from lateen.control.coordinator import Coordinator
from lateen.mesh.references import dangling_references
from lateen.settings import Settings
from tests.properties.length import examples
from tests.unit.plan.building import resources, service, workload

NAMES = ("a", "b", "c")
RULES = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a}
spec: {host: a, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: PERMISSIVE}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: b}
spec: {hosts: [b], http: [{route: [{destination: {host: a, subset: v1}}]}]}
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: patches}
spec:
  workloadSelector: {labels: {version: v1}}
  configPatches:
  - applyTo: CLUSTER
    match: {cluster: {name: outbound|80||b.default.svc.cluster.local}}
    patch: {operation: REMOVE}
  - applyTo: CLUSTER
    match: {cluster: {service: c.default.svc.cluster.local}}
    patch: {operation: MERGE, value: {connect_timeout: 7s}}
  - applyTo: VIRTUAL_HOST
    patch: {operation: ADD, value: {name: more, domains: [more.example]}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: passing}
spec:
  servers: [{port: {number: 15443, name: tls, protocol: TLS}, hosts: ["*.local"], tls: {mode: AUTO_PASSTHROUGH}}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: narrow}
spec: {workloadSelector: {labels: {app: b}}, egress: [{hosts: ["./a.default.svc.cluster.local", "*/*.example"]}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside}
spec:
  hosts: [api.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  location: MESH_INTERNAL
  resolution: STATIC
  workloadSelector: {labels: {app: c}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside, namespace: other}
spec: {hosts: [api.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: c}
spec: {address: 10.9.0.1, labels: {app: c}, serviceAccount: c}
---
apiVersion: v1
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: a.default.svc.cluster.local}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: b, labels: {kubernetes.io/service-name: b}}
addressType: IPv4
ports: [{name: http, port: 8000}]
endpoints: [{addresses: [10.9.0.2]}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: in}
spec: {defaultBackend: {service: {name: a, port: {number: 80}}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: some}
spec: {rules: [{to: [{operation: {methods: [GET]}}]}]}
---
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
outboundTrafficPolicy: {mode: REGISTRY_ONLY}
---
"""
PARTS = resources("".join(service(name) for name in NAMES) + RULES)
REPLICAS = {
    f"{name}{number}": workload(
        name, version=f"v{number}", address=f"240.241.{number}.{place}", id=f"{name}{number}", ports=()
    )
    for place, name in enumerate(NAMES)
    for number in (1, 2)
}
REPLICAS["gateway"] = workload("gateway", id="gateway", address="240.241.3.0", ports=(), is_gateway=True)

step = st.one_of(
    st.tuples(st.just("part"), st.integers(0, len(PARTS) - 1)),
    st.tuples(st.sampled_from(["add", "ready"]), st.sampled_from(sorted(REPLICAS))),
    st.tuples(st.just("remove"), st.sampled_from(sorted(REPLICAS))),
)


class Follower:
    """What proxies were given."""

    def __init__(self):
        self.given = {}
        self.coordinator = Coordinator(Settings(), self.publish)

    def publish(self, proxy, found):
        if found is None:
            self.given.pop(proxy, None)
        else:
            self.given[proxy] = {
                (kind, name): resource.version
                for kind, named in found.by_type.items()
                for name, resource in named.items()
            }


@given(st.lists(step, max_size=40))
@examples(60, 1000)
def test_step_by_step_is_from_scratch_with_what_holds(steps):
    follower = Follower()
    parts = dict.fromkeys(range(len(NAMES)))
    running = {}
    for kind, what in steps:
        if kind == "part":
            parts.pop(what) if what in parts else parts.setdefault(what)
        elif kind == "remove":
            running.pop(what, None)
        elif kind == "add":
            running.setdefault(what, REPLICAS[what])
        elif what in running:
            running[what] = msgspec.structs.replace(running[what], ready=not running[what].ready)
        follower.coordinator.update(tuple(PARTS[index] for index in sorted(parts)), list(running.values()))
    scratch = Follower()
    scratch.coordinator.update(follower.coordinator.effective, list(running.values()))
    assert follower.given == scratch.given
    wanted = tuple(PARTS[index] for index in sorted(parts))
    if steps and not dangling_references(wanted, "cluster.local"):
        assert follower.coordinator.effective == wanted
