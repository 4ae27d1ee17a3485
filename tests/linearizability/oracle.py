"""Histories by construction: a sequential table, with each operation's interval shuffled around its instant."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from tests.linearizability.history import NEVER, Ground, Kind, Operation

STEP = 10
"""Clock units between two instants of the sequential run."""


class Oracle:
    """A table that does one thing after another and records what its clients saw."""

    def __init__(self, random: Random, table: str = "t") -> None:
        self.random = random
        self.table = table
        self.latest = 0
        self.instant = 0
        self.owners: dict[str, Operation] = {}
        self.history: list[Operation] = []

    def run(self, steps: int) -> list[Operation]:
        """Return the history of `steps` random steps."""
        for _ in range(steps):
            self.instant += STEP
            usual = (self.strict, self.appends, self.appends, self.replay, self.refuse, self.refuse)
            step = self.random.choice((*usual, self.status, self.explain, self.foreign))
            step()
        return self.history

    def around(self, *, spread: int = 4 * STEP) -> tuple[int, int]:
        before, after = self.random.randrange(spread), self.random.randrange(spread)
        return self.instant - before, self.instant + after

    def key(self) -> str:
        return f"k{len(self.owners)}-{self.instant}"

    def payload(self) -> str:
        return f"p{self.random.randrange(3)}"

    def record(self, op: Operation, version: int) -> None:
        """Record an accepted commit; sometimes its answer is lost."""
        self.owners[op.key] = replace(op, version=version)
        lost = self.random.random() < 0.15
        self.history.append(replace(op, ret=NEVER) if lost else replace(op, version=version))

    def commit(self, *, append: bool) -> Operation:
        call, ret = self.around()
        base = self.random.randrange(self.latest + 1) if append else self.latest
        return Operation(self.table, Kind.COMMIT, call, ret, self.key(), self.payload(), append, base)

    def strict(self) -> None:
        op = self.commit(append=False)
        self.latest += 1
        self.record(op, self.latest)

    def appends(self) -> None:
        self.latest += 1
        for _ in range(self.random.choice((1, 1, 2, 3))):
            self.record(self.commit(append=True), self.latest)

    def replay(self) -> None:
        if not self.owners:
            return
        op = self.owners[self.random.choice(sorted(self.owners))]
        call, ret = self.around()
        self.history.append(replace(op, call=call, ret=ret))

    def refuse(self) -> None:
        """Refuse a request for a reason that holds now, or never answer one that had no effect."""
        call, ret = self.around()
        op = self.commit(append=False)
        reasons = [replace(op, refused=Ground.NOT_COMMITTED), replace(op, ret=NEVER, read_version=self.latest + 50)]
        reasons.append(replace(op, read_version=self.latest + 1, refused=Ground.FUTURE))
        if self.latest:
            reasons.append(replace(op, read_version=self.random.randrange(self.latest), refused=Ground.STALE))
        if self.owners:
            owner = self.owners[self.random.choice(sorted(self.owners))]
            reasons.append(replace(owner, call=call, ret=ret, payload="other", version=None, refused=Ground.USED))
        self.history.append(self.random.choice(reasons))

    def status(self) -> None:
        call, ret = self.around()
        self.history.append(Operation(self.table, Kind.STATUS, call, ret, version=self.latest))

    def explain(self) -> None:
        call, ret = self.around()
        read = Operation(self.table, Kind.EXPLAIN, call, ret, "never sent", refused=Ground.NOT_COMMITTED)
        if self.owners:
            owner = self.owners[self.random.choice(sorted(self.owners))]
            read = replace(read, key=owner.key, version=owner.version, refused=None)
        self.history.append(read)

    def foreign(self) -> None:
        self.latest += 1
        self.history.append(Operation(self.table, Kind.FOREIGN, 0, NEVER, version=self.latest))


def disturbed(history: list[Operation], random: Random) -> list[Operation]:
    """Return the history with one answer or one interval changed: often no longer linearizable, not always."""
    ops = list(history)
    i = random.randrange(len(ops))
    op = ops[i]
    if op.version is not None and op.kind is not Kind.FOREIGN and random.random() < 0.6:
        ops[i] = replace(op, version=max(0, op.version + random.choice((-2, -1, 1, 2))))
    elif op.kind is Kind.COMMIT and op.refused is not None and random.random() < 0.6:
        ops[i] = replace(op, refused=random.choice([g for g in Ground if g is not op.refused]))
    else:
        moved = random.choice((-8, -4, 4, 8)) * STEP
        ret = op.ret if op.ret == NEVER else op.ret + moved
        ops[i] = replace(op, call=op.call + moved, ret=ret)
    return ops
