"""Names inside the mesh: what is answered, what is forwarded, and that nothing which arrives does harm."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given, strategies as st

from lateen.local.network.dns_answers import Otherwise, Renamed, answer
from lateen.local.network.dns_forward import Forwarder, read_servers
from lateen.local.network.dns_names import NameTable, look_up, search_list
from lateen.local.network.dns_server import Responder
from lateen.local.network.name_files import plain_hosts, write_name_files

SEARCH = search_list("default", "cluster.local")
NAMES = {
    "reviews.default.svc.cluster.local": ["240.240.3.4"],
    "ratings.other.svc.cluster.local": ["240.240.5.6"],
    "*.example.com": ["240.240.7.8"],
    "two.example.org": ["240.240.9.1", "240.240.9.2", "fd00::1"],
}


def table() -> NameTable:
    found = NameTable()
    found.update(NAMES, {"api.default.svc.cluster.local": "www.example.com"})
    return found


def ask(name: str, kind: str = "A", limit: int = 1232) -> dns.message.Message | Otherwise:
    found = answer(dns.message.make_query(name, kind).to_wire(), table(), SEARCH, limit)
    assert not isinstance(found, Renamed)
    return found if isinstance(found, Otherwise) else dns.message.from_wire(found)


def records(name: str, kind: str = "A") -> list[str]:
    found = ask(name, kind)
    assert isinstance(found, dns.message.Message)
    assert found.rcode() == dns.rcode.NOERROR
    return sorted(str(item) for rrset in found.answer for item in rrset)


@pytest.mark.parametrize(
    "name",
    [
        "reviews",
        "reviews.default",
        "reviews.default.svc",
        "reviews.default.svc.cluster.local",
        "REVIEWS.Default.svc.cluster.local.",
    ],
)
def test_a_service_has_the_names_it_has_in_a_cluster(name: str) -> None:
    assert records(name) == ["240.240.3.4"]


def test_names_of_other_namespaces_need_the_namespace() -> None:
    assert records("ratings.other") == ["240.240.5.6"]
    assert ask("ratings") is Otherwise.FORWARD


def test_a_wildcard_answers_for_what_is_below_it() -> None:
    assert records("a.example.com") == records("b.a.example.com") == ["240.240.7.8"]
    assert ask("example.com") is Otherwise.FORWARD


def test_addresses_are_told_by_family() -> None:
    assert records("two.example.org") == ["240.240.9.1", "240.240.9.2"]
    assert records("two.example.org", "AAAA") == ["fd00::1"]
    assert records("two.example.org", "ANY") == ["240.240.9.1", "240.240.9.2"]


@pytest.mark.parametrize("kind", ["AAAA", "TXT", "SRV", "HTTPS", "MX"])
def test_a_known_name_has_no_other_records_and_still_exists(kind: str) -> None:
    assert records("reviews", kind) == []


@pytest.mark.parametrize("name", ["nothing.default.svc.cluster.local", "cluster.local", "pypi.org.svc.cluster.local"])
def test_what_is_not_there_under_the_meshs_domain_does_not_exist(name: str) -> None:
    found = ask(name)
    assert isinstance(found, dns.message.Message)
    assert found.rcode() == dns.rcode.NXDOMAIN


def test_addresses_of_the_mesh_have_names() -> None:
    assert records("4.3.240.240.in-addr.arpa", "PTR") == ["reviews.default.svc.cluster.local."]
    found = ask("1.1.241.240.in-addr.arpa", "PTR")
    assert isinstance(found, dns.message.Message)
    assert found.rcode() == dns.rcode.NXDOMAIN
    for other in ("1.0.0.127.in-addr.arpa", "240.240.in-addr.arpa", "x.3.240.240.in-addr.arpa"):
        assert ask(other, "PTR") is Otherwise.FORWARD


def test_an_answer_that_is_too_long_is_cut_over_udp_and_whole_over_tcp() -> None:
    many = NameTable()
    many.update({"many.example.org": [f"240.240.1.{last}" for last in range(1, 201)]})
    query = dns.message.make_query("many.example.org", "A").to_wire()
    short = answer(query, many, SEARCH, 1232)
    whole = answer(query, many, SEARCH, 65535)
    assert isinstance(short, bytes)
    assert isinstance(whole, bytes)
    assert len(short) <= 512
    assert dns.message.from_wire(short).flags & dns.flags.TC
    assert len(dns.message.from_wire(whole).answer[0]) == 200


def test_extended_queries_are_answered_in_kind() -> None:
    query = dns.message.make_query("reviews", "A", use_edns=True, payload=4096)
    found = answer(query.to_wire(), table(), SEARCH, 1232)
    assert isinstance(found, bytes)
    assert dns.message.from_wire(found).edns == 0


def test_what_is_no_query_is_dropped_or_refused() -> None:
    query = dns.message.make_query("reviews", "A").to_wire()
    assert answer(b"", table(), SEARCH, 512) is Otherwise.DROP
    assert answer(query[:11], table(), SEARCH, 512) is Otherwise.DROP
    response = bytearray(query)
    response[2] |= 0x80
    assert answer(bytes(response), table(), SEARCH, 512) is Otherwise.DROP
    for broken, code in (
        (query[:14], dns.rcode.FORMERR),
        (query[:4] + b"\0\2" + query[6:], dns.rcode.FORMERR),
        (query[:4] + b"\0\0" + query[6:12], dns.rcode.FORMERR),
        (query[:2] + bytes([query[2] | 0x10]) + query[3:], dns.rcode.NOTIMP),
    ):
        found = answer(broken, table(), SEARCH, 512)
        assert isinstance(found, bytes)
        assert found[:2] == query[:2]
        assert found[3] & 0xF == code


@given(st.binary(max_size=200))
def test_no_bytes_do_harm(data: bytes) -> None:
    found = answer(data, table(), SEARCH, 1232)
    assert isinstance(found, bytes | Otherwise)


@given(st.integers(0, 60), st.binary(min_size=1, max_size=8))
def test_no_damaged_query_does_harm(place: int, bytes_there: bytes) -> None:
    query = bytearray(dns.message.make_query("reviews.default.svc.cluster.local", "A", use_edns=True).to_wire())
    query[place : place + len(bytes_there)] = bytes_there
    assert isinstance(answer(bytes(query), table(), SEARCH, 1232), bytes | Otherwise)


def test_the_table_follows_its_file(tmp_path: Path) -> None:
    file = tmp_path / "names.json"
    names = NameTable(file)
    names.refresh()
    assert look_up(names, "reviews", SEARCH) is None
    for text, expected in (
        (json.dumps({"names": {"reviews.default.svc.cluster.local": ["240.240.1.1"]}}), ("240.240.1.1",)),
        ("{", ("240.240.1.1",)),
        (json.dumps({"names": {"reviews.default.svc.cluster.local": ["240.240.1.2"]}}), ("240.240.1.2",)),
    ):
        other = tmp_path / "other"
        other.write_text(text)
        other.replace(file)
        names.refresh()
        assert look_up(names, "reviews", SEARCH) == expected
    file.unlink()
    names.refresh()
    assert look_up(names, "reviews", SEARCH) == ("240.240.1.2",)


# Forwarding


def test_the_machines_resolvers_are_read_as_they_are_now(tmp_path: Path) -> None:
    text = "# nameserver 9.9.9.9\nnameserver 10.0.0.1 # first\nnameserver fe80::1\nsearch a\nnameserver\n"
    text += " nameserver 10.0.0.2\nnameserver 10.0.0.3\n"
    assert read_servers(text) == (("10.0.0.1", 53), ("fe80::1", 53), ("10.0.0.2", 53))
    file = tmp_path / "resolv.conf"
    forwarder = Forwarder(resolv_conf=file)
    assert forwarder.servers() == (("127.0.0.1", 53),)
    file.write_text("nameserver 10.1.1.1\n")
    assert forwarder.servers() == (("10.1.1.1", 53),)
    file.write_text("nameserver 10.1.1.22\n")
    os.utime(file, ns=(1, 1))
    assert forwarder.servers() == (("10.1.1.22", 53),)


class Upstream(asyncio.DatagramProtocol):
    """A resolver: answers by echoing with the response bit set, after a stranger's answer; or is silent."""

    def __init__(self, silent: bool = False) -> None:
        self.silent = silent
        self.asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.asked += 1
        if not self.silent:
            self.transport.sendto(b"\xff\xff" + data[2:], addr)  # type: ignore[attr-defined]
            self.transport.sendto(data[:2] + bytes([data[2] | 0x80]) + data[3:] + b"udp", addr)  # type: ignore[attr-defined]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        data = await reader.readexactly(length)
        found = data[:2] + bytes([data[2] | 0x80]) + data[3:] + b"tcp"
        writer.write(struct.pack("!H", len(found)) + found)
        writer.close()


