"""Filter chains are chosen as Envoy chooses them."""

from __future__ import annotations

from envoy.config.listener.v3 import listener_components_pb2

from lateen.explain.chains import Connection, matching_chains


def chain(name, port=None, ranges=(), names=(), transport="", protocols=()):
    made = listener_components_pb2.FilterChain(name=name)
    match = made.filter_chain_match
    if port is not None:
        match.destination_port.value = port
    for text in ranges:
        address, _, length = text.partition("/")
        match.prefix_ranges.add(address_prefix=address).prefix_len.value = int(length)
    match.server_names.extend(names)
    match.transport_protocol = transport
    match.application_protocols.extend(protocols)
    return made


def chosen(chains, **known):
    return [found.name for found in matching_chains(chains, Connection(**{"address": "1.2.3.4", "port": 80, **known}))]


def test_a_port_beats_none_and_there_is_no_way_back():
    chains = [chain("any"), chain("port", port=80, transport="tls")]
    assert chosen(chains, transport="tls") == ["port"]
    assert chosen(chains) == []
    assert chosen(chains, port=81) == ["any"]


def test_the_longest_prefix_wins():
    chains = [chain("wide", ranges=["1.0.0.0/8"]), chain("narrow", ranges=["1.2.0.0/16"]), chain("rest")]
    assert chosen(chains) == ["narrow"]
    assert chosen(chains, address="1.9.0.1") == ["wide"]
    assert chosen(chains, address="9.9.9.9") == ["rest"]
    assert chosen(chains, address="::1") == ["rest"]


def test_names_go_from_exact_over_longer_wildcards_to_none():
    chains = [
        chain("rest"),
        chain("wide", names=["*.com"]),
        chain("near", names=["*.a.com"]),
        chain("it", names=["x.a.com"]),
    ]
    assert chosen(chains, server_name="x.a.com") == ["it"]
    assert chosen(chains, server_name="y.a.com") == ["near"]
    assert chosen(chains, server_name="a.com") == ["wide"]
    assert chosen(chains, server_name="com") == ["rest"]
    assert chosen(chains) == ["rest"]


def test_protocols_are_tried_in_the_clients_order():
    chains = [chain("h2", protocols=["h2"]), chain("http", protocols=["http/1.1"]), chain("rest")]
    assert chosen(chains, protocols=("http/1.1", "h2")) == ["http"]
    assert chosen(chains, protocols=("other",)) == ["rest"]


def test_chains_that_match_alike_are_all_given():
    assert chosen([chain("a"), chain("b")]) == ["a", "b"]
