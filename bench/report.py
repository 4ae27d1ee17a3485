"""Showing results: the table on the terminal, ratios against the peer, and the results file."""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from rich import box
from rich.console import Console
from rich.table import Table

from bench.matrix import Cell, Kind, Metric, Target
from bench.measure import Figures

WIDTH = 136
"""Columns of the results table: narrower terminals break its lines."""

Results = Mapping[str, tuple[Cell, Figures]]

EXPLAINED = """\
A commit: a writer stages a payload of one add action and commits it in append mode; when that is answered it begins \
its next. Latencies include staging; "unstaged" ones begin with the commit call. "per round": commits that became one \
version; "calls": of the store, for each commit, staging and checkpoints included. 64x1: one writer on each of 64 \
tables. Memory stores hold no data files: they measure the control plane. Writers, coalescer and workers share one \
process (CPU "py", in cores busy); the Temporal server, tuned like the embedded stack's, is another ("srv"). At the \
end of each cell every acknowledged commit was found exactly once, in the version its writer was told.
Reference: the reference system's own figures on a machine like this one, taken beforehand; not measured here.
files: each commit also writes a Parquet file of one row, as the peer does. deltalake: threads of one process, each \
with a table handle it keeps, append the same row with write_deltalake(mode="append") to one folder on the same \
disk; no fsync, as in "files"; one version per append. "failed" counts appends that used up the library's retries."""


def target_value(target: Target, figures: Figures) -> float:
    """Return what a target is held against."""
    return {Metric.RATE: figures.rate, Metric.P50_MS: figures.p50_ms, Metric.P99_MS: figures.p99_ms}[target.metric]


def missed(results: Results) -> list[str]:
    """Return the names of cells that miss a target."""
    return [
        name
        for name, (cell, figures) in results.items()
        if not all(target.met(target_value(target, figures)) for target in cell.targets)
    ]


def one_line(figures: Figures) -> str:
    """Return a cell's result in short, for progress."""
    return f"{figures.rate:.1f}/s, p50 {_ms(figures.p50_ms)}, p99 {_ms(figures.p99_ms)} ms; {figures.verified}"


def print_results(console: Console, results: Results) -> None:
    """Print table, explanation and ratios; the table needs `WIDTH` columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    headers = (
        *(
            "store",
            "ms/call",
            "writers",
            "per second",
            "p50 ms",
            "p99 ms",
            "unstaged p50/p99",
            "per round",
            "calls each",
        ),
        *("CPU py+srv", "failed", "target", "", "reference"),
    )
    for header in headers:
        left = header in ("store", "target", "", "reference")
        table.add_column(header, justify="left" if left else "right", no_wrap=True)
    for cell, figures in results.values():
        met = all(target.met(target_value(target, figures)) for target in cell.targets)
        verdict = "" if not cell.targets else "[green]pass[/]" if met else "[bold red]FAIL[/]"
        table.add_row(
            cell.store,
            f"{cell.latency_ms:g}" if cell.kind is Kind.MEMORY else "",
            f"{cell.writers}" if cell.tables == 1 else f"{cell.tables}x{cell.writers}",
            f"{figures.rate:.1f}",
            _ms(figures.p50_ms),
            _ms(figures.p99_ms),
            "" if figures.p50_unstaged_ms is None else f"{_ms(figures.p50_unstaged_ms)}/{_ms(figures.p99_unstaged_ms)}",
            _number(figures.members_per_round),
            _number(figures.store_calls_per_commit),
            f"{figures.cpu_here:.2f}+{figures.cpu_server:.2f}",
            str(figures.failures) if figures.failures else "",
            ", ".join(map(str, cell.targets)),
            verdict,
            cell.reference,
        )
    console.print(table)
    for line in ratios(results):
        console.print(line)
    console.print(EXPLAINED, style="dim")


def ratios(results: Results) -> list[str]:
    """Return a line for each number of writers that both the peer and a file store of ours were measured with."""
    lines = []
    for cell, peer in results.values():
        if cell.kind is not Kind.PEER:
            continue
        said = [
            f"{ours.rate / peer.rate:.1f} times its rate, p99 {ours.p99_ms / peer.p99_ms:.2f} times ({other.store})"
            for other, ours in results.values()
            if other.kind in (Kind.FILES, Kind.FILES_FSYNC) and (other.tables, other.writers) == (1, cell.writers)
            if peer.rate > 0
        ]
        if said:
            lines.append(f"Against deltalake, {cell.writers} writer(s) on one table: {'; '.join(said)}")
    return lines


def write_results(path: Path, results: Results, *, seconds: float, warm_up: float) -> None:
    """Write the results file: machine, options and one object per cell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "machine": machine(),
        "options": {"seconds": seconds, "warm_up_seconds": warm_up},
        "cells": [
            {
                "name": name,
                "store": cell.store,
                "latency_ms": cell.latency_ms,
                "quota": cell.quota,
                "tables": cell.tables,
                "writers_per_table": cell.writers,
                "targets": [
                    {
                        "metric": target.metric.value,
                        "limit": target.limit,
                        "met": target.met(target_value(target, figures)),
                    }
                    for target in cell.targets
                ],
                "reference": cell.reference or None,
                **_finite(figures.as_json()),
            }
            for name, (cell, figures) in results.items()
        ],
        "ratios": ratios(results),
    }
    path.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


def machine() -> dict[str, Any]:
    """Return what one must know of the machine and the software to read the figures."""
    return {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("temporalio", "deltalake", "pyarrow", "pydantic")},
        "commit": _git_commit(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _git_commit() -> str | None:
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return said.stdout.strip()


def _finite(fields: dict[str, object]) -> dict[str, object]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in fields.items()
    }


def _ms(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def cells_table(console: Console, cells: Sequence[Cell]) -> None:
    """Print the names of cells, for `--list`."""
    for cell in cells:
        console.print(f"{cell.name:20} {cell.store}", highlight=False)