@contextlib.asynccontextmanager
async def upstream(
    made: Upstream | None = None, silent: bool = False
) -> AsyncIterator[tuple[Upstream, tuple[str, int]]]:
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(lambda r, w: resolver.serve(r, w), "127.0.0.1", 0)
    place = server.sockets[0].getsockname()
    transport, resolver = await loop.create_datagram_endpoint(lambda: made or Upstream(silent), local_addr=place)
    try:
        yield resolver, place
    finally:
        transport.close()
        server.close()


@contextlib.asynccontextmanager
async def responder(forwarder: Forwarder) -> AsyncIterator[tuple[str, int]]:
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    streams = socket.socket()
    streams.bind(("127.0.0.1", 0))
    datagrams.bind(streams.getsockname())
    streams.listen()
    found = Responder(table(), forwarder, "default", "cluster.local")
    await found.start(datagrams, streams)
    try:
        yield streams.getsockname()
    finally:
        found.close()
        await asyncio.sleep(0)


async def over_udp(place: tuple[str, int], query: bytes, patience: float = 8.0) -> bytes:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect(place)
        await loop.sock_sendall(client, query)
        async with asyncio.timeout(patience):
            return await loop.sock_recv(client, 65535)


async def over_tcp(place: tuple[str, int], *queries: bytes) -> list[bytes]:
    reader, writer = await asyncio.open_connection(*place)
    found = []
    for query in queries:
        writer.write(struct.pack("!H", len(query)) + query)
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        found.append(await reader.readexactly(length))
    writer.close()
    return found


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(bounded())


