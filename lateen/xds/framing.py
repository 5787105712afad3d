"""Responses as bytes, put together from pieces that are made once.

Comes in: resources. Goes out: serialised discovery responses. Protobuf merges what is concatenated, so a response is
its head followed by one piece for each resource; the pieces are shared by all streams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2

from lateen.envoy.resources import EnvoyResource

Frame = Callable[[str, EnvoyResource], bytes]
"""Makes the piece of one resource: ``frame(type_url, resource)``."""


def delta_piece(type_url: str, resource: EnvoyResource) -> bytes:
    """A ``DeltaDiscoveryResponse`` that holds this one resource and nothing else."""
    piece = discovery_pb2.DeltaDiscoveryResponse()
    added = piece.resources.add(name=resource.name, version=resource.version)
    added.resource.type_url = type_url
    added.resource.value = resource.body
    return bytes(piece.SerializeToString())


def delta_response(type_url: str, nonce: str, pieces: Iterable[bytes], removed: Iterable[str]) -> bytes:
    """A whole delta response."""
    head = discovery_pb2.DeltaDiscoveryResponse(type_url=type_url, nonce=nonce, removed_resources=removed)
    return b"".join((head.SerializeToString(), *pieces))


def world_response(type_url: str, nonce: str, version: str, resources: Iterable[EnvoyResource]) -> bytes:
    """A whole state-of-the-world response."""
    response = discovery_pb2.DiscoveryResponse(
        type_url=type_url,
        nonce=nonce,
        version_info=version,
        resources=[any_pb2.Any(type_url=type_url, value=resource.body) for resource in resources],
    )
    return bytes(response.SerializeToString())
