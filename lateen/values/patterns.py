"""How large patterns may be that proxies run."""

from __future__ import annotations

MAX_PROGRAM = 32_768
"""Steps of a pattern that RE2 has compiled: validation refuses larger ones, and proxies are told so when they start."""
