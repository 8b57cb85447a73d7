"""Numbers that are done in any order."""

from __future__ import annotations

from collections.abc import Iterable


class Marks:
    """Numbers that are done in any order; `reached` is the last one of those without a gap."""

    __slots__ = ("_beyond", "reached")

    def __init__(self, reached: int) -> None:
        self.reached: int = reached
        self._beyond: set[int] = set()

    def add(self, numbers: Iterable[int]) -> None:
        """These are done."""
        self._beyond.update(number for number in numbers if number > self.reached)
        while self.reached + 1 in self._beyond:
            self.reached += 1
            self._beyond.remove(self.reached)
