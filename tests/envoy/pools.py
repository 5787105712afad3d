"""DestinationRules and what they lead to, as tests write them."""

from __future__ import annotations

HOST, PORT = "shop.example", 8080


def entry_of(protocol: str, endpoints: str) -> str:
    """A ServiceEntry of one port, which is called as its protocol is; ``endpoints`` as YAML."""
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: shop}}
spec:
  hosts: [{HOST}]
  ports: [{{name: {protocol.lower()}, number: {PORT}, protocol: {protocol}}}]
  location: MESH_EXTERNAL
  resolution: STATIC
  endpoints: [{endpoints}]
---
"""


def rule(policy: str, *, annotations: str = "{}", subsets: str = "[]", host: str = HOST) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {host.partition(".")[0]}, annotations: {annotations}}}
spec:
  host: {host}
  trafficPolicy: {policy}
  subsets: {subsets}
---
"""