def test_both_ways_to_ask_are_answered_and_others_questions_forwarded_as_they_are() -> None:
    async def scenario() -> None:
        known = dns.message.make_query("reviews", "A").to_wire()
        unknown = dns.message.make_query("pypi.org", "TXT").to_wire()
        async with upstream() as (_, server), responder(Forwarder((server,))) as place:
            assert b"\xf0\xf0\x03\x04" in await over_udp(place, known)
            found = await over_udp(place, unknown)
            assert found[:2] == unknown[:2]
            assert found.endswith(b"udp")
            first, second, third = await over_tcp(place, known, unknown, known)
            assert b"\xf0\xf0\x03\x04" in first
            assert second.endswith(b"tcp")
            assert third == first

    run(scenario)


class Knowing(Upstream):
    """A resolver that knows one name."""

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.transport.sendto(self._answer(data), addr)  # type: ignore[attr-defined]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        found = self._answer(await reader.readexactly(length))
        writer.write(struct.pack("!H", len(found)) + found)
        writer.close()

    def _answer(self, data: bytes) -> bytes:
        query = dns.message.from_wire(data)
        reply = dns.message.make_response(query)
        if query.question[0].name.to_text() == "www.example.com." and query.question[0].rdtype == dns.rdatatype.A:
            reply.answer.append(dns.rrset.from_text("www.example.com.", 60, "IN", "A", "192.0.2.7"))
        return reply.to_wire()


