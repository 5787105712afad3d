"""Formats of Envoy: texts in which every ``%`` begins a command such as ``%REQ(x-id)%``, or is doubled.

Comes in: a format of a header's value, an access log or a tag of spans. Goes out: what Envoy would refuse it for. The
commands are those that Envoy 1.40 has, each with whether it takes arguments, and a length after them.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from lateen.values.expression import find_syntax_error
from lateen.values.network import is_read_header

_COMMAND = re.compile(r"%([A-Z0-9_]+)(?:\((.*?)\))?(?::([0-9]{1,18}))?%")
_WITHOUT_ARGUMENTS = """
    ACCESS_LOG_TYPE BYTES_RECEIVED BYTES_RETRANSMITTED BYTES_SENT CONNECTION_ID CONNECTION_TERMINATION_DETAILS
    CUSTOM_FLAGS DOWNSTREAM_CX_RTT DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED
    DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT DOWNSTREAM_DETECTED_CLOSE_TYPE DOWNSTREAM_DIRECT_LOCAL_ADDRESS
    DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID DOWNSTREAM_DIRECT_LOCAL_PORT DOWNSTREAM_DIRECT_REMOTE_ADDRESS
    DOWNSTREAM_DIRECT_REMOTE_PORT DOWNSTREAM_HANDSHAKE_DURATION DOWNSTREAM_HEADER_BYTES_RECEIVED
    DOWNSTREAM_HEADER_BYTES_SENT DOWNSTREAM_LOCAL_ADDRESS DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID
    DOWNSTREAM_LOCAL_CLOSE_REASON DOWNSTREAM_LOCAL_DNS_SAN DOWNSTREAM_LOCAL_EMAIL_SAN DOWNSTREAM_LOCAL_IP_SAN
    DOWNSTREAM_LOCAL_OTHERNAME_SAN DOWNSTREAM_LOCAL_PORT DOWNSTREAM_LOCAL_SUBJECT DOWNSTREAM_LOCAL_URI_SAN
    DOWNSTREAM_PEER_CERT DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1 DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256
    DOWNSTREAM_PEER_CHAIN_SERIALS DOWNSTREAM_PEER_DNS_SAN DOWNSTREAM_PEER_EMAIL_SAN DOWNSTREAM_PEER_FINGERPRINT_1
    DOWNSTREAM_PEER_FINGERPRINT_256 DOWNSTREAM_PEER_IP_SAN DOWNSTREAM_PEER_ISSUER
    DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256 DOWNSTREAM_PEER_ISSUER_SERIAL DOWNSTREAM_PEER_OTHERNAME_SAN
    DOWNSTREAM_PEER_SERIAL DOWNSTREAM_PEER_SUBJECT DOWNSTREAM_PEER_URI_SAN DOWNSTREAM_REMOTE_ADDRESS
    DOWNSTREAM_REMOTE_PORT DOWNSTREAM_TLS_CIPHER DOWNSTREAM_TLS_GROUP DOWNSTREAM_TLS_SESSION_ID
    DOWNSTREAM_TLS_VERSION DOWNSTREAM_TRANSPORT_FAILURE_REASON DOWNSTREAM_WIRE_BYTES_RECEIVED
    DOWNSTREAM_WIRE_BYTES_SENT DURATION FILTER_CHAIN_NAME GRPC_STATUS_NUMBER HOSTNAME LISTENER_NAME LOCAL_REPLY_BODY
    PROTOCOL REQUEST_DURATION REQUEST_HEADERS_BYTES REQUEST_TX_DURATION RESPONSE_CODE RESPONSE_DURATION
    RESPONSE_FLAGS RESPONSE_FLAGS_LONG RESPONSE_HEADERS_BYTES RESPONSE_TRAILERS_BYTES RESPONSE_TX_DURATION
    ROUNDTRIP_DURATION ROUTE_NAME ROUTE_RESOLUTION_COUNT ROUTE_RESOLUTION_TIME_US SPAN_ID STREAM_ID
    TLS_JA3_FINGERPRINT TLS_JA4_FINGERPRINT TRACE_ID UNIQUE_ID UPSTREAM_CLUSTER UPSTREAM_CLUSTER_RAW
    UPSTREAM_CONNECTION_ID UPSTREAM_CONNECTION_IDS_ATTEMPTED UPSTREAM_CONNECTION_POOL_READY_DURATION
    UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT UPSTREAM_DETECTED_CLOSE_TYPE
    UPSTREAM_HEADER_BYTES_RECEIVED UPSTREAM_HEADER_BYTES_SENT UPSTREAM_HOST UPSTREAM_HOSTS_ATTEMPTED
    UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT UPSTREAM_HOST_NAME UPSTREAM_HOST_NAMES_ATTEMPTED
    UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT UPSTREAM_HOST_NAME_WITHOUT_PORT UPSTREAM_LOCAL_ADDRESS
    UPSTREAM_LOCAL_CLOSE_REASON UPSTREAM_LOCAL_DNS_SAN UPSTREAM_LOCAL_IP_SAN UPSTREAM_LOCAL_PORT
    UPSTREAM_LOCAL_URI_SAN UPSTREAM_PEER_CERT UPSTREAM_PEER_DNS_SAN UPSTREAM_PEER_IP_SAN UPSTREAM_PEER_ISSUER
    UPSTREAM_PEER_SUBJECT UPSTREAM_PEER_URI_SAN UPSTREAM_PROTOCOL UPSTREAM_REMOTE_ADDRESS
    UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID UPSTREAM_REMOTE_PORT UPSTREAM_REQUEST_ATTEMPT_COUNT UPSTREAM_SERVER_NAME
    UPSTREAM_TLS_CIPHER UPSTREAM_TLS_GROUP UPSTREAM_TLS_SESSION_ID UPSTREAM_TLS_VERSION
    UPSTREAM_TRANSPORT_FAILURE_REASON UPSTREAM_WIRE_BYTES_RECEIVED UPSTREAM_WIRE_BYTES_SENT VIRTUAL_CLUSTER_NAME
