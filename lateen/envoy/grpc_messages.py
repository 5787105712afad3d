"""What loggers cannot see of a gRPC stream, for the metrics: two filters that leave it where loggers find it.

Goes out: Envoy's filter that counts messages, and one that reads what it says (``3,6``: three that were sent, six that
came back) and leaves two numbers, which no formatter could make of that. It stands aside for requests that are not
gRPC. The counts grow while a stream goes on, so those of one that is broken off are known too. It also notes that gRPC
is spoken: a call that is given up before an answer has no status to tell it by.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from envoy.config.core.v3 import base_pb2, extension_pb2
from envoy.extensions.common.matching.v3 import extension_matcher_pb2
from envoy.extensions.filters.common.matcher.action.v3 import skip_action_pb2
from envoy.extensions.filters.http.grpc_stats.v3 import config_pb2 as grpc_stats_pb2
from envoy.extensions.filters.http.lua.v3 import lua_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.type.matcher.v3 import http_inputs_pb2
from xds.core.v3 import extension_pb2 as xds_extension_pb2
from xds.type.matcher.v3 import matcher_pb2, string_pb2

from lateen.envoy import wire

COUNTING_FILTER = "envoy.filters.http.grpc_stats"
READING_FILTER = "envoy.filters.http.lua.grpc_messages"
NOTES = "lateen.grpc_messages"
REQUESTS = "request"
ANSWERS = "response"
SPOKEN = "spoken"
NO_STATUS = "unknown"
"""What stands under SPOKEN."""
CONTENT_TYPE = "application/grpc"
_SOURCE = f"""
local function note(handle)
  local found = handle:streamInfo():filterState():get("{COUNTING_FILTER}")
  if found == nil then return end
  local requests, answers = string.match(found, "^(%d+),(%d+)")
  local metadata = handle:streamInfo():dynamicMetadata()
  metadata:set("{NOTES}", "{REQUESTS}", tonumber(requests))
  metadata:set("{NOTES}", "{ANSWERS}", tonumber(answers))
end

function envoy_on_request(handle)
  local spoken = handle:headers():get("content-type")
  if spoken == "{CONTENT_TYPE}" or string.sub(spoken, 1, {len("application/grpc+")}) == "{CONTENT_TYPE}+" then
    handle:streamInfo():dynamicMetadata():set("{NOTES}", "{SPOKEN}", "{NO_STATUS}")
  end
end

function envoy_on_response(handle)
  note(handle)
  for _ in handle:bodyChunks() do note(handle) end
  note(handle)
end
"""
_Filter = http_connection_manager_pb2.HttpFilter
_Predicate = matcher_pb2.Matcher.MatcherList.Predicate


def value_of(side: str) -> str:
    """The format of a count: REQUESTS or ANSWERS."""
    return f"%DYNAMIC_METADATA({NOTES}:{side})%"


@cache
def counting_filter() -> Any:
    """The filter that counts. Not to be changed."""
    config = grpc_stats_pb2.FilterConfig(emit_filter_state=True)
    return _Filter(name=COUNTING_FILTER, typed_config=wire.pack(config))


@cache
def reading_filter() -> Any:
    """The filter that reads: before the other, so that it sees answers after it. Not to be changed."""
    config = lua_pb2.Lua(default_source_code=base_pb2.DataSource(inline_string=_SOURCE))
    return _Filter(name=READING_FILTER, typed_config=wire.pack(_for_grpc(config)))


def _for_grpc(config: Any) -> Any:
    """The filter, which no other request goes through."""
    content_type = http_inputs_pb2.HttpRequestHeaderMatchInput(header_name="content-type")
    is_grpc = _Predicate(
        single_predicate=_Predicate.SinglePredicate(
            input=xds_extension_pb2.TypedExtensionConfig(name="content-type", typed_config=wire.pack(content_type)),
            value_match=string_pb2.StringMatcher(prefix=CONTENT_TYPE),
        )
    )
    skip = xds_extension_pb2.TypedExtensionConfig(name="skip", typed_config=wire.pack(skip_action_pb2.SkipFilter()))
    others = matcher_pb2.Matcher.MatcherList.FieldMatcher(
        predicate=_Predicate(not_matcher=is_grpc), on_match=matcher_pb2.Matcher.OnMatch(action=skip)
    )
    return extension_matcher_pb2.ExtensionWithMatcher(
        xds_matcher=matcher_pb2.Matcher(matcher_list=matcher_pb2.Matcher.MatcherList(matchers=[others])),
        extension_config=extension_pb2.TypedExtensionConfig(name=READING_FILTER, typed_config=wire.pack(config)),
    )
