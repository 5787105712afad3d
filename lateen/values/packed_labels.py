"""The labels of a metric, packed into one: Envoy pays for each label of each request.

Comes in: labels that are the same for all that a logger counts, and formats of what differs. Goes out: the format of
the one label that stands for them; and, in a text of Prometheus, the labels again. Whoever reads a proxy's metrics
takes them apart first (``whole``), so that nobody else meets a packed one.

It reads ``name=value name=value``. Besides labels there are parts that several labels are read from:

    requests   nothing: how many durations there are with these labels is how many requests (``counted``)
    clusters   nothing: there is one mesh and no clusters in it
    service    HOST/NAME/NAMESPACE of the service that answers (``told_names.joined``)
    called     the same of the service that is called, and with ``/`` NAMESPACE/names of the member of it that was
               chosen; or the host that was asked for
    grpc       the status of gRPC, where that was spoken; unknown without one
    cluster    what the service is called where it is not known: counts only there
    source, destination   NAMESPACE/names of the workload itself (``told_names``)
    own        the principal by which a client calls
    server     the principal of who answered
    caller     what a server keeps of who calls: its own principal, names of the caller, the caller's principal

The last part goes to the end, spaces and all: what another mesh has written into a certificate can be anything.

Different texts can stand for the same labels: a Telemetry that comes or goes changes what is packed and what is not,
and the names of a certificate can be written in several ways. Such samples are one series, and are added up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

from lateen.values.names import SpiffeId
from lateen.values.told_names import FIELDS, escaped, names_in, parted, whole as unescaped

PACKED = "lateen_labels"
UNKNOWN = "unknown"
NOTHING = ("", "-")
"""What Envoy's loggers write where there is no value."""
SERVICE_LABELS = ("destination_service", "destination_service_name", "destination_service_namespace")
_LAST = ("server", "caller")
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_MARK = f'{PACKED}="'.encode()
_COUNTED = f',{PACKED}="requests= '.encode()
_DURATIONS = b"envoy_istio_request_duration_milliseconds_count"
_REQUESTS = b"envoy_istio_requests_total"
_BOUND = b',le="'
"""The limit of a histogram's bucket, which Envoy writes last."""
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_QUOTED = re.compile(r"\\(.)")

Pairs = Iterator[tuple[str, str]]


def packed(labels: Iterable[tuple[str, str]], parts: Iterable[tuple[str, str]] = ()) -> str:
    """The format. ``parts`` are formats; of those that can hold spaces there is one, at the end."""
    same = (f"{name}={escaped(value)}" for name, value in labels)
    return " ".join((*same, *(f"{name}={form}" for name, form in parts)))


def counted(form: str) -> str:
    """The format of durations by which requests are counted."""
    return f"requests= {form}"


def whole(text: bytes) -> bytes:
    """A Prometheus text in which each packed label is what it stands for, and each series stands once.

    It is UTF-8, whatever a header held that is a label by a Telemetry: Prometheus would refuse all of it.
    """
    kept, requests = _Samples(), _Samples()
    for line in text.decode(errors="replace").encode().split(b"\n"):
        if _MARK not in line:
            kept.lines.append(line)
            continue
        head, _, value = line.rpartition(b" ")
        name, _, labels = head.removesuffix(b"}").partition(b"{")
        labels, bound, limit = labels.partition(_BOUND)
        told = _unpacked(labels)
        kept.add(b"%b{%b%b%b} " % (name, told, bound, limit), value)
        if name == _DURATIONS and _COUNTED in b"," + labels:
            requests.add(b"%b{%b} " % (_REQUESTS, told), value)
    kept.add_family(b"# TYPE %b counter" % _REQUESTS, requests)
    return b"\n".join(kept.lines)


