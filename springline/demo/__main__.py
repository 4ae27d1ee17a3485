"""Run the demo: `python -m springline.demo [--keep] [--rows N] [--writers N] [--every S] [--task-seconds S]`."""

from __future__ import annotations

import shlex
import statistics
import time
from pathlib import Path
from typing import Annotated, Any

import orjson
import pyarrow as pa
import typer
from rich.console import Console
from rich.panel import Panel
from rich.table import Table as Grid

from springline import names
from springline.client import Springline
from springline.demo.chaos import WINDOWS, Chaos
from springline.demo.data import batches_of, flights
from springline.demo.proof import Proof, prove
from springline.demo.show_runs import progress_with_a_note, show_months
from springline.demo.writer import TABLE
from springline.errors import SpringlineError
from springline.local.cache import cache_root
from springline.local.processes import Child, module_command
from springline.local.run import ToolFailed
from springline.local.stack import EmbeddedStack
from springline.paths import Scope

SCOPE = Scope("demo", "main")
ALL_ROWS = 336_776
STALLED_S = 120.0

console = Console(stderr=True, highlight=False)


def run(
    keep: Annotated[bool, typer.Option(help="Leave everything running at the end, until Ctrl-C.")] = False,
    rows: Annotated[int, typer.Option(min=1, max=ALL_ROWS, help="How many flights to write.")] = ALL_ROWS,
    writers: Annotated[int, typer.Option(min=1, max=32, help="Writer processes.")] = 8,
    per_commit: Annotated[int, typer.Option(min=1, help="Rows of one commit.")] = 250,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two kills of the worker, on average.")] = 6.0,
    task_seconds: Annotated[float, typer.Option(min=0, help="How long a step of the pipeline's tasks takes.")] = 2.0,
    seed: Annotated[int, typer.Option(help="Seed of the random kills.")] = int(time.time()),
) -> None:
    """Fill a Delta table from many processes while the worker is killed again and again; then prove it right.

    After that, run a pipeline over the same flights, month by month, while its workers and ours and the API are killed.
    """
    began = time.monotonic()
    console.print(
        Panel.fit(
            f"[bold]{writers} processes append {rows:,} flights to one Delta table, {per_commit} rows a commit.\n"
            f"The worker that commits for them is killed with SIGKILL every {every:g} s or so.[/bold]\n"
            "At the end the table is read with deltalake and compared with the source, row for row.",
            title="Springline demo",
        )
    )
    source = flights(rows)
    try:
        with EmbeddedStack(cache_root() / "demo", scope=SCOPE, keep=keep, say=_say) as stack:
            proof = _show(stack, source, writers=writers, per_commit=per_commit, every=every, seed=seed)
            months = show_months(stack, console, rows=rows, every=max(every / 2, 3.0), task_s=task_seconds, seed=seed)
            console.print(f"[dim]{time.monotonic() - began:.0f} s in all[/dim]")
            if keep:
                _wait_for_ctrl_c()
            else:
                console.print(
                    "[dim]All of it ends now; `make demo DEMO=--keep` leaves it running to look around.[/dim]"
                )
    except (ToolFailed, SpringlineError) as error:
        console.print(f"[red]The demo could not go on: {error}[/red]")
        raise typer.Exit(4) from error
    if proof.problems or months.problems:
        raise typer.Exit(1)


def _say(text: str) -> None:
    console.print(f"[dim]{text}[/dim]")


def _show(stack: EmbeddedStack, source: pa.Table, *, writers: int, per_commit: int, every: float, seed: int) -> Proof:
    """Create the table, run the writers and the chaos on it, and prove the result."""
    with Springline(stack.api_url, stack.token()) as lake:
        table = lake.create_table(TABLE, source.schema)
        entry = table.status()["table"]
        _say_where_to_look(stack, entry["table_id"])
        chaos = Chaos(stack, entry["table_id"], entry["root"], every_s=every, seed=seed)
        began = time.monotonic()
        lines = _write(stack, chaos, source.num_rows, writers, per_commit)
        took = time.monotonic() - began
        if chaos.failure is not None:
            raise ToolFailed(f"the worker did not come back: {chaos.failure}")
        console.print("[dim]reading the table with deltalake and comparing it with the source[/dim]")
        location = table.location
        proof = prove(location, source, {line["key"]: line["version"] for line in lines})
        _summary(chaos, lines, proof, took)
        console.print(f"The table: {location}")
        _say_where_to_look(stack, entry["table_id"], key=lines[-1]["key"])
        return proof


