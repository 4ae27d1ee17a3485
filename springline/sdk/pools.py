"""`pool`: declaring how many attempts of some assets may run at once, over all runs of a workspace."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from springline.definitions.ids import problem_of_id
from springline.definitions.judging import undeclared_pool
from springline.definitions.limits import MAX_POOLS, MAX_SLOTS
from springline.sdk.collecting import Declarations
from springline.sdk.errors import SourceProblem


class Pool:
    """A pool of slots; `pool` makes one.

    Attributes:
        name: unique in the workspace.
        slots: how many attempts of the assets that name it may run at once.
        file, line: where it is declared.
        problems: what is wrong with the declaration by itself.
    """

    def __init__(self, name: Any, slots: Any, file: str, line: int | None) -> None:
        self.name = str(name)
        self.slots = slots
        self.file, self.line = file, line
        self.problems: list[SourceProblem] = []
        problem = problem_of_id(name)
        if problem is not None:
            self.problems.append(self.problem(f"has the name {name!r}, which {problem[0]}", problem[1]))
        if isinstance(slots, bool) or not isinstance(slots, int) or not 1 <= slots <= MAX_SLOTS:
            wrong = f"has slots {slots!r}, which is no number from 1 to {MAX_SLOTS:,}"
            self.problems.append(self.problem(wrong, f"Give a number: pool({self.name!r}, slots=3)."))
        DECLARED_POOLS.add(self)

    def __repr__(self) -> str:
        return f"<pool {self.name}>"

    def problem(self, message: str, remedy: str) -> SourceProblem:
        """Return a problem of this pool, at its place."""
        return SourceProblem(self.file, self.line, f"pool {self.name} {message}", remedy)


DECLARED_POOLS: Final[Declarations[Pool]] = Declarations()


def pool(name: str, *, slots: int) -> Pool:
    """Declare a pool: at most `slots` attempts of the assets that name it run at once, over all runs of a workspace.

    An asset names it by `@asset(pool="warehouse")`, or by what this returns. An operator may set another number:
    `springline pool set warehouse 5`. If several files declare the same pool, the least number counts. `materialize`
    makes one asset after the other, and needs no pools.
    """
    frame = sys._getframe(1)
    return Pool(name, slots, frame.f_code.co_filename, frame.f_lineno)


def judged(pools: Iterable[Pool], named: Iterable[tuple[Any, str]]) -> tuple[dict[str, int], list[SourceProblem]]:
    """Return the slots of pools by name, and everything that is wrong with them and with the assets that name them.

    `named`: assets, each with the name of its pool.
    """
    declared: dict[str, Pool] = {}
    problems: list[SourceProblem] = []
    for one in pools:
        problems += one.problems
        first = declared.setdefault(one.name, one)
        if first is not one and first.slots != one.slots:
            where = f"{Path(first.file).name}:{first.line}"
            said = f"has {first.slots} slots at {where}, and {one.slots} here"
            problems.append(one.problem(said, "Declare it once."))
    if len(declared) > MAX_POOLS:
        first = next(iter(declared.values()))
        problems.append(first.problem(f"is one of {len(declared)}, and {MAX_POOLS} is the most", "Share pools."))
    for asset, name in named:
        if name not in declared:
            problem = undeclared_pool(name, declared)
            problems.append(asset.problem(problem.message, problem.remedy))
    return {name: one.slots for name, one in sorted(declared.items())}, problems
