"""The codes of google.rpc.Code: their names, and the HTTP statuses that they are answered with."""

from __future__ import annotations

from collections.abc import Mapping

OK = 0
CODES: Mapping[int, tuple[str, int]] = {
    0: ("OK", 200),
    1: ("CANCELLED", 499),
    2: ("UNKNOWN", 500),
    3: ("INVALID_ARGUMENT", 400),
    4: ("DEADLINE_EXCEEDED", 504),
    5: ("NOT_FOUND", 404),
    6: ("ALREADY_EXISTS", 409),
    7: ("PERMISSION_DENIED", 403),
    8: ("RESOURCE_EXHAUSTED", 429),
    9: ("FAILED_PRECONDITION", 400),
    10: ("ABORTED", 409),
    11: ("OUT_OF_RANGE", 400),
    12: ("UNIMPLEMENTED", 501),
    13: ("INTERNAL", 500),
    14: ("UNAVAILABLE", 503),
    15: ("DATA_LOSS", 500),
    16: ("UNAUTHENTICATED", 401),
}
"""Name and HTTP status of each code."""


def http_status(code: int) -> int:
    """The status of an answer to a request that is refused with this code."""
    return CODES.get(code, ("", 500))[1]


def refusal_text(code: int, message: str) -> str:
    """The body of such an answer, as Mixer wrote it: ``PERMISSION_DENIED:who refused:why``."""
    return f"{CODES.get(code, (str(code), 0))[0]}:{message}"
