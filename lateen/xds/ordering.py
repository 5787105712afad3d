"""The order of changes: make before break.

Comes in: what a client has, type by type. Goes out: what has to wait. Additions go clusters first, then endpoints,
listeners, routes, secrets, and whatever points at a cluster waits until the client has it. A removal waits until
nothing that the client holds points at it any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from lateen.envoy.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, EnvoyResource
from lateen.xds.subscription import Subscription

ORDER = (CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET)
REFERRERS: Mapping[str, tuple[str, ...]] = {
    CLUSTER: (LISTENER, ROUTE),
    ENDPOINT: (CLUSTER,),
    LISTENER: (),
    ROUTE: (LISTENER,),
    SECRET: (CLUSTER, LISTENER),
}
Subscriptions = Mapping[str, Subscription]


class OnTheWay(NamedTuple):
    """What a client should have and does not have yet: clusters, and endpoints."""

    clusters: set[str]
    endpoints: set[str]


NOTHING = OnTheWay(set(), set())


def on_the_way(subscriptions: Subscriptions) -> OnTheWay:
    """What listeners and routes may have to wait for."""
    clusters, endpoints = subscriptions.get(CLUSTER), subscriptions.get(ENDPOINT)
    return OnTheWay(
        clusters.unsettled() if clusters is not None else set(),
        endpoints.unsettled() if clusters is not None and endpoints is not None else set(),
    )


def must_wait(resource: EnvoyResource, missing: OnTheWay, subscriptions: Subscriptions) -> bool:
    """Whether a listener or route points at a cluster that is on its way to the client.

    A cluster that the client refused, that it does not want or that does not exist is not waited for.
    """
    if not missing.clusters and not missing.endpoints:
        return False
    return any(
        kind == CLUSTER
        and (name in missing.clusters or (bool(missing.endpoints) and _needs(subscriptions[CLUSTER], name, missing)))
        for kind, name in resource.references
    )


def _needs(clusters: Subscription, name: str, missing: OnTheWay) -> bool:
    """Whether a cluster has no endpoints yet, and so does not serve."""
    found = clusters.target.get(name)
    return found is not None and any(
        kind == ENDPOINT and needed in missing.endpoints for kind, needed in found.references
    )


def still_used(type_url: str, subscriptions: Subscriptions) -> tuple[set[str], bool]:
    """The names of this type that something in the client's hands points at, and whether that is all of them.

    It is not all where the client has come back with something of another version than ours, whose content is not
    known, or has not yet said what it has.
    """
    used: set[str] = set()
    certain = True
    resumed = type_url in subscriptions and subscriptions[type_url].resumed
    for referrer in REFERRERS[type_url]:
        subscription = subscriptions.get(referrer)
        if subscription is None:
            certain = certain and not (resumed and referrer in (LISTENER, CLUSTER))
            continue
        for resource in subscription.possessions():
            certain = certain and bool(resource.body)
            used.update(name for kind, name in resource.references if kind == type_url)
    if type_url == CLUSTER and resumed and not _routes_known(subscriptions):
        certain = False
    return used, certain


def _routes_known(subscriptions: Subscriptions) -> bool:
    listeners, routes = subscriptions.get(LISTENER), subscriptions.get(ROUTE)
    if listeners is None:
        return False
    wanted = {name for found in listeners.possessions() for kind, name in found.references if kind == ROUTE}
    return wanted <= (routes.sent.keys() if routes is not None else set())
