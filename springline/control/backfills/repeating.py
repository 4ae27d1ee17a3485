"""Which backfill repeats what another one did not make."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from springline.projection.schema import CANCELLED


class Repeat(NamedTuple):
    """A backfill as what may repeat another one. `created`: any time that grows."""

    backfill_id: str
    parent_id: str | None
    state: str
    created: int


def last_repeat(backfill_id: str, among: Iterable[Repeat]) -> str:
    """Return the backfill that repeats last what one of `among` did not make; that one itself, if none does.

    Another repeat of the first would make its partitions twice. One that was cancelled does not count: it may have left
    out what it had not planned. Another system may name any parent: only a later one repeats.
    """
    known = {one.backfill_id: one for one in among}
    last = known[backfill_id]
    while True:
        later = [
            one
            for one in known.values()
            if one.parent_id == last.backfill_id and one.state != CANCELLED and one.created > last.created
        ]
        if not later:
            return last.backfill_id
        last = max(later, key=lambda one: one.created)
