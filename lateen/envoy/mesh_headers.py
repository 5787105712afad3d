"""The headers by which a client's proxy tells the server's who calls, so that the server's metrics can say it.

Comes in: what the plan says of a chain. Goes out: filters. The headers only inform; what a caller may do is decided by
its certificate, and its namespace is always the certificate's, read once a connection. They are taken from callers that
came over mutual TLS and from nobody else, whatever the plan says of a chain; they neither reach an application nor
leave the mesh.
"""

from __future__ import annotations

from typing import Any

from envoy.config.common.mutation_rules.v3 import mutation_rules_pb2
from envoy.config.core.v3 import base_pb2, substitution_format_string_pb2
from envoy.config.listener.v3 import listener_components_pb2
from envoy.extensions.filters.common.set_filter_state.v3 import value_pb2
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.filters.http.set_filter_state.v3 import set_filter_state_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from google.protobuf import struct_pb2
from xds.type.v3 import typed_struct_pb2

from lateen.envoy import wire

PREFIX = "x-lateen-src-"
FIELDS = ("workload", "app", "version", "canonical_service", "canonical_revision")
NAMESPACE = "namespace"
CEL_FORMATTER = "envoy.formatter.cel"
CEL_TYPE = "type.googleapis.com/envoy.extensions.formatter.cel.v3.Cel"
TYPED_STRUCT = "type.googleapis.com/xds.type.v3.TypedStruct"
CONNECTION_STATE_FILTER = "envoy.filters.network.set_filter_state"
CONNECTION_STATE_TYPE = "type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config"
TEXT_STATE = "envoy.string"
_NAMESPACE_OF_PEER = "%CEL(connection.uri_san_peer_certificate.split('/')[4])%"
"""The fifth part of spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT; nothing where a certificate says something else."""
FORWARDED_ATTRIBUTES = "x-istio-attributes"
ORIGINAL_PATH = "x-envoy-original-path"
"""What a proxy that rewrites a path says it was before. From anybody else it would forge logs and traces."""
MUTATION_FILTER = "envoy.filters.http.header_mutation"
STATE_FILTER = "envoy.filters.http.set_filter_state"

SourceFields = tuple[tuple[str, str], ...]
"""What a client tells of itself: values of FIELDS, in their order; an empty one is not told."""


def state_key(field: str) -> str:
    """The filter state under which a server keeps what its client told."""
    return f"lateen.src_{field}"


def announcing_filter(source: SourceFields) -> Any:
    """Client side: set what there is to tell, remove the rest, so that nothing forged passes."""
    mutations = [_set(header(name), value) if value else _remove(header(name)) for name, value in source]
    return _mutating([*mutations, _remove(FORWARDED_ATTRIBUTES), _remove(ORIGINAL_PATH)])


def removal_filter(*, of_strangers: bool = False) -> Any:
    """Drops the headers: at the edge, from plain-text callers, before the application, and towards the outside.

    The one by which proxies of Mixer once told attributes is dropped with them: nobody here believes it, nor should
    others. ``of_strangers``: also what only proxies of the mesh may say of a request.
    """
    names = [*(header(field) for field in (*FIELDS, NAMESPACE)), FORWARDED_ATTRIBUTES]
    return _mutating([_remove(name) for name in (*names, *([ORIGINAL_PATH] if of_strangers else []))])


def recording_filter() -> Any:
    """Server side: keep what the client told, for the metrics; ``removal_filter`` follows."""
    config = set_filter_state_pb2.Config(on_request_headers=[_kept(field) for field in FIELDS])
    return http_connection_manager_pb2.HttpFilter(name=STATE_FILTER, typed_config=wire.pack(config))


def peer_filter() -> Any:
    """The network filter that keeps the namespace of the client's certificate as soon as it is known.

    Neither the filter's moment nor CEL's functions on texts are fields that the messages' own classes know.
    """
    texts = {"cel_config": {"enable_string_functions": True}}
    formatter: dict[str, Any] = {
        "name": CEL_FORMATTER,
        "typed_config": {"@type": TYPED_STRUCT, "type_url": CEL_TYPE, "value": texts},
    }
    kept: dict[str, Any] = {
        "object_key": state_key(NAMESPACE),
        "factory_key": TEXT_STATE,
        "format_string": {
            "text_format_source": {"inline_string": _NAMESPACE_OF_PEER},
            "omit_empty_values": True,
            "formatters": [formatter],
        },
        "skip_if_empty": True,
    }
    config = struct_pb2.Struct()
    config.update({"on_downstream_tls_handshake": [kept]})
    typed = typed_struct_pb2.TypedStruct(type_url=CONNECTION_STATE_TYPE, value=config)
    return listener_components_pb2.Filter(name=CONNECTION_STATE_FILTER, typed_config=wire.pack(typed))


def header(field: str) -> str:
    """The header that tells a field."""
    return PREFIX + field.replace("_", "-")


def _kept(field: str) -> Any:
    return value_pb2.FilterStateValue(
        object_key=state_key(field),
        factory_key=TEXT_STATE,
        format_string=substitution_format_string_pb2.SubstitutionFormatString(
            text_format_source=base_pb2.DataSource(inline_string=f"%REQ({header(field)})%"), omit_empty_values=True
        ),
        skip_if_empty=True,
    )


def _mutating(mutations: list[Any]) -> Any:
    config = header_mutation_pb2.HeaderMutation(
        mutations=header_mutation_pb2.Mutations(request_mutations=mutations),
    )
    return http_connection_manager_pb2.HttpFilter(name=MUTATION_FILTER, typed_config=wire.pack(config))


def _set(name: str, value: str) -> Any:
    option = base_pb2.HeaderValueOption(
        header=base_pb2.HeaderValue(key=name, value=value.replace("%", "%%")),
        append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )
    return mutation_rules_pb2.HeaderMutation(append=option)


def _remove(name: str) -> Any:
    return mutation_rules_pb2.HeaderMutation(remove=name)
