"""Answer a question for a name, or say that another must: bytes in, a decision out, without I/O.

Names of the mesh are answered here: A records, an empty answer for other types, so that nobody waits for an IPv6
address that is not there. What lies under the mesh's domain and is not known does not exist. All else is forwarded.
"""

from __future__ import annotations

import enum
import ipaddress
import struct

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import msgspec

from lateen.local.network.dns_names import NameTable, look_up, outside

TTL_S = 5
_OWN_NETWORK = ipaddress.IPv4Network("240.240.0.0/15")
_HEADER_SIZE = 12
_RESPONSE_FLAG = 0x80
_ADDRESS_TYPES = (dns.rdatatype.A, dns.rdatatype.ANY)


class Otherwise(enum.Enum):
    """What to do where there is no answer to give."""

    DROP = "drop"
    FORWARD = "forward"


class Renamed(msgspec.Struct, frozen=True):
    """A question for a name that stands for another one outside: what to ask there, and the answer made of it."""

    message: dns.message.Message
    target: dns.name.Name
    limit: int

    @property
    def query(self) -> bytes:
        """The question to forward."""
        asked = dns.message.make_query(self.target, self.message.question[0].rdtype, id=self.message.id)
        return asked.to_wire()

    def reply(self, answer: bytes) -> bytes:
        """What was asked for, under the name that it was asked by: an alias record comes first."""
        try:
            found = dns.message.from_wire(answer, ignore_trailing=True)
            reply = dns.message.make_response(self.message, recursion_available=True)
            reply.set_rcode(found.rcode())
            name = self.message.question[0].name
            reply.answer.append(dns.rrset.from_text(name, TTL_S, "IN", "CNAME", self.target.to_text()))
            reply.answer.extend(found.answer)
            return _encode(reply, self.message, self.limit)
        except (dns.exception.DNSException, ValueError, IndexError, struct.error):
            return failure(answer, dns.rcode.SERVFAIL)


def answer(query: bytes, table: NameTable, search: tuple[str, ...], limit: int) -> bytes | Renamed | Otherwise:
    """The answer to one query, at most ``limit`` bytes (then truncated, so that the asker comes back over TCP).

    Never raises for what a query holds.
    """
    if len(query) < _HEADER_SIZE or query[2] & _RESPONSE_FLAG:
        return Otherwise.DROP
    try:
        message = dns.message.from_wire(query, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError, IndexError, struct.error):
        return failure(query, dns.rcode.FORMERR)
    if message.opcode() != dns.opcode.QUERY:
        return failure(query, dns.rcode.NOTIMP)
    if len(message.question) != 1:
        return failure(query, dns.rcode.FORMERR)
    try:
        name = message.question[0].name
        target = outside(table, name.to_text(omit_final_dot=True), search)
        if target is not None and message.question[0].rdclass == dns.rdataclass.IN:
            return Renamed(message, dns.name.from_text(target), limit)
        found = _answer(message, table, search)
        if found is None:
            return Otherwise.FORWARD
        return _encode(found, message, limit)
    except (dns.exception.DNSException, ValueError):
        return failure(query, dns.rcode.SERVFAIL)


def failure(query: bytes, code: int) -> bytes:
    """A bare answer with an error code; the question is repeated only as far as it can be read."""
    flags = _RESPONSE_FLAG | query[2] & 0x79
    return query[:2] + bytes([flags, 0x80 | code]) + bytes(8)


def _answer(message: dns.message.Message, table: NameTable, search: tuple[str, ...]) -> dns.message.Message | None:
    question = message.question[0]
    if question.rdclass != dns.rdataclass.IN:
        return None
    name = question.name.to_text(omit_final_dot=True).lower()
    reply = dns.message.make_response(message, recursion_available=True)
    reply.flags |= dns.flags.AA
    addresses = look_up(table, name, search)
    if addresses is not None:
        fitting = [one for one in addresses if ":" not in one] if question.rdtype in _ADDRESS_TYPES else []
        if question.rdtype == dns.rdatatype.AAAA:
            fitting = [one for one in addresses if ":" in one]
        kind = dns.rdatatype.AAAA if question.rdtype == dns.rdatatype.AAAA else dns.rdatatype.A
        if fitting:
            reply.answer.append(dns.rrset.from_text(question.name, TTL_S, "IN", kind, *fitting))
        return reply
    if question.rdtype == dns.rdatatype.PTR and (address := _own_address(name)):
        host = table.host(address)
        if host is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        else:
            reply.answer.append(dns.rrset.from_text(question.name, TTL_S, "IN", "PTR", f"{host}."))
        return reply
    domain = search[-1]
    if name == domain or name.endswith(f".{domain}"):
        reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply
    return None


def _own_address(name: str) -> str:
    """The address that a reverse name of the mesh's own networks means; empty for any other name."""
    labels = name.removesuffix(".in-addr.arpa").split(".")
    if not name.endswith(".in-addr.arpa") or len(labels) != 4:
        return ""
    try:
        address = ipaddress.IPv4Address(".".join(reversed(labels)))
    except ValueError:
        return ""
    return str(address) if address in _OWN_NETWORK else ""


def _encode(reply: dns.message.Message, query: dns.message.Message, limit: int) -> bytes:
    room = min(limit, max(query.payload, 512)) if limit < 65535 else limit
    try:
        return reply.to_wire(max_size=room)
    except dns.exception.TooBig:
        short = dns.message.make_response(query, recursion_available=True)
        short.flags |= dns.flags.TC
        return short.to_wire()
