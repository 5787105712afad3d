"""Where a listener that a proxy was given listens.

Comes in: a serialised Listener. Goes out: its address and port, for those who compare it with what Envoy opened.
"""

from __future__ import annotations

from envoy.config.listener.v3 import listener_pb2

from lateen.envoy.resources import EnvoyResource


def listening_place(listener: EnvoyResource) -> tuple[str, int]:
    """The address and port that this listener binds on the machine; port 0 for one that binds none there."""
    message = listener_pb2.Listener.FromString(listener.body)
    place = message.address.socket_address
    binds = not message.HasField("bind_to_port") or message.bind_to_port.value
    return place.address, place.port_value if binds and not place.network_namespace_filepath else 0