@pytest.mark.parametrize("name", ["api", "api.default", "API.default.svc.cluster.local."])
def test_a_name_that_stands_for_one_outside_is_resolved_there(name: str) -> None:
    async def scenario() -> None:
        query = dns.message.make_query(name, "A")
        other = dns.message.make_query(name, "AAAA").to_wire()
        async with upstream(Knowing()) as (_, server), responder(Forwarder((server,))) as place:
            for data in (await over_udp(place, query.to_wire()), *await over_tcp(place, query.to_wire())):
                found = dns.message.from_wire(data)
                assert (found.id, found.question) == (query.id, query.question)
                alias, address = found.answer
                assert (alias.name, str(alias[0])) == (query.question[0].name, "www.example.com.")
                assert str(address[0]) == "192.0.2.7"
            none = dns.message.from_wire(await over_udp(place, other))
            assert (none.rcode(), len(none.answer)) == (dns.rcode.NOERROR, 1)

    run(scenario)


def test_a_dead_resolver_is_passed_over_and_with_none_left_the_question_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lateen.local.network.dns_forward.TRY_S", 0.2)

    async def scenario() -> None:
        unknown = dns.message.make_query("pypi.org", "A").to_wire()
        async with upstream(silent=True) as (deaf, silent):
            async with upstream() as (_, server), responder(Forwarder((silent, server))) as place:
                assert (await over_udp(place, unknown)).endswith(b"udp")
            asked = deaf.asked
            async with responder(Forwarder((silent,))) as place:
                found = await over_udp(place, unknown)
                assert found[3] & 0xF == dns.rcode.SERVFAIL
                assert deaf.asked == asked + 2

    run(scenario)


def test_the_responder_outlives_what_is_thrown_at_it() -> None:
    async def scenario() -> None:
        known = dns.message.make_query("reviews", "A").to_wire()
        async with upstream() as (_, server), responder(Forwarder((server,))) as place:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                for size in range(64):
                    client.sendto(os.urandom(size), place)
            for text in (b"", b"\0", b"\0\0", b"\xff\xff" + b"x" * 10, b"\0\x05hello"):
                _, writer = await asyncio.open_connection(*place)
                writer.write(text)
                writer.close()
            assert b"\xf0\xf0\x03\x04" in await over_udp(place, known)
            assert len(await over_tcp(place, known)) == 1

    run(scenario)


def test_too_many_questions_at_once_fail_at_once() -> None:
    async def scenario() -> None:
        unknown = dns.message.make_query("pypi.org", "A").to_wire()
        async with upstream(silent=True) as (_, silent):
            forwarder = Forwarder((silent,))
            waiting = [asyncio.ensure_future(forwarder.ask(unknown, over_tcp=False)) for _ in range(256)]
            await asyncio.sleep(0)
            assert await forwarder.ask(unknown, over_tcp=False) is None
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    run(scenario)


# Files


def test_host_names_come_from_files_and_dns_alone(tmp_path: Path) -> None:
    text = "passwd: files systemd\nhosts:  files mymachines resolve [!UNAVAIL=return] dns # as ever\n# hosts: none\n"
    assert plain_hosts(text) == "passwd: files systemd\n# hosts: none\nhosts: files dns\n"
    machine = tmp_path / "nsswitch.conf"
    machine.write_text(text)
    for _ in range(2):
        write_name_files(tmp_path / "names", SEARCH, machine)
    expected = (
        "nameserver 127.0.0.1\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
    )
    assert (tmp_path / "names" / "resolv.conf").read_text() == expected
    write_name_files(tmp_path / "none", SEARCH, tmp_path / "missing")
    assert not (tmp_path / "none" / "nsswitch.conf").exists()
