"""What each network namespace holds: addresses, routes and the rules that redirect connections, as netlink messages.

Comes in: a workload's address. Goes out: messages for ``netlink.talk``. Two kinds of namespaces:

- a workload's: connections that leave it go to its sidecar's listener, questions for names to the agent's sockets;
- the mesh's: every workload's address is local there, and a connection to one goes to that workload's sidecar.
"""

from __future__ import annotations

import socket
import struct

from lateen.local.network.netlink import (
    NLM_F_ACK,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REQUEST,
    Message,
    attr,
    nest,
)

OUTBOUND_PORT = 15001
INBOUND_PORT = 15006
DNS_PORT = 15053
SIDECAR_SOURCE = "127.0.0.6"
MESH_NETWORK = "240.241.0.0"
MESH_PREFIX = 16

_TABLE = "lateen"
_LOOPBACK_INDEX = 1
_ACK = NLM_F_REQUEST | NLM_F_ACK
_NEW = _ACK | NLM_F_CREATE | NLM_F_EXCL

# rtnetlink
_NEWLINK, _NEWADDR, _NEWROUTE = 16, 20, 24
_TABLE_MAIN, _TABLE_LOCAL = 254, 255
_SCOPE_LINK, _SCOPE_HOST = 253, 254
_TYPE_UNICAST, _TYPE_LOCAL = 1, 2
_PROTOCOL_STATIC = 4

# nf_tables
_SUBSYSTEM = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEWTABLE, _NEWCHAIN, _NEWRULE = 0, 3, 6
_HOOK_OUTPUT = 3
_PRIORITY_DSTNAT = -100
_PRIORITY_FILTER = 0
_EQUAL, _DIFFERENT = 0, 1
_REGISTER_1, _REGISTER_2 = 1, 2
_ACCEPT = 1


def loopback_up() -> Message:
    """Bring the loopback interface up."""
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, _LOOPBACK_INDEX, 1, 1)
    return Message(_NEWLINK, _ACK, body, "bring up the loopback interface")


def workload_routes(address: str) -> list[Message]:
    """The workload's own address on its loopback, and a default route there, so that any connection can set out."""
    packed = socket.inet_aton(address)
    own = struct.pack("=BBBBI", socket.AF_INET, 32, 0, 0, _LOOPBACK_INDEX) + attr(2, packed) + attr(1, packed)
    default = (
        _route(0, _TABLE_MAIN, _SCOPE_LINK, _TYPE_UNICAST)
        + attr(4, struct.pack("=I", _LOOPBACK_INDEX))
        + attr(7, packed)
    )
    return [
        loopback_up(),
        Message(_NEWADDR, _NEW, own, f"add the address {address}"),
        Message(_NEWROUTE, _NEW, default, "add the default route"),
    ]


def mesh_routes() -> list[Message]:
    """Every address of the workloads' network is local to the mesh's namespace."""
    route = (
        _route(MESH_PREFIX, _TABLE_LOCAL, _SCOPE_HOST, _TYPE_LOCAL)
        + attr(1, socket.inet_aton(MESH_NETWORK))
        + attr(4, struct.pack("=I", _LOOPBACK_INDEX))
    )
    return [loopback_up(), Message(_NEWROUTE, _NEW, route, f"make {MESH_NETWORK}/{MESH_PREFIX} local")]


def _route(prefix: int, table: int, scope: int, kind: int) -> bytes:
    return struct.pack("=8BI", socket.AF_INET, prefix, 0, 0, table, _PROTOCOL_STATIC, scope, kind, 0)


def workload_rules(address: str) -> list[Message]:
    """Names to the agent, the machine's own and the workload's own address left alone, the rest of TCP to the sidecar.

    What is neither TCP nor a question for a name cannot leave: it is refused at once instead of lost.
    """
    own = socket.inet_aton(address)
    nat, leave = "nat-output", "filter-output"
    not_sidecar = [_load(1, 12, 4), _compare(_DIFFERENT, socket.inet_aton(SIDECAR_SOURCE))]
    elsewhere = [*_not_loopback(), *_destination(_DIFFERENT, own)]
    return _batch(
        _table(),
        _chain(nat, "nat", _PRIORITY_DSTNAT),
        _rule(nat, [*_protocol(socket.IPPROTO_UDP), *_port(_EQUAL, 53), *_redirect(DNS_PORT)]),
        _rule(nat, [*_protocol(socket.IPPROTO_TCP), *_port(_EQUAL, 53), *not_sidecar, *_redirect(DNS_PORT)]),
        _rule(nat, [*_protocol(socket.IPPROTO_TCP), *elsewhere, *_redirect(OUTBOUND_PORT)]),
        _chain(leave, "filter", _PRIORITY_FILTER),
        _rule(leave, [*elsewhere, *_reject()]),
    )


