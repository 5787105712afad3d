"""The HTTP API of a running mesh, on a Unix socket of its owner, and its client."""
