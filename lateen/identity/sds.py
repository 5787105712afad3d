"""The agent's two secrets as Envoy reads them: ``default`` (certificate and key) and ``ROOTCA`` (whom to trust)."""

from __future__ import annotations

from collections.abc import Sequence

from lateen.envoy.resources import SECRET, EnvoyResources
from lateen.envoy.secrets import translate_secret, trust_by_domain
from lateen.identity.workload import Credentials
from lateen.mesh.federation import Federation
from lateen.plan.tls import MESH_ROOTS, WORKLOAD_CERTIFICATE

ALONE = Federation()


def workload_secrets(
    credentials: Credentials, federation: Federation = ALONE, domains: Sequence[str] = ()
) -> EnvoyResources:
    """Both secrets of a workload. They hold the private key: give them to that workload's own socket alone.

    ``domains`` are the names of the mesh's own trust domain; with a federation each domain has roots of its own.
    """
    certificate = translate_secret(WORKLOAD_CERTIFICATE, credentials.chain, bytes(credentials.key), b"")
    own = credentials.roots + federation.own.encode()
    if federation.domains:
        others = [(name, pem.encode()) for name, pem in federation.domains]
        roots = trust_by_domain(MESH_ROOTS, [*((name, own) for name in domains), *others])
    else:
        roots = translate_secret(MESH_ROOTS, b"", b"", own)
    return EnvoyResources({SECRET: {secret.name: secret for secret in (certificate, roots)}})
