"""The order of changes: make before break.

Comes in: what a client has, type by type. Goes out: what has to wait. Additions go clusters first, then endpoints,
listeners, routes, secrets, and whatever points at a cluster waits until the client has it. A removal waits until
nothing that the client holds points at it any more.
"""

from __future__ import annotations

from collections.abc import Mapping

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


def must_wait(type_url: str, resource: EnvoyResource, subscriptions: Subscriptions) -> bool:
    """Whether a listener or route points at a cluster that is on its way to the client.

    A cluster that the client refused, that it does not want or that does not exist is not waited for.
    """
    if type_url not in (LISTENER, ROUTE):
        return False
    clusters = subscriptions.get(CLUSTER)
    if clusters is None:
        return False
    return any(
        kind == CLUSTER and name in clusters.target and clusters.wants(name) and not _is_ready(name, subscriptions)
        for kind, name in resource.references
    )


def _is_ready(name: str, subscriptions: Subscriptions) -> bool:
    """Whether the client has the cluster, and the endpoints without which it does not serve."""
    clusters = subscriptions[CLUSTER]
    if not clusters.is_settled(name):
        return False
    endpoints = subscriptions.get(ENDPOINT)
    if endpoints is None:
        return True
    return all(
        kind != ENDPOINT
        or needed not in endpoints.names
        or needed not in endpoints.target
        or endpoints.is_settled(needed)
        for kind, needed in clusters.target[name].references
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
