"""What a process remembers for a while: the most recently used values, bounded by what they weigh."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

V = TypeVar("V")


class Recent(Generic[V]):
    """The most recently used values by name, bounded in number and in total weight."""

    def __init__(self, entries: int, weight: int) -> None:
        self._entries = entries
        self._weight_limit = weight
        self._weight = 0
        self._values: OrderedDict[str, tuple[V, int]] = OrderedDict()

    def get(self, name: str) -> V | None:
        """Return the value under `name`, or None."""
        held = self._values.get(name)
        if held is None:
            return None
        self._values.move_to_end(name)
        return held[0]

    def put(self, name: str, value: V, weight: int = 1) -> None:
        """Remember `value`, dropping what was used least recently."""
        self.drop(name)
        self._values[name] = (value, weight)
        self._weight += weight
        while len(self._values) > self._entries or self._weight > self._weight_limit:
            _, (_, dropped) = self._values.popitem(last=False)
            self._weight -= dropped

    @property
    def weight(self) -> int:
        """What is held weighs so much."""
        return self._weight

    def drop(self, name: str) -> None:
        """Forget `name`."""
        held = self._values.pop(name, None)
        if held is not None:
            self._weight -= held[1]


class Shelf(Generic[V]):
    """One owner's part of a `Recent` that many share: what they put there under one name never meets."""

    def __init__(self, shared: Recent[V], owner: str) -> None:
        self._shared = shared
        self._owner = owner

    def get(self, name: str) -> V | None:
        """Return the value under `name`, or None."""
        return self._shared.get(f"{self._owner}\n{name}")

    def put(self, name: str, value: V, weight: int = 1) -> None:
        """Remember `value`; what any owner used least recently may be dropped for it."""
        self._shared.put(f"{self._owner}\n{name}", value, weight)

    def drop(self, name: str) -> None:
        """Forget `name`."""
        self._shared.drop(f"{self._owner}\n{name}")
