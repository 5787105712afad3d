"""Citadel: who a workload is, and the certificates that prove it."""
