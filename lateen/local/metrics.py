"""Merge the Prometheus texts of many proxies into one, and read rates from it. Pure.

Comes in: for each proxy its labels and the text of its ``/stats/prometheus``. Goes out: one text in which every family
stands once, whole; every sample says whose it is; Istio's metrics have the names that Istio gives them, which Envoy
prefixes with its own. A line ends at ``\\n`` and nowhere else: what else ends lines can stand in a label.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

ENVOY_PREFIX = b"envoy_"
OWN_PREFIXES = (b"envoy_istio_", b"envoy_lateen_")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


def merge(parts: Iterable[tuple[Mapping[str, str], bytes]]) -> Iterator[bytes]:
    """The merged text, one family at a time. A family's type is the one that the first proxy gave it."""
    types: dict[bytes, bytes] = {}
    samples: dict[bytes, list[bytes]] = {}
    for labels, text in parts:
        mark = ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items()).encode()
        family = b""
        for line in text.split(b"\n"):
            if line.startswith(b"# TYPE "):
                _, _, name, kind = line.split(b" ", 3)
                family = _rename(name)
                types.setdefault(family, kind)
                samples.setdefault(family, [])
            elif line and not line.startswith(b"#"):
                samples.setdefault(family, []).append(_with_labels(_rename(line), mark))
    for family, lines in samples.items():
        if not lines:
            continue
        head = b"# TYPE " + family + b" " + types[family] + b"\n" if family in types else b""
        yield head + b"\n".join(lines) + b"\n"


def _rename(name: bytes) -> bytes:
    return name.removeprefix(ENVOY_PREFIX) if name.startswith(OWN_PREFIXES) else name


def _with_labels(line: bytes, mark: bytes) -> bytes:
    name, brace, rest = line.partition(b"{")
    if not brace:
        name, _, value = line.partition(b" ")
        return name + b"{" + mark + b"} " + value
    separator = b"" if rest.startswith(b"}") else b","
    return name + b"{" + mark + separator + rest


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def joined(text: bytes, more: bytes) -> bytes:
    """A proxy's text with what its agent counted: what both have counted of one series is added up."""
    if not more:
        return text
    said = [line for line in more.split(b"\n") if line]
    counts = {_series(line): float(line.rpartition(b" ")[2]) for line in said if line[:1] != b"#"}
    kept = []
    for line in text.split(b"\n"):
        series = _series(line) if line[:1] != b"#" else None
        if series in counts:
            counts[series] += float(line.rpartition(b" ")[2])
        else:
            kept.append(line)
    lines = [
        line if line[:1] == b"#" else line.rpartition(b" ")[0] + f" {counts[_series(line)]:.0f}".encode()
        for line in said
    ]
    return b"\n".join([*kept, *lines, b""])


def _series(line: bytes) -> tuple[bytes, frozenset[tuple[str, str]]]:
    head, _, _ = line.rpartition(b" ")
    name, _, labels = head.partition(b"{")
    return name, frozenset(_LABEL.findall(labels.decode(errors="replace")))


class ExportTally(msgspec.Struct):
    """What became of the messages to collectors of metrics."""

    sent: int = 0
    failed: int = 0


class Traffic(msgspec.Struct, frozen=True):
    """How many requests an instance answered so far, and how many of them with 5xx or not at all."""

    requests: float = 0.0
    errors: float = 0.0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.requests + other.requests, self.errors + other.errors)


class Rate(msgspec.Struct, frozen=True):
    """Requests and errors per second."""

    requests: float = 0.0
    errors: float = 0.0


def count_traffic(text: bytes, reporter: str) -> Traffic:
    """Sum ``istio_requests_total`` of one proxy: a sidecar counts as ``destination``, a gateway as ``source``."""
    total = Traffic()
    for line in text.split(b"\n"):
        if not line.startswith((b"envoy_istio_requests_total", b"istio_requests_total")):
            continue
        head, _, value = line.decode(errors="replace").rpartition(" ")
        labels = dict(_LABEL.findall(head))
        if labels.get("reporter") != reporter:
            continue
        code = labels.get("response_code", "")
        failed = code.startswith("5") or code == "0"
        number = float(value)
        total += Traffic(number, number if failed else 0.0)
    return total


class Count(msgspec.Struct, frozen=True):
    """What one proxy had counted when it had run for so many seconds: it adds up its histograms once a second."""

    seconds: float = 0.0
    traffic: Traffic = Traffic()


def count_so_far(text: bytes, reporter: str) -> Count:
    """``count_traffic`` and when that was."""
    times = [line.rpartition(b" ")[2] for line in text.split(b"\n") if line.startswith(b"envoy_server_uptime{")]
    return Count(float(times[0]) if times else 0.0, count_traffic(text, reporter))


def rate(before: Count, after: Count) -> Rate | None:
    """The rates between two counts, None where it is the same one; a count that fell is counted from nothing."""
    if after.seconds == before.seconds:
        return None
    began_anew = after.seconds < before.seconds
    seconds = after.seconds if began_anew else after.seconds - before.seconds
    done, known = after.traffic, before.traffic
    if began_anew or done.requests < known.requests or done.errors < known.errors:
        known = Traffic()
    if not seconds:
        return Rate()
    return Rate((done.requests - known.requests) / seconds, (done.errors - known.errors) / seconds)
