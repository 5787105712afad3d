"""DestinationRules and what they lead to, as tests write them."""

from __future__ import annotations

HOST, PORT = "shop.example", 8080


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
