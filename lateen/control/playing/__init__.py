"""Calls through a real Envoy that runs a proxy's own configuration between stand-ins."""
