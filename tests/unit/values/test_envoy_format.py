"""Formats of Envoy: which ones it takes, as we say it. A live test asks Envoy itself."""

from __future__ import annotations

import pytest

from lateen.values.envoy_format import COMMANDS, format_problem

GOOD = (
    "",
    "plain \u00fc",
    "100%%%%",
    "%%REQ(a)%%",
    "%REQ(X-A?:PATH):10% %RESP(a)%%RESPONSE_CODE%",
    "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "%DOWNSTREAM_PEER_CERT_V_END(%b %d)%",
    "%PATH% %PATH(NQ:ORIG_OR_PATH):5% %QUERY_PARAMS(DECODED)%",
    "%CEL(request.path == 'a%b' ? 1 % 2 : 0):5%",
    "%FILTER_STATE(a)% %FILTER_STATE(a:PLAIN):5% %UPSTREAM_FILTER_STATE(a:FIELD:b)%",
    "%METADATA(ROUTE:a:b)% %DYNAMIC_METADATA(a:b c):5% %UPSTREAM_METADATA(a)%",
    "%COMMON_DURATION(DS_RX_BEG:a:us)% %GRPC_STATUS% %GRPC_STATUS(NUMBER)% %REQUESTED_SERVER_NAME(SNI_FIRST)%",
    '%COALESCE({"operators": ["HOSTNAME", {"command": "REQ", "param": "a"}]})%',
    "%PROTOCOL()% %ENVIRONMENT(a b)%",
)
BAD = (
    "%",
    "50%",
    "%%%",
    "%HOST_NAME%",
    "%hostname%",
    "%REQ%",
    "%REQ()%",
    "%REQ(a",
    "%REQ(x y)%",
    "%REQ(a\n)%",
    "%REQ(a?b?c)%",
    "%REQ(a:b)%",
    "%REQ(a):b%",
    "%REQ(a):99999999999999999999%",
    "%DURATION(a)%",
    "%DURATION:5%",
    "%START_TIME:5%",
    "%UPSTREAM_METADATA(a):5%",
    "%CEL(request.)%",
    "%CEL(')%')%",
    "%PATH(a)%",
    "%PATH(NQ:a)%",
    "%QUERY_PARAMS(a)%",
    "%GRPC_STATUS(a)%",
    "%METADATA(a:b)%",
    "%REQUESTED_SERVER_NAME(a)%",
    "%COMMON_DURATION(a:b:s)%",
    "%COMMON_DURATION(a)%",
    "%FILTER_STATE(:PLAIN)%",
    "%FILTER_STATE(a:b)%",
    "%FILTER_STATE(a:FIELD)%",
    "%FILTER_STATE(a:PLAIN:b)%",
    "%COALESCE(a)%",
    '%COALESCE({"operators": []})%',
    '%COALESCE({"operators": ["FOO"]})%',
    '%COALESCE({"operators": [{"command": "REQ", "param": "x y"}]})%',
    "%PER_REQUEST_STATE(a)%",
)
ALONE = tuple(sorted(name for name in COMMANDS if format_problem(f"%{name}%") == ""))


@pytest.mark.parametrize("text", GOOD)
def test_formats(text: str) -> None:
    assert format_problem(text) == ""


@pytest.mark.parametrize("text", BAD)
def test_no_formats(text: str) -> None:
    assert format_problem(text)


def test_what_is_near_is_named() -> None:
    assert "did you mean RESPONSE_CODE?" in format_problem("%RESPONSE_CODES%")
