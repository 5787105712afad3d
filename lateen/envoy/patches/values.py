"""From a patch's plain value to the Envoy message that it stands for.

Comes in: what a patch applies to and JSON. Goes out: a message, or a ``ValueProblem`` that says what is wrong. Types
inside ``typed_config`` are loaded by their names as they are met; one that Envoy's API or this build of Envoy does not
have is a problem.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from google.protobuf import descriptor_pool, json_format

MESSAGES: dict[str, Any] = {
    "LISTENER": listener_pb2.Listener,
    "LISTENER_FILTER": listener_components_pb2.ListenerFilter,
    "FILTER_CHAIN": listener_components_pb2.FilterChain,
    "NETWORK_FILTER": listener_components_pb2.Filter,
    "HTTP_FILTER": http_connection_manager_pb2.HttpFilter,
    "ROUTE_CONFIGURATION": route_pb2.RouteConfiguration,
    "VIRTUAL_HOST": route_components_pb2.VirtualHost,
    "HTTP_ROUTE": route_components_pb2.Route,
    "CLUSTER": cluster_pb2.Cluster,
    "EXTENSION_CONFIG": extension_pb2.TypedExtensionConfig,
    "BOOTSTRAP": bootstrap_pb2.Bootstrap,
}
NOT_BUILT_IN = (
    "envoy.extensions.filters.http.kill_request.",
    "envoy.extensions.filters.http.gzip.",
    "envoy.extensions.filters.http.proto_message_logging.",
)
"""Filters of Envoy's API that this build leaves out, found by asking it for each."""


class ValueProblem(Exception):
    """Why a value is no message. ``path``: the field below the value, empty for the whole of it."""

    def __init__(self, reason: str, remedy: str = "", path: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.path = path


@lru_cache(maxsize=4096)
def message_of(apply_to: str, value: str) -> Any:
    """The message that a value (JSON) is. It is shared: copy it before anything is changed.

    Raises ValueProblem where the value has a field, a type or an enumerator that there is not.
    """
    content = json.loads(value)
    for path, url in type_urls(content):
        _load(path, url)
    try:
        return json_format.ParseDict(content, MESSAGES[apply_to]())
    except (json_format.ParseError, TypeError, ValueError) as problem:
        reason = " ".join(str(problem).split())
        raise ValueProblem(reason, "write it as Envoy's v3 API has it", _place(reason)) from problem


def type_urls(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every ``@type``, and every ``type_url`` of a TypedStruct, in plain values, with its path."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name in ("@type", "type_url", "typeUrl") and isinstance(item, str):
                yield f"{path}.{name}", item
            else:
                yield from type_urls(item, f"{path}.{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from type_urls(item, f"{path}[{index}]")


def _load(path: str, url: str) -> None:
    name = url.rpartition("/")[2]
    if name.startswith(NOT_BUILT_IN):
        raise ValueProblem(f"this Envoy is built without {name}", "use an extension that it has", path)
    if not is_known(name):
        raise ValueProblem(f"there is no type {name} in Envoy's API", "name a v3 type", path)


@lru_cache(maxsize=1024)
def is_known(name: str) -> bool:
    """Whether a message of this full name exists; its module is imported if it does."""
    parts = name.split(".")
    version = next((index for index, part in enumerate(parts) if part[:1] == "v" and part[1:2].isdigit()), 0)
    if parts[0] in ("envoy", "xds", "udpa", "google") and all(part.isidentifier() for part in parts):
        package = ".".join(parts[: version + 1] if version else parts[:-1])
        try:
            folder = importlib.import_module(package)
            for module in pkgutil.iter_modules(folder.__path__):
                if module.name.endswith("_pb2"):
                    importlib.import_module(f"{package}.{module.name}")
        except (ImportError, AttributeError):
            return False
    try:
        descriptor_pool.Default().FindMessageTypeByName(name)
    except KeyError:
        return False
    return True


def _place(reason: str) -> str:
    """The field that protobuf's complaint names, ``Cluster.circuitBreakers.nope`` for one, below the value."""
    place = reason.rpartition(" at ")[2].lstrip('"').partition('"')[0].partition(" ")[0].rstrip(".")
    first, dot, rest = place.partition(".")
    return f".{rest}" if dot and first.isidentifier() and rest[:1].isalpha() else ""
