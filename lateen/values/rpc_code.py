"""The codes of google.rpc.Code: their names, and the HTTP statuses that they are answered with."""

from __future__ import annotations

from collections.abc import Mapping

OK = 0
CANCELLED = 1
UNKNOWN = 2
INVALID_ARGUMENT = 3
DEADLINE_EXCEEDED = 4
NOT_FOUND = 5
ALREADY_EXISTS = 6
PERMISSION_DENIED = 7
RESOURCE_EXHAUSTED = 8
FAILED_PRECONDITION = 9
ABORTED = 10
OUT_OF_RANGE = 11
UNIMPLEMENTED = 12
INTERNAL = 13
UNAVAILABLE = 14
DATA_LOSS = 15
UNAUTHENTICATED = 16
CODES: Mapping[int, tuple[str, int]] = {
    OK: ("OK", 200),
    CANCELLED: ("CANCELLED", 499),
    UNKNOWN: ("UNKNOWN", 500),
    INVALID_ARGUMENT: ("INVALID_ARGUMENT", 400),
    DEADLINE_EXCEEDED: ("DEADLINE_EXCEEDED", 504),
    NOT_FOUND: ("NOT_FOUND", 404),
    ALREADY_EXISTS: ("ALREADY_EXISTS", 409),
    PERMISSION_DENIED: ("PERMISSION_DENIED", 403),
    RESOURCE_EXHAUSTED: ("RESOURCE_EXHAUSTED", 429),
    FAILED_PRECONDITION: ("FAILED_PRECONDITION", 400),
    ABORTED: ("ABORTED", 409),
    OUT_OF_RANGE: ("OUT_OF_RANGE", 400),
    UNIMPLEMENTED: ("UNIMPLEMENTED", 501),
    INTERNAL: ("INTERNAL", 500),
    UNAVAILABLE: ("UNAVAILABLE", 503),
    DATA_LOSS: ("DATA_LOSS", 500),
    UNAUTHENTICATED: ("UNAUTHENTICATED", 401),
}
"""Name and HTTP status of each code."""


def http_status(code: int) -> int:
    """The status of an answer to a request that is refused with this code."""
    return CODES.get(code, ("", 500))[1]


def refusal_text(code: int, message: str) -> str:
    """The body of such an answer, as Mixer wrote it: ``PERMISSION_DENIED:who refused:why``."""
    return f"{CODES.get(code, (str(code), 0))[0]}:{message}"
