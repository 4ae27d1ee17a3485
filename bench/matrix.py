"""What is measured: the cells of the matrix, the targets of some of them, and the reference's figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

TABLES_IN_PARALLEL = 64


class Kind(StrEnum):
    """Where a cell's objects are, or who writes them."""

    MEMORY = "memory"
    """In the memory of the process, each call behind `latency_ms`, with the quota if the cell says so."""
    FILES = "files"
    """A local folder without fsync: what the peer does."""
    FILES_FSYNC = "files+fsync"
    """A local folder, durable when a commit is answered: the embedded stack's default."""
    PEER = "deltalake"
    """The peer: `deltalake.write_deltalake` on a local folder."""


class Metric(StrEnum):
    """What a target is set for."""

    RATE = "commits per second"
    P50_MS = "p50 ms"
    P99_MS = "p99 ms"


@dataclass(frozen=True, slots=True)
class Target:
    """A limit for one metric: rates must reach it, latencies (staging included) must stay below it."""

    metric: Metric
    limit: float

    def met(self, value: float) -> bool:
        """Say whether `value` is good enough."""
        return value >= self.limit if self.metric is Metric.RATE else value < self.limit

    def __str__(self) -> str:
        """Return it as a column shows it."""
        if self.metric is Metric.RATE:
            return f"≥{self.limit:g}/s"
        return f"{self.metric.value.removesuffix(' ms')}<{self.limit:g} ms"


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement: `writers` closed-loop append writers on each of `tables` tables.

    `seconds_factor` stretches cells whose rounds or commits take about a second.
    """

    name: str
    kind: Kind
    writers: int
    tables: int = 1
    latency_ms: float = 0.0
    quota: bool = False
    targets: tuple[Target, ...] = ()
    reference: str = ""
    seconds_factor: float = 1.0

    @property
    def store(self) -> str:
        """Return the store as a column shows it."""
        return f"{self.kind.value} +quota" if self.quota else self.kind.value


def _memory_cells() -> list[Cell]:
    parallel = (Target(Metric.RATE, 30),)
    targets: dict[str, tuple[Target, ...]] = {
        "5ms-64": (Target(Metric.RATE, 250), Target(Metric.P99_MS, 1000)),
        "30ms-1": (Target(Metric.P50_MS, 350),),
    }
    references = {"5ms-1": "11/s", "5ms-64": "10/s, p99 10 s"}
    cells: list[Cell] = []
    for latency in (0, 5, 30):
        for writers in (1, 16, 64):
            name = f"{latency}ms-{writers}"
            cells.append(
                Cell(
                    name,
                    Kind.MEMORY,
                    writers,
                    latency_ms=latency,
                    targets=targets.get(name, ()),
                    reference=references.get(name, ""),
                )
            )
        cells.append(
            Cell(
                f"{latency}ms-64tables",
                Kind.MEMORY,
                1,
                tables=TABLES_IN_PARALLEL,
                latency_ms=latency,
                targets=parallel,
                seconds_factor=1.5,
            )
        )
    return cells


def _quota_cells() -> list[Cell]:
    """Return the cells with the quota: rounds come once a second, so they need more seconds than the others."""
    reference = "≤0.5/s"
    targets = {64: (Target(Metric.RATE, 55),), 512: (Target(Metric.RATE, 400),)}
    cells = [
        Cell(
            f"quota-{latency}ms-{writers}",
            Kind.MEMORY,
            writers,
            latency_ms=latency,
            quota=True,
            targets=targets.get(writers, ()),
            reference=reference,
            seconds_factor=2.0,
        )
        for latency, several in ((5, (1, 16, 64, 512)), (30, (64, 512)))
        for writers in several
    ]
    return [
        *cells,
        Cell(
            "quota-5ms-64tables",
            Kind.MEMORY,
            1,
            tables=TABLES_IN_PARALLEL,
            latency_ms=5,
            quota=True,
            targets=(Target(Metric.RATE, 30),),
            seconds_factor=2.0,
        ),
    ]


def _file_cells() -> list[Cell]:
    cells: list[Cell] = []
    for kind, prefix in ((Kind.FILES, "files"), (Kind.FILES_FSYNC, "fsync")):
        cells += [Cell(f"{prefix}-{writers}", kind, writers) for writers in (1, 16, 64)]
        cells.append(Cell(f"{prefix}-64tables", kind, 1, tables=TABLES_IN_PARALLEL, seconds_factor=1.5))
    return cells


def _peer_cells() -> list[Cell]:
    return [Cell(f"peer-{writers}", Kind.PEER, writers) for writers in (1, 16, 64)]


MATRIX: tuple[Cell, ...] = (*_memory_cells(), *_quota_cells(), *_file_cells(), *_peer_cells())


def chosen(patterns: Sequence[str]) -> list[Cell]:
    """Return the cells whose name matches any of `patterns` (shell wildcards), in the matrix's order; all if none.

    Raises `ValueError` for a pattern that matches nothing.
    """
    for pattern in patterns:
        if not any(fnmatchcase(cell.name, pattern) for cell in MATRIX):
            raise ValueError(f"no cell is called {pattern!r}; there are {', '.join(cell.name for cell in MATRIX)}")
    return [cell for cell in MATRIX if not patterns or any(fnmatchcase(cell.name, pattern) for pattern in patterns)]
