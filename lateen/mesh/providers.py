"""The servers that ``extensionProviders`` of a MeshConfig name, as services of the mesh.

Comes in: the mesh configuration and the registry. Goes out: by a provider's name what it is, and the service behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from lateen.mesh.model import Service
from lateen.resources.mesh_config import ExtensionProviderConfig, MeshConfigSpec, RemoteProvider

_ANY_NAMESPACE = ("", "*")


def provider_named(config: MeshConfigSpec, name: str) -> ExtensionProviderConfig | None:
    """The provider of this name; None where there is none."""
    return next((provider for provider in config.extension_providers if provider.name == name), None)


def content_of(provider: ExtensionProviderConfig) -> Any:
    """What a provider is: the one of its fields that is set."""
    found = (getattr(provider, field.name) for field in msgspec.structs.fields(provider) if field.name != "name")
    return next((content for content in found if content is not None), None)


def remote_providers(config: MeshConfigSpec) -> Iterator[RemoteProvider]:
    """Those that are servers."""
    for provider in config.extension_providers:
        content = content_of(provider)
        if isinstance(content, RemoteProvider):
            yield content


def service_behind(services: Mapping[str, Service], provider: RemoteProvider) -> Service | None:
    """The service of ``host`` or ``namespace/host`` that a provider is, if it is there and has its port."""
    namespace, slash, host = provider.service.partition("/")
    found = services.get(host if slash else provider.service)
    if found is None or (slash and namespace not in (*_ANY_NAMESPACE, found.namespace)):
        return None
    return found if any(port.number == provider.port for port in found.ports) else None
