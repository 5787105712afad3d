"""What the board says of a proxy, from its first request to its end."""

from __future__ import annotations

from lateen.envoy.resources import CLUSTER, ROUTE
from lateen.values.names import Origin
from lateen.xds.status import StatusBoard, SyncState, TypeStatus
from lateen.xds.subscription import version_of_set
from tests.unit.xds.exchange import Delta, resource, resources

A = resource("a")


def row(board: StatusBoard, kind: str = CLUSTER) -> TypeStatus:
    return next(found for found in board.rows("p") if found.type_url == kind)


def test_from_nothing_to_in_step() -> None:
    board, client = StatusBoard(), Delta(now=5.0)
    assert board.rows() == ()
    board.attach("p", client.session)
    assert board.connected() == {"p"}
    assert row(board).state is SyncState.NOT_SENT
    client.aim(resources(clusters=[A]))
    (response,) = client.ask(CLUSTER)
    assert row(board).state is SyncState.STALE
    assert (row(board).sent_version, row(board).acked_version) == (version_of_set([A]), "")
    client.answer(response)
    assert row(board).state is SyncState.SYNCED
    assert row(board).acked_version == version_of_set([A])
    assert row(board).last_ack == 5.0
    assert row(board, ROUTE).state is SyncState.NOT_SENT


def test_what_is_refused_is_told_with_its_origin() -> None:
    board, client = StatusBoard(), Delta()
    board.attach("p", client.session)
    origin = Origin("VirtualService", "default", "reviews", "reviews.yaml", 3)
    client.aim(resources(routes=[resource("r", origin=origin)]))
    (response,) = client.ask(ROUTE, "r")
    client.answer(response, "bad regex")
    assert row(board, ROUTE).state is SyncState.NACKED
    assert row(board, ROUTE).error == "r: bad regex"
    ((proxy, rejection),) = board.rejections()
    assert (proxy, rejection.origin) == ("p", origin)


def test_the_last_state_is_kept_until_the_proxy_is_forgotten() -> None:
    board, client = StatusBoard(), Delta()
    board.attach("p", client.session)
    client.aim(resources(clusters=[A]))
    client.settle(client.ask(CLUSTER))
    board.detach("p", client.session)
    assert board.connected() == frozenset()
    assert (row(board).state, row(board).connected) == (SyncState.SYNCED, False)
    board.forget("p")
    assert board.rows() == ()


def test_a_proxy_forgotten_before_its_stream_ends_stays_forgotten() -> None:
    board, client = StatusBoard(), Delta()
    board.attach("p", client.session)
    board.forget("p")
    board.detach("p", client.session)
    assert board.rows() == ()


def test_the_newest_stream_tells() -> None:
    board, old, new = StatusBoard(), Delta(), Delta()
    for client in (old, new):
        board.attach("p", client.session)
        client.aim(resources(clusters=[A]))
    old.settle(old.ask(CLUSTER))
    new.ask(CLUSTER)
    assert row(board).state is SyncState.STALE
    board.detach("p", new.session)
    assert row(board).state is SyncState.SYNCED