"""
_WITH_OR_WITHOUT = """
    DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT
    DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT DOWNSTREAM_PEER_CERT_V_END DOWNSTREAM_PEER_CERT_V_START
    DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT EMIT_TIME EMIT_TIME_LOCAL GRPC_STATUS PATH QUERY_PARAMS
    REQUESTED_SERVER_NAME RESPONSE_CODE_DETAILS START_TIME START_TIME_LOCAL UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT
    UPSTREAM_PEER_CERT_V_END UPSTREAM_PEER_CERT_V_START UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT
"""
_OF_HEADERS = ("REQ", "REQUEST_HEADER", "RESP", "RESPONSE_HEADER", "RESPONSE_TRAILER", "STREAM_INFO_REQ", "TRAILER")
_WITH_ARGUMENTS = """
    CEL CLUSTER_METADATA COALESCE COMMON_DURATION DYNAMIC_METADATA ENVIRONMENT FILTER_STATE METADATA QUERY_PARAM
    UPSTREAM_FILTER_STATE UPSTREAM_METADATA
"""
_ALONE, _MAY_HAVE_ARGUMENTS = frozenset(_WITHOUT_ARGUMENTS.split()), frozenset(_WITH_OR_WITHOUT.split())
_NEED_ARGUMENTS = frozenset(_WITH_ARGUMENTS.split()).union(_OF_HEADERS)
COMMANDS = _ALONE | _MAY_HAVE_ARGUMENTS | _NEED_ARGUMENTS
_MAY_HAVE_LENGTH = (_NEED_ARGUMENTS | {"PATH", "QUERY_PARAMS"}) - {
    "CLUSTER_METADATA",
    "COMMON_DURATION",
    "UPSTREAM_METADATA",
}
_WORDS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "GRPC_STATUS": (("CAMEL_STRING", "SNAKE_STRING", "NUMBER"),),
    "METADATA": (
        ("DYNAMIC", "CLUSTER", "ROUTE", "UPSTREAM_HOST", "LISTENER", "LISTENER_FILTER_CHAIN", "VIRTUAL_HOST"),
    ),
    "PATH": (("WQ", "NQ"), ("ORIG", "PATH", "ORIG_OR_PATH")),
    "QUERY_PARAMS": (("ORIG", "DECODED"),),
    "REQUESTED_SERVER_NAME": (("SNI_ONLY", "SNI_FIRST", "HOST_FIRST"),),
}
"""What the first arguments may be, by command."""
_PRECISIONS = ("ms", "us", "ns")


def format_problem(text: str) -> str:
    """What is wrong with a format; empty where nothing is."""
    position = text.find("%")
    while position >= 0:
        if text.startswith("%%", position):
            position = text.find("%", position + 2)
            continue
        command = _COMMAND.match(text, position)
        if command is None:
            return "a single % begins a command that does not end; %% is a percent sign"
        if problem := _command_problem(command[1], command[2] or "", with_length=command[3] is not None):
            return problem
        position = text.find("%", command.end())
    return ""


def _command_problem(name: str, arguments: str, *, with_length: bool) -> str:
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        return f"Envoy has no command {name}" + (f"; did you mean {near[0]}?" if near else "")
    if arguments and name in _ALONE:
        return f"{name} takes no arguments"
    if not arguments and name in _NEED_ARGUMENTS:
        return f"{name} needs an argument, as in %{name}(...)%"
    if with_length and name not in _MAY_HAVE_LENGTH:
        return f"{name} takes no length"
    judge = _JUDGES.get(name)
    if judge is not None:
        return judge(arguments)
    for found, known in zip(arguments.split(":") if arguments else (), _WORDS.get(name, ()), strict=False):
        if found not in known:
            return f"{name}({found}) is none of {', '.join(known)}"
    return ""


def _header_problem(arguments: str) -> str:
    names = arguments.split("?")
    if len(names) > 2:
        return f"{arguments!r} has more than one alternative"
    for name in names:
        if name and not is_read_header(name):
            return f"{name!r} is no name of a header"
    return ""


def _expression_problem(arguments: str) -> str:
    problem = find_syntax_error(arguments)
    return f"{arguments!r} is no CEL expression: {problem}" if problem else ""


def _duration_problem(arguments: str) -> str:
    parts = arguments.split(":")
    return "" if len(parts) == 3 and parts[2] in _PRECISIONS else "COMMON_DURATION takes START:END:ms, us or ns"


def _state_problem(arguments: str) -> str:
    key, *rest = arguments.split(":")
    if not key:
        return "the state has no name"
    if rest and rest[0] not in ("", "PLAIN", "TYPED", "FIELD"):
        return f"{rest[0]!r} is none of PLAIN, TYPED and FIELD"
    wants_field = rest[:1] == ["FIELD"]
    return "" if bool(rest[1:] and rest[1]) is wants_field else "FIELD, and nothing else, is followed by a field's name"


def _choice_problem(arguments: str) -> str:
    """Several commands, of which the first with a value counts."""
    try:
        said: Any = json.loads(arguments)
    except ValueError:
        said = None
    operators = said.get("operators") if isinstance(said, dict) else None
    if not isinstance(operators, list) or not operators:
        return 'COALESCE takes a JSON object, such as {"operators": ["HOSTNAME"]}'
    for one in operators:
        found = {"command": one} if isinstance(one, str) else one
        if not isinstance(found, dict) or not isinstance(found.get("command"), str):
            return "an operator of COALESCE is a command"
        name, arguments = found["command"], found.get("param", "")
        if problem := _command_problem(name, str(arguments), with_length="max_length" in found):
            return problem
    return ""


_JUDGES: Mapping[str, Callable[[str], str]] = {
    **dict.fromkeys(_OF_HEADERS, _header_problem),
    "CEL": _expression_problem,
    "COALESCE": _choice_problem,
    "COMMON_DURATION": _duration_problem,
    "FILTER_STATE": _state_problem,
    "UPSTREAM_FILTER_STATE": _state_problem,
}