def _write(stack: EmbeddedStack, chaos: Chaos, rows: int, writers: int, per_commit: int) -> list[dict[str, Any]]:
    """Run the writer processes to their end under chaos; return the answers to them, in order of arrival."""
    files = [stack.folder / f"writer-{number}.jsonl" for number in range(writers)]
    environment = stack.child_environment() | {
        "SPRINGLINE_API_URL": stack.api_url,
        "SPRINGLINE_TOKEN": stack.token(),
    }
    processes: list[Child] = []
    for number, file in enumerate(files):
        arguments = [str(number), str(writers), str(rows), str(per_commit), str(file)]
        command = module_command("springline.demo.writer", *arguments)
        process = Child(file.stem, command, env=environment, cwd=stack.folder, log=stack.log(file.stem))
        process.start()
        processes.append(process)
    total = sum(len(batches_of(number, writers, rows, per_commit)) for number in range(writers))
    try:
        _watch(processes, files, chaos, total)
    finally:
        if chaos.is_alive():
            chaos.stop()
        for process in processes:
            process.kill()
    return [line for file in files for line in _lines(file)]


def _watch(processes: list[Child], files: list[Path], chaos: Chaos, total: int) -> None:
    last, last_change = 0, time.monotonic()
    with progress_with_a_note(console) as progress:
        bar = progress.add_task("commits", total=total, note="")
        while any(process.running for process in processes):
            time.sleep(0.2)
            lines = [line for file in files for line in _lines(file)]
            if lines and not chaos.is_alive() and chaos.ident is None:
                chaos.start()
            newest = max((line["version"] for line in lines), default=0)
            note = f"version {newest}, worker killed {chaos.kills.total} times"
            progress.update(bar, completed=len(lines), note=note)
            if len(lines) != last:
                last, last_change = len(lines), time.monotonic()
            elif time.monotonic() - last_change > STALLED_S or chaos.failure is not None:
                raise ToolFailed(f"no commit for {STALLED_S:.0f} s; the logs are in {processes[0].log.parent}")
    for process in processes:
        if process.exit_code != 0:
            raise ToolFailed(f"{process.name} ended with code {process.exit_code}:\n{process.log_tail()}")


def _lines(file: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a progress file."""
    if not file.exists():
        return []
    return [orjson.loads(line) for line in file.read_bytes().split(b"\n")[:-1]]


def _summary(chaos: Chaos, lines: list[dict[str, Any]], proof: Proof, took: float) -> None:
    seconds = sorted(line["seconds"] for line in lines)
    grid = Grid(show_header=False, box=None, padding=(0, 2))
    rows = [
        ("commits", f"{len(lines):,} acknowledged in {took:.0f} s ({len(lines) / took:.0f} a second)"),
        (
            "versions",
            f"{proof.versions:,}: commits that wait together share one ({len(lines) / proof.versions:.1f} each)",
        ),
        (
            "latency",
            f"p50 {milliseconds(seconds, 50)}, p99 {milliseconds(seconds, 99)}, "
            f"longest {seconds[-1] * 1000:,.0f} ms, kills included",
        ),
        ("kills", f"{chaos.kills.total} times SIGKILL to the worker; it was caught"),
        *((f"  {chaos.kills.windows[window]}x", window) for window in WINDOWS if chaos.kills.windows[window]),
    ]
    pauses = [pause for pause in chaos.kills.pauses_s if pause]
    if pauses:
        median = statistics.median(pauses)
        text = f"first new version {median:.1f} s (median), {max(pauses):.1f} s (longest) after the worker was up"
        rows.append(("recovery", text))
    for name, text in rows:
        grid.add_row(f"[bold]{name}[/bold]", text)
    console.print(grid)
    if proof.problems:
        console.print(f"[red bold]WRONG: {len(proof.problems)} problems[/red bold]")
        for problem in proof.problems[:10]:
            console.print(f"[red]  {problem}[/red]")
        return
    console.print(
        f"[green bold]{proof.rows:,} rows, equal to the source row for row. Every one of {proof.keys:,} keys is in the "
        "log exactly once, at the version that was answered; no version is missing.[/green bold]"
    )


def milliseconds(seconds: list[float], percent: int) -> str:
    """Return a percentile of ascending seconds as text."""
    return f"{seconds[min(len(seconds) - 1, len(seconds) * percent // 100)] * 1000:,.0f} ms"


def _say_where_to_look(stack: EmbeddedStack, table_id: str, key: str | None = None) -> None:
    workflow = names.commit_workflow_id(SCOPE.tenant, SCOPE.workspace, table_id)
    address = f"--address {stack.temporal_address}"
    temporal = shlex.quote(str(stack.program))
    lines = [
        f"Web UI                {stack.web_ui_url}/namespaces/default/workflows",
        f"API                   {stack.api_url}/docs",
        f"what it is doing      {temporal} workflow query {address} --type {names.STATUS_QUERY} -w {workflow}",
        f"what it went through  {temporal} workflow show {address} -w {workflow}",
    ]
    if key is not None:
        lines += [
            "what became of a key",
            f"  SPRINGLINE_API_URL={stack.api_url} SPRINGLINE_TOKEN={stack.token()} \\",
            f"  .venv/bin/springline explain commit {TABLE} {key}",
        ]
    console.print("\n".join(lines), soft_wrap=True, markup=False)


def _wait_for_ctrl_c() -> None:
    console.print("[bold]Everything is still running. Ctrl-C ends it.[/bold]")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        console.print("ending")


if __name__ == "__main__":
    typer.run(run)
