"""One address is one address, however it is spelled: Envoy refuses what stands there twice."""

import ipaddress

from tests.unit.plan.building import plan, service, workload


def entry(
    name, addresses, ports="[{number: 7000, name: tcp, protocol: TCP}, {number: 80, name: http, protocol: HTTP}]"
):
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{name}.example]
  addresses: {addresses}
  resolution: STATIC
  ports: {ports}
  endpoints: [{{address: 10.3.3.3}}]
---
"""


def test_services_at_an_address_that_is_spelled_in_two_ways_share_a_listener():
    text = entry("one", "['2001:DB8::1', '2001:db8::1', 10.9.1.2/16]") + entry("two", "['2001:db8::0:1', 10.9.3.4/16]")
    planned = plan(text, workload("a"))
    binds = [(ipaddress.ip_address(one.bind.address), one.bind.port) for one in planned.listeners]
    assert len(binds) == len(set(binds))
    for table in planned.route_tables:
        domains = [domain for host in table.virtual_hosts for domain in host.domains]
        assert len(domains) == len(set(domains))


def test_of_two_routes_for_one_block_of_clients_the_first_holds():
    routes = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: routes}
spec:
  hosts: [a]
  tcp:
  - {match: [{sourceSubnet: 10.1.1.1/8}], route: [{destination: {host: a, port: {number: 9000}}}]}
  - {match: [{sourceSubnet: 10.2.1.1/8}], route: [{destination: {host: b, port: {number: 9000}}}]}
"""
    ports = "[{name: tcp, port: 9000}]"
    planned = plan(service("a", ports=ports) + service("b", ports=ports) + routes, workload("c"))
    found = [chain for one in planned.listeners for chain in one.chains if chain.match.source_ranges]
    assert [chain.action.targets[0].cluster for chain in found] == ["outbound|9000||a.default.svc.cluster.local"]
