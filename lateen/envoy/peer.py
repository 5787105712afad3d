"""What a server's proxy keeps of who calls, once a connection: its certificate's names, for metrics and Mixer.

Goes out: a network filter. The names stand in the subject of certificates that this mesh's authority signed; a subject
of any other form counts for nothing. Requests tell nothing of their sender that would be believed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from envoy.config.listener.v3 import listener_components_pb2
from google.protobuf import struct_pb2
from xds.type.v3 import typed_struct_pb2

from lateen.envoy import wire
from lateen.values.told_names import FIELDS, PREFIX

CALLER_STATE = "lateen.caller"
"""``OWN NAMES PEER``: this server's principal, the caller's names (``told_names``), the caller's principal."""
NAMESPACE = "namespace"
CEL_FORMATTER = "envoy.formatter.cel"
CEL_TYPE = "type.googleapis.com/envoy.extensions.formatter.cel.v3.Cel"
TYPED_STRUCT = "type.googleapis.com/xds.type.v3.TypedStruct"
CONNECTION_STATE_FILTER = "envoy.filters.network.set_filter_state"
CONNECTION_STATE_TYPE = "type.googleapis.com/envoy.extensions.filters.network.set_filter_state.v3.Config"
TEXT_STATE = "envoy.string"
_SUBJECT = "connection.subject_peer_certificate"
_START = f"description={PREFIX}"
_NAME = "[A-Za-z0-9._~-]*"
_IS_OURS = f"{_SUBJECT}.matches('^{_START}{'/'.join([_NAME] * len(FIELDS))}$')"
_NAMES = f"%CEL({_IS_OURS} ? {_SUBJECT}.substring({len(_START)}) : '')%"
_NAMESPACE_OF_PEER = "%CEL(connection.uri_san_peer_certificate.split('/')[4])%"
"""The fifth part of spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT; nothing where a certificate says something else."""


def state_key(field: str) -> str:
    """The filter state under which one of the names of the caller stands."""
    return f"lateen.src_{field}"


def peer_filter(*, each: bool) -> Any:
    """The network filter that keeps who calls as soon as it is known. ``each``: each name by itself, too.

    Neither the filter's moment nor CEL's functions on texts are fields that the messages' own classes know.
    """
    states = [_kept(CALLER_STATE, f"%DOWNSTREAM_LOCAL_URI_SAN% {_NAMES} %DOWNSTREAM_PEER_URI_SAN%")]
    if each:
        states.extend(_each())
    config = struct_pb2.Struct()
    config.update({"on_downstream_tls_handshake": states})
    typed = typed_struct_pb2.TypedStruct(type_url=CONNECTION_STATE_TYPE, value=config)
    return listener_components_pb2.Filter(name=CONNECTION_STATE_FILTER, typed_config=wire.pack(typed))


def _each() -> Iterable[dict[str, Any]]:
    yield _kept(state_key(NAMESPACE), _NAMESPACE_OF_PEER)
    for index, field in enumerate(FIELDS, 1):
        yield _kept(state_key(field), f"%CEL({_IS_OURS} ? {_SUBJECT}.split('/')[{index}] : '')%")


def _kept(key: str, form: str) -> dict[str, Any]:
    texts = {"cel_config": {"enable_string_functions": True}}
    formatter: dict[str, Any] = {
        "name": CEL_FORMATTER,
        "typed_config": {"@type": TYPED_STRUCT, "type_url": CEL_TYPE, "value": texts},
    }
    return {
        "object_key": key,
        "factory_key": TEXT_STATE,
        "format_string": {
            "text_format_source": {"inline_string": form},
            "omit_empty_values": True,
            "formatters": [formatter],
        },
        "skip_if_empty": True,
    }
