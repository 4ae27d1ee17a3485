"""Is a history of the commit API linearizable? The search of Wing and Gong, with Lowe's memory, per table.

The sequential object is a register with versions. A strict commit succeeds if the table is at its read version
and makes the next version; an append makes the next version, or is one of several appends that make it together;
a commit whose key is known answers what the key was answered before. Appends that share a version take effect at
one instant: they stand next to each other in the order and their intervals have a point in common. So the state
remembers, while a version may still be shared, the earliest return of those who share it; every other operation
closes the version.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tests.linearizability.history import NEVER, Ground, Kind, Operation

CLOSED = -NEVER


@dataclass(frozen=True)
class Violation:
    """A table whose history has no linearization: the longest order found, and what could not follow it."""

    table: str
    longest: tuple[Operation, ...]
    stuck: tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """The sequential object: its latest version, the return until which it is shared, and who owns what.

    `keys` (key -> identity, version) follows from which operations were placed and how the unanswered ones
    among them took effect, so that equality looks at `effects` only.
    """

    latest: int
    shared_until: int
    keys: Mapping[str, tuple[str, int]]
    effects: frozenset[tuple[int, int]] = frozenset()


def check(history: Iterable[Operation], initial: Mapping[str, int] | None = None) -> list[Violation]:
    """Return the tables whose histories are not linearizable, each with an explanation.

    `initial` gives the version at which a table starts (0, made by its creation, if it is not named).
    """
    tables: dict[str, list[Operation]] = {}
    for op in history:
        tables.setdefault(op.table, []).append(op)
    found = (Search(ops, (initial or {}).get(name, 0)).run() for name, ops in tables.items())
    return [violation for violation in found if violation is not None]


@dataclass(slots=True)
class Frame:
    """A point of the search: what is placed (a bit per operation), the table then, and the moves left."""

    placed: int
    table: Table
    moves: Iterator[tuple[int, Table]]
    chosen: int = -1


class Search:
    """The search over the orders of one table's operations."""

    def __init__(self, operations: list[Operation], initial: int) -> None:
        self.ops = sorted(operations, key=lambda op: (op.call, op.ret))
        self.by_return = sorted(range(len(self.ops)), key=lambda i: self.ops[i].ret)
        self.start = Table(initial, CLOSED, {})
        # An unanswered commit need not have happened; everything else must find its place.
        self.required = sum(1 << i for i, op in enumerate(self.ops) if not op.unknown)
        answered = [op for op in self.ops if op.kind in (Kind.COMMIT, Kind.EXPLAIN) and op.version is not None]
        self.answer = {op.key: op.version for op in answered}
        self.keys_in: dict[int | None, set[str]] = {}
        for op in answered:
            self.keys_in.setdefault(op.version, set()).add(op.key)
        self.made = {op.version for op in self.ops if op.kind in (Kind.COMMIT, Kind.FOREIGN)}
        self.used = {op.key for op in self.ops if op.refused is Ground.USED}
        self.last_chance = self.answers_ending_at()
        self.nameless = self.interchangeable()
        observed = max([initial, *(op.version for op in self.ops if op.version is not None)])
        # No answer needs the table to go further: a used key needs an owner, at most one version for each.
        outrun = [op.read_version + 1 for op in self.ops if op.refused is Ground.STALE]
        outrun += [op.read_version + 1 for op in self.ops if op.unknown and op.key in self.used]
        self.furthest = max([observed, *outrun]) + len(self.used)
        missing = set(range(initial + 1, observed + 1)) - self.made
        self.unfillable = len(missing) > sum(op.unknown for op in self.ops)

    def answers_ending_at(self) -> dict[int, int]:
        """Return per version the operations (a bit each) that only a table up to that version answers so."""
        found: dict[int, int] = {}
        for i, op in enumerate(self.ops):
            if op.kind is Kind.STATUS and op.version is not None:
                found[op.version] = found.get(op.version, 0) | 1 << i
            elif op.refused is Ground.FUTURE:
                found[op.read_version - 1] = found.get(op.read_version - 1, 0) | 1 << i
        return found

    def interchangeable(self) -> set[int]:
        """Return the appends that were never answered and whose keys nobody was told anything about.

        They do no more than fill a version that nobody else made, and any of them does it as well as another.
        """
        told = {op.key for op in self.ops if not (op.unknown and op.append) and op.refused is not Ground.NONE}
        return {i for i, op in enumerate(self.ops) if op.unknown and op.key not in told}

    def run(self) -> Violation | None:
        """Return None if there is a linearization."""
        if self.unfillable:
            return self.explain([])
        seen: set[tuple[int, int, int, frozenset[tuple[int, int]]]] = set()
        frames = [Frame(0, self.start, self.moves(0, self.start))]
        best: list[int] = []
        while frames[-1].placed & self.required != self.required:
            frame = frames[-1]
            frame.chosen, after = next(frame.moves, (-1, frame.table))
            if frame.chosen < 0:
                frames.pop()
                if not frames:
                    return self.explain(best)
                continue
            placed = frame.placed | 1 << frame.chosen
            mark = (placed, after.latest, after.shared_until, after.effects)
            if mark in seen:
                continue
            seen.add(mark)
            if len(frames) > len(best):
                best = [f.chosen for f in frames]
            frames.append(Frame(placed, after, self.moves(placed, after)))
        return None

    def explain(self, best: list[int]) -> Violation:
        placed = sum(1 << i for i in best)
        stuck = tuple(self.ops[i] for i in self.minimal(placed) if not self.ops[i].unknown)
        longest = tuple(self.ops[i] for i in best)
        return Violation(self.ops[0].table, longest, stuck)

    def minimal(self, placed: int) -> list[int]:
        """Return the operations that may come next: nothing unplaced returned before they were called."""
        horizon = next(self.ops[i].ret for i in self.by_return if not placed >> i & 1)
        found: list[int] = []
        for i, op in enumerate(self.ops):
            if op.call > horizon:
                break
            if not placed >> i & 1:
                found.append(i)
        return found

    def moves(self, placed: int, table: Table) -> Iterator[tuple[int, Table]]:
        """Yield the next operations with the table after each, the likeliest first."""
        candidates = self.minimal(placed)
        quiet = [i for i in candidates if self.holds(table, self.ops[i])]
        if quiet and table.shared_until == CLOSED:
            # It changes nothing and fits now: placing it at once loses no order.
            yield quiet[0], table
            return
        commits = [(i, self.ops[i]) for i in candidates if self.ops[i].kind in (Kind.COMMIT, Kind.FOREIGN)]
        commits.sort(key=lambda entry: entry[1].unknown)
        for i, op in commits:
            if op.refused is None and op.append and op.call <= table.shared_until and i not in self.nameless:
                yield from self.committed(table, i, op, table.latest, min(table.shared_until, op.ret))
        if not self.complete(table):
            return
        for i in quiet:
            yield i, Table(table.latest, CLOSED, table.keys, table.effects)
        if self.last_chance.get(table.latest, 0) & ~placed:
            return
        filled = False
        for i, op in commits:
            if i in self.nameless:
                if filled or op.key in table.keys:
                    continue
                filled = True
            if op.refused is None and (op.append or op.kind is Kind.FOREIGN or op.read_version == table.latest):
                yield from self.committed(table, i, op, table.latest + 1, op.ret if op.append else CLOSED)

    def committed(
        self, table: Table, i: int, op: Operation, version: int, shared_until: int
    ) -> Iterator[tuple[int, Table]]:
        """Yield the table after `op` took effect in `version`, if it can have."""
        if op.version not in (None, version) or version > self.furthest or op.key in table.keys:
            return
        if op.kind is Kind.COMMIT and self.answer.get(op.key, version) != version:
            return
        if op.unknown and op.key not in self.answer and op.key not in self.used and version in self.made:
            return  # nobody saw it, and the version does not need it
        keys = table.keys
        if op.kind is Kind.COMMIT:
            keys = {**table.keys, op.key: (op.identity, version)}
        effects = table.effects | {(i, version)} if op.unknown else table.effects
        yield i, Table(version, shared_until, keys, effects)

    def complete(self, table: Table) -> bool:
        """Return whether every key answered with the latest version is in it, so that it may be closed."""
        return all(key in table.keys for key in self.keys_in.get(table.latest, ()))

    def holds(self, table: Table, op: Operation) -> bool:
        """Return whether `op`, changing nothing, is answered rightly by `table`: a read, a replay, a refusal."""
        if op.kind is Kind.STATUS:
            return op.version == table.latest
        if op.kind is Kind.FOREIGN or op.unknown:
            return False
        owner = table.keys.get(op.key)
        if op.kind is Kind.EXPLAIN:
            return op.version == (None if owner is None else owner[1])
        ours = owner is not None and owner[0] == op.identity
        if op.version is not None:
            return owner == (op.identity, op.version)
        if op.refused is Ground.USED:
            return owner is not None and not ours
        if op.refused is Ground.STALE:
            return not ours and table.latest > op.read_version
        if op.refused is Ground.FUTURE:
            return not ours and table.latest < op.read_version
        return op.refused is Ground.NONE or not ours
