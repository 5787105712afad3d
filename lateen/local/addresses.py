"""Addresses of workloads: 240.241.x.y, given out in turn, so that one that was just given back is not used at once."""

from __future__ import annotations

SIZE = 254 * 254


class AddressPool:
    """One address for each instance that runs."""

    def __init__(self) -> None:
        self._next = 0
        self._taken: dict[str, int] = {}

    def take(self, instance_id: str) -> str:
        """The address of an instance. Raises RuntimeError if all are in use."""
        used = set(self._taken.values())
        for step in range(SIZE):
            number = (self._next + step) % SIZE
            if number not in used:
                self._next = number + 1
                self._taken[instance_id] = number
                return f"240.241.{number // 254 + 1}.{number % 254 + 1}"
        raise RuntimeError("every address for workloads is in use")

    def give_back(self, instance_id: str) -> None:
        self._taken.pop(instance_id, None)
