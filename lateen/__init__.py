"""Lateen: a service mesh that speaks Istio's resources and drives the real Envoy."""

__version__ = "0.1.0"
