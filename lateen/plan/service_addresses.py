"""Where a proxy's application finds a service: single addresses, blocks of them, or any address.

Comes in: the proxy's network and the service. Goes out: addresses to listen on.
"""

from __future__ import annotations

from lateen.mesh.addresses import in_loopback_view
from lateen.mesh.model import MeshSnapshot, Service
from lateen.plan.proxy import LoopbackNetwork, Proxy
from lateen.values.network import is_ip, usual_address


def listening_addresses(proxy: Proxy, service: Service) -> tuple[str, ...]:
    """The single addresses: the virtual one, and those that the user gave."""
    if isinstance(proxy.network, LoopbackNetwork):
        return (in_loopback_view(service.address, proxy.network.prefix),) if service.address else ()
    given = tuple(_single(text) for text in service.addresses if not _is_block(text))
    return tuple(dict.fromkeys((*((service.address,) if service.address else ()), *given)))


def member_addresses(snapshot: MeshSnapshot, service: Service) -> tuple[str, ...]:
    """The addresses of a headless service's members; ready or not, as readiness comes and goes."""
    if not service.headless:
        return ()
    found = (member.address for member in snapshot.members.get(service.hostname, ()))
    return tuple(dict.fromkeys(usual_address(address) for address in found if is_ip(address)))


def blocks(service: Service) -> tuple[str, ...]:
    """The blocks of addresses that the user gave."""
    return tuple(text for text in service.addresses if _is_block(text))


def takes_any_address(service: Service) -> bool:
    """Whether calls may arrive at addresses that nobody knows beforehand: nobody gave any, and names are looked up
    outside the mesh too."""
    return not service.addresses and (service.external or not service.address)


def listens_anywhere(service: Service) -> bool:
    """Whether calls may arrive at more than single addresses (where traffic is redirected)."""
    return takes_any_address(service) or bool(blocks(service))


def _is_block(text: str) -> bool:
    _, slash, bits = text.partition("/")
    return bool(slash) and bits != ("128" if ":" in text else "32")


def _single(text: str) -> str:
    return text.partition("/")[0]
