"""What is declared while a pipeline file is imported: assets, pools and schedules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Declarations(Generic[T]):
    """Declarations of one kind, for whoever collects them meanwhile."""

    def __init__(self) -> None:
        self._collecting: list[list[T]] = []

    @property
    def are_collected(self) -> bool:
        """Whether somebody collects them just now: a pipeline file is being imported."""
        return bool(self._collecting)

    def add(self, one: T) -> None:
        """Note what is declared."""
        for collected in self._collecting:
            collected.append(one)

    @contextmanager
    def collected(self) -> Iterator[list[T]]:
        """Give a list to which everything is added that is declared meanwhile."""
        found: list[T] = []
        self._collecting.append(found)
        try:
            yield found
        finally:
            # By identity: lists of two that collect at once may be equal.
            self._collecting[:] = [one for one in self._collecting if one is not found]
