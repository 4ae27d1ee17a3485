"""The cells of `bench.ledger`: what is folded, from where, in which pieces, and what is asked of some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from springline.paths import Scope
from springline.projection.config import FoldConfig

SCOPE = Scope("acme", "prod")
CONFIG = FoldConfig(SCOPE.tenant, SCOPE.workspace)


class WrongState(Exception):
    """A state that is not the one its events give."""


class Work(StrEnum):
    """What a cell does."""

    ONE_GO = "fold"
    """Parse and fold all events at once; nothing is published."""
    ROUNDS = "fold+publish"
    """Fold and publish round after round through the sequencer's own steps, beginning with `prepared` events."""
    APPENDS = "append"
    """Append through the embedded stack from `callers` callers, and wait until readers see it."""


class Source(StrEnum):
    """Where events are read from, or what is published to."""

    MEMORY = "memory"
    FILES = "files"


@dataclass(frozen=True, slots=True)
class Target:
    """A limit: `least` for a share of the parse rate, a rate, or `most` for MiB or milliseconds."""

    metric: str
    least: float | None = None
    most: float | None = None

    def met(self, value: float) -> bool:
        """Say whether `value` is good enough."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        """Return it as a column shows it."""
        return f"{self.metric} >= {self.least:g}" if self.least is not None else f"{self.metric} <= {self.most:g}"


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement."""

    name: str
    work: Work
    source: Source
    events: int
    batch: int = 0
    prepared: int = 0
    latency_ms: float = 0.0
    callers: int = 0
    targets: tuple[Target, ...] = ()
    reference: str = ""


_SIZES = {"1k": 1_000, "10k": 10_000, "100k": 100_000, "1m": 1_000_000}
_REFERENCE = {"1k": "45,000/s", "10k": "45,000/s", "100k": "15,000/s, 860 MiB"}


def _cells() -> list[Cell]:
    cells = []
    for source in Source:
        for label, events in _SIZES.items():
            targets: tuple[Target, ...] = ()
            if source is Source.MEMORY and label == "100k":
                targets = (Target("share", least=0.1),)
            if source is Source.MEMORY and label == "1m":
                targets = (Target("slowdown", most=1.5), Target("MiB", most=1024))
            cells.append(
                Cell(
                    f"fold-{label}-{source.value}",
                    Work.ONE_GO,
                    source,
                    events,
                    targets=targets,
                    reference=_REFERENCE.get(label, "") if source is Source.MEMORY else "",
                )
            )
    for batch in (10, 100, 1_000):
        for label in ("1k", "10k", "100k", "1m"):
            if _SIZES[label] // batch > 1_000 or _SIZES[label] < batch:
                continue
            cells.append(Cell(f"rounds-{batch}-{label}", Work.ROUNDS, Source.MEMORY, _SIZES[label], batch=batch))
    cells.append(
        Cell(
            "rounds-1000-on-100k",
            Work.ROUNDS,
            Source.MEMORY,
            100_000,
            batch=1_000,
            prepared=100_000,
            targets=(Target("per second", least=15_000),),
            reference="1,240/s",
        )
    )
    cells.append(Cell("rounds-1000-on-100k-files", Work.ROUNDS, Source.FILES, 20_000, batch=1_000, prepared=100_000))
    cells.append(
        Cell(
            "rounds-1000-on-100k-30ms",
            Work.ROUNDS,
            Source.MEMORY,
            20_000,
            batch=1_000,
            prepared=100_000,
            latency_ms=30,
        )
    )
    for callers in (1, 64):
        for latency_ms in (0.0, 30.0):
            name = f"append-{callers}" + ("-30ms" if latency_ms else "")
            targets = (Target("p50 ms", most=100),) if not latency_ms and callers == 1 else ()
            cells.append(
                Cell(name, Work.APPENDS, Source.FILES, 0, latency_ms=latency_ms, callers=callers, targets=targets)
            )
    return cells


CELLS = _cells()


def chosen(patterns: Sequence[str]) -> list[Cell]:
    """Return the cells whose names match one of `patterns`, all without any; raises `ValueError` if none does."""
    found = [cell for cell in CELLS if not patterns or any(fnmatchcase(cell.name, one) for one in patterns)]
    if not found:
        raise ValueError(f"no cell matches {', '.join(patterns)}; --list shows their names")
    return found
