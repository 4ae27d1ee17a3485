"""What can happen to one stored object, whatever it is of: the damages that both searches try."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from springline.paths import ObjectPath

DAMAGES = ("removed", "emptied", "cut short", "one bit changed", "one letter changed", "older", "another")
"""A bit or letter is changed at a place that is drawn; the others are what they say."""


class Whole(Protocol):
    """Objects while they are whole, and the older versions of each."""

    @property
    def objects(self) -> Mapping[ObjectPath, bytes]: ...
    @property
    def older(self) -> Mapping[ObjectPath, Sequence[bytes]]: ...


@dataclass(frozen=True)
class Damage:
    """What is done to one object, which is of a kind; `data` None: it is removed."""

    path: ObjectPath
    how: str
    data: bytes | None
    kind: str

    @property
    def is_change(self) -> bool:
        return self.how in ("one bit changed", "one letter changed")


def damage(
    made: Whole, path: ObjectPath, how: str, rnd: Random, *, kind_of: Callable[[ObjectPath], str]
) -> Damage | None:
    """Return a damage of a kind to an object, None if there is no such."""
    data, kind = made.objects[path], kind_of(path)
    match how:
        case "removed":
            return Damage(path, how, None, kind)
        case "emptied":
            return Damage(path, how, b"", kind)
        case "cut short":
            return Damage(path, how, data[: rnd.randrange(len(data))], kind)
        case "one bit changed":
            return Damage(path, how, _flip(data, rnd), kind)
        case "one letter changed":
            return Damage(path, how, _letter(data, rnd), kind)
        case "older":
            found = list(made.older.get(path, ()))
        case _:
            others = [made.objects[other] for other in sorted(made.objects) if other != path and kind_of(other) == kind]
            found = [one for one in others if one != data]
    return Damage(path, how, rnd.choice(found), kind) if found else None


def _flip(data: bytes, rnd: Random) -> bytes:
    place = rnd.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rnd.randrange(8)]) + data[place + 1 :]


def _letter(data: bytes, rnd: Random) -> bytes:
    """Return the bytes with one letter or digit replaced by another, so that what was JSON mostly still is."""
    places = [place for place, one in enumerate(data) if chr(one).isalnum()] or [0]
    place = rnd.choice(places)
    other = rnd.choice([one for one in b"0123456789ABCDEFabcdef" if one != data[place]])
    return data[:place] + bytes([other]) + data[place + 1 :]
