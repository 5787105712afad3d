"""Expressions and formats: the real Envoy takes those that we take, and none of those that we refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.envoy.harness import validate
from tests.unit.values import test_envoy_format, test_expressions

TYPES = "type.googleapis.com/envoy.extensions"
FILE_LOG = {"@type": f"{TYPES}.access_loggers.file.v3.FileAccessLog", "path": "/dev/null"}


def meeting(expression: str) -> dict[str, Any]:
    """A log of what meets an expression."""
    wanted = {"@type": f"{TYPES}.access_loggers.filters.cel.v3.ExpressionFilter", "expression": expression}
    return {
        "name": "x",
        "typed_config": FILE_LOG,
        "filter": {"extension_filter": {"name": "x", "typed_config": wanted}},
    }


def logging(*logs: dict[str, Any]) -> bytes:
    """A bootstrap with these access logs."""
    manager = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "x",
        "access_log": logs,
        "route_config": {},
        "http_filters": [{"name": "x", "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router"}}],
    }
    listener = {
        "name": "x",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "x", "typed_config": manager}]}],
    }
    return json.dumps({"static_resources": {"listeners": [listener]}}).encode()


def test_envoy_takes_the_expressions_that_we_take(tmp_path: Path) -> None:
    assert validate(logging(*map(meeting, test_expressions.GOOD)), tmp_path) == ""


@pytest.mark.parametrize("text", test_expressions.BAD)
def test_envoy_refuses_the_expressions_that_we_refuse(text: str, tmp_path: Path) -> None:
    assert validate(logging(meeting(text)), tmp_path)


def in_format(text: str) -> dict[str, Any]:
    """A log of a format."""
    return {"name": "x", "typed_config": {**FILE_LOG, "log_format": {"json_format": {"a": text}}}}


def test_envoy_takes_the_formats_that_we_take(tmp_path: Path) -> None:
    commands = (f"%{name}%" for name in test_envoy_format.ALONE)
    assert validate(logging(*map(in_format, (*test_envoy_format.GOOD, *commands))), tmp_path) == ""


@pytest.mark.parametrize("text", test_envoy_format.BAD)
def test_envoy_refuses_the_formats_that_we_refuse(text: str, tmp_path: Path) -> None:
    assert validate(logging(in_format(text)), tmp_path)
