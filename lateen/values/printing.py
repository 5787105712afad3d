"""Text from elsewhere on one line of a terminal: what steers a terminal, or ends a line, must not be taken for ours.

Comes in: any text, such as names, paths and headers that users and callers wrote. Goes out: one line to show.
"""

from __future__ import annotations


def printable(text: str, *, keep: str = "") -> str:
    """The text with a sign in place of whatever cannot be seen (control characters, line breaks), but for ``keep``."""
    return "".join(sign if sign.isprintable() or sign in keep else "\N{REPLACEMENT CHARACTER}" for sign in text)