def mesh_rules() -> list[Message]:
    """A connection to any port of a workload's address goes to its sidecar's inbound port at the same address."""
    nat = "nat-output"
    expressions = [
        *_protocol(socket.IPPROTO_TCP),
        *_network(socket.inet_aton(MESH_NETWORK), MESH_PREFIX),
        *_port(_DIFFERENT, INBOUND_PORT),
        *_destination_nat(INBOUND_PORT),
    ]
    return _batch(_table(), _chain(nat, "nat", _PRIORITY_DSTNAT), _rule(nat, expressions))


# Tables, chains, rules


def _batch(*messages: Message) -> list[Message]:
    mark = struct.pack(">BBH", socket.AF_UNSPEC, 0, _SUBSYSTEM)
    return [
        Message(_BATCH_BEGIN, NLM_F_REQUEST, mark, "begin nftables rules"),
        *messages,
        Message(_BATCH_END, NLM_F_REQUEST, mark, "end nftables rules"),
    ]


def _nft(kind: int, flags: int, attributes: bytes, what: str) -> Message:
    return Message(_SUBSYSTEM << 8 | kind, flags, struct.pack(">BBH", socket.AF_INET, 0, 0) + attributes, what)


def _table() -> Message:
    return _nft(_NEWTABLE, _ACK | NLM_F_CREATE, attr(1, _TABLE), "add an nftables table")


def _chain(name: str, kind: str, priority: int) -> Message:
    hook = nest(4, attr(1, _HOOK_OUTPUT), attr(2, priority))
    attributes = attr(1, _TABLE) + attr(3, name) + hook + attr(7, kind)
    return _nft(_NEWCHAIN, _ACK | NLM_F_CREATE, attributes, f"add the nftables chain {name}")


def _rule(chain: str, expressions: list[bytes]) -> Message:
    attributes = attr(1, _TABLE) + attr(2, chain) + nest(4, *expressions)
    return _nft(_NEWRULE, _ACK | NLM_F_CREATE | NLM_F_APPEND, attributes, f"add a rule to the nftables chain {chain}")


# Expressions


def _expression(name: str, *attributes: bytes) -> bytes:
    return nest(1, attr(1, name), nest(2, *attributes))


def _compare(operation: int, value: bytes) -> bytes:
    return _expression("cmp", attr(1, _REGISTER_1), attr(2, operation), nest(3, attr(1, value)))


def _load(base: int, offset: int, length: int) -> bytes:
    """Header bytes into register 1; base 1 is the IP header, 2 the transport's."""
    return _expression("payload", attr(1, _REGISTER_1), attr(2, base), attr(3, offset), attr(4, length))


def _protocol(number: int) -> list[bytes]:
    return [_expression("meta", attr(1, _REGISTER_1), attr(2, 16)), _compare(_EQUAL, bytes([number]))]


def _port(operation: int, port: int) -> list[bytes]:
    return [_load(2, 2, 2), _compare(operation, struct.pack(">H", port))]


def _destination(operation: int, address: bytes) -> list[bytes]:
    return [_load(1, 16, 4), _compare(operation, address)]


def _network(address: bytes, prefix: int) -> list[bytes]:
    return [_load(1, 16, prefix // 8), _compare(_EQUAL, address[: prefix // 8])]


def _not_loopback() -> list[bytes]:
    return [_load(1, 16, 1), _compare(_DIFFERENT, b"\x7f")]


def _immediate_port(register: int, port: int) -> bytes:
    return _expression("immediate", attr(1, register), nest(2, attr(1, struct.pack(">H", port))))


def _redirect(port: int) -> list[bytes]:
    """To this port of the namespace's 127.0.0.1."""
    return [_immediate_port(_REGISTER_1, port), _expression("redir", attr(1, _REGISTER_1))]


def _destination_nat(port: int) -> list[bytes]:
    """To this port of the same address."""
    return [
        _load(1, 16, 4),
        _immediate_port(_REGISTER_2, port),
        _expression("nat", attr(1, 1), attr(2, socket.AF_INET), attr(3, _REGISTER_1), attr(5, _REGISTER_2)),
    ]


def _reject() -> list[bytes]:
    """Answer "administratively prohibited"."""
    return [_expression("reject", attr(1, 0), attr(2, bytes([13])))]