class _Samples:
    """Lines of a Prometheus text, and where each series stands in them."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.places: dict[bytes, int] = {}

    def add(self, series: bytes, value: bytes) -> None:
        place = self.places.setdefault(series, len(self.lines))
        if place == len(self.lines):
            self.lines.append(series + value)
        else:
            self.lines[place] = series + _sum(self.lines[place].rpartition(b" ")[2], value)

    def add_family(self, head: bytes, samples: _Samples) -> None:
        """Samples of one family, into what is there of it. Places are not right any more after that."""
        fresh = []
        for series, place in samples.places.items():
            if series in self.places:
                self.add(series, samples.lines[place].removeprefix(series))
            else:
                fresh.append(samples.lines[place])
        if fresh and head not in self.lines:
            self.lines.insert(0, head)
        if fresh:
            after = self.lines.index(head) + 1
            self.lines[after:after] = fresh


def _sum(one: bytes, other: bytes) -> bytes:
    return f"{float(one) + float(other):.15g}".encode()


@lru_cache(maxsize=4096)
def _unpacked(text: bytes) -> bytes:
    """Labels in order of their names, so that the same labels are the same text."""
    labels = dict[str, str]()
    for name, value in _LABEL.findall(text.decode()):
        for label, told in _parts(_unquoted(value)) if name == PACKED else ((name, _unquoted(value)),):
            labels.setdefault(label, told)
    return ",".join(f'{name}="{_quoted(told)}"' for name, told in sorted(labels.items())).encode()


def _parts(rest: str) -> Pairs:
    while rest:
        name, _, rest = rest.partition("=")
        found, _, rest = (rest, "", "") if name in _LAST else rest.partition(" ")
        if name in _PARTS:
            yield from ((label, told or UNKNOWN) for label, told in _PARTS[name](found))
        elif _NAME.fullmatch(name):
            yield name, unescaped(found)


def _service(found: str) -> Pairs:
    return zip(SERVICE_LABELS, parted(found), strict=False)


def _called(found: str) -> Pairs:
    service, member = found.split("/")[: len(SERVICE_LABELS)], found.split("/")[len(SERVICE_LABELS) :]
    if len(service) == len(SERVICE_LABELS) and len(member) in (0, 1 + len(FIELDS)):
        yield from zip(SERVICE_LABELS, map(unescaped, service), strict=True)
        yield from _member("destination")("/".join(member))
    else:
        yield SERVICE_LABELS[0], found
        yield SERVICE_LABELS[2], UNKNOWN
        yield from _member("destination")("")


def _member(side: str) -> Callable[[str], Pairs]:
    def read(found: str) -> Pairs:
        namespace, _, names = found.partition("/")
        yield from _workload(side, unescaped(namespace) if names else "", names)

    return read


def _caller(found: str) -> Pairs:
    own, names, peer = (*found.split(" ", 2), "", "")[:3] if found not in NOTHING else ("", "", "")
    yield "destination_principal", own
    yield "source_principal", peer
    try:
        namespace = SpiffeId.parse(peer).namespace
    except ValueError:
        namespace = ""
    yield from _workload("source", namespace, names)


def _workload(side: str, namespace: str, names: str) -> Pairs:
    told = {"workload_namespace": namespace, **names_in(names)}
    for field in ("workload_namespace", *FIELDS):
        yield f"{side}_{field}", told.get(field, "")


def _spoken(found: str) -> Pairs:
    yield "request_protocol", "http" if found in NOTHING else "grpc"
    if found not in NOTHING:
        yield "grpc_response_status", found


def _principal(label: str) -> Callable[[str], Pairs]:
    def read(found: str) -> Pairs:
        yield label, "" if found in NOTHING else found

    return read


def _cluster(found: str) -> Pairs:
    yield SERVICE_LABELS[1], "" if found in NOTHING else found


def _unquoted(text: str) -> str:
    """A value that Prometheus has written."""
    return _QUOTED.sub(lambda found: "\n" if found[1] == "n" else found[1], text)


def _quoted(text: str) -> str:
    """As Prometheus writes a value."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


_PARTS: dict[str, Callable[[str], Pairs]] = {
    "requests": lambda _: iter(()),
    "grpc": _spoken,
    "service": _service,
    "called": _called,
    "cluster": _cluster,
    "clusters": lambda _: iter((("source_cluster", ""), ("destination_cluster", ""))),
    "source": _member("source"),
    "destination": _member("destination"),
    "own": _principal("source_principal"),
    "server": _principal("destination_principal"),
    "caller": _caller,
}
