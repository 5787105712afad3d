"""The agent's two secrets as Envoy reads them: ``default`` (certificate and key) and ``ROOTCA`` (whom to trust)."""

from __future__ import annotations

from lateen.envoy.resources import SECRET, EnvoyResources
from lateen.envoy.secrets import translate_secret
from lateen.identity.workload import Credentials
from lateen.plan.tls import MESH_ROOTS, WORKLOAD_CERTIFICATE


def workload_secrets(credentials: Credentials) -> EnvoyResources:
    """Both secrets of a workload. They hold the private key: give them to that workload's own socket alone."""
    certificate = translate_secret(WORKLOAD_CERTIFICATE, credentials.chain, bytes(credentials.key), b"")
    roots = translate_secret(MESH_ROOTS, b"", b"", credentials.roots)
    return EnvoyResources({SECRET: {secret.name: secret for secret in (certificate, roots)}})
