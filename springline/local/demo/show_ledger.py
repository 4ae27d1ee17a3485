"""The terminal output of the demo's second part."""

from __future__ import annotations

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table as Grid

from springline.local.demo.ledger import CALLERS, RUNS_SQL, TASKS_SQL, LedgerRun, ask, run_pipeline
from springline.local.stack import EmbeddedStack


def show_ledger(stack: EmbeddedStack, console: Console, *, nights: int, every: float, seed: int) -> LedgerRun:
    """Append a pipeline's events under kills, show the state, and show that folding them again gives the same state."""
    console.print(
        Panel.fit(
            f"[bold]{nights} nights of a pipeline: ticks, runs, tasks with retries, a cancelled run, a backfill.\n"
            f"{CALLERS} callers append its events; the worker is killed every {every:g} s or so.[/bold]\n"
            "At the end the events are folded again, in random order and batches, and the digests compared.",
            title="and its ledger",
        )
    )
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("requests", total=None)
        done = run_pipeline(
            stack,
            nights=nights,
            every_s=every,
            seed=seed,
            progress=lambda count, total: progress.update(bar, completed=count, total=total),
        )
    seconds = sorted(done.seconds)
    grid = Grid(show_header=False, box=None, padding=(0, 2))
    kills = ", ".join(f"{count}x {window}" for window, count in sorted(done.kills.items()))
    for name, text in (
        ("events", f"{len(done.paths):,} in {done.requests:,} requests, in {done.took_s:.0f} s"),
        (
            "visible",
            f"p50 {milliseconds(seconds, 50)}, longest {seconds[-1] * 1000:,.0f} ms after the append, kills included",
        ),
        ("worker killed", f"{done.kills.total()} times: {kills}" if done.kills else "not at all"),
    ):
        grid.add_row(f"[bold]{name}[/bold]", text)
    console.print(grid)
    for sql in (RUNS_SQL, TASKS_SQL):
        console.print(f'\n[dim]springline query "{" ".join(sql.split())}"[/dim]', soft_wrap=True)
        console.print(ask(stack, sql), markup=False, end="", soft_wrap=True)
    _say_verdict(console, done)
    return done


def _say_verdict(console: Console, done: LedgerRun) -> None:
    if done.problems:
        console.print(f"[red bold]WRONG: {len(done.problems)} problems[/red bold]")
        for problem in done.problems[:10]:
            console.print(f"[red]  {problem}[/red]")
        return
    offline = done.offline
    console.print(
        f"\n[green bold]digest {done.digest}: published, and folded offline in random order from {offline['batches']} "
        f"batches ({offline['refolds']} refolds). Equal: {offline['events']:,} events, none lost, none twice."
        "[/green bold]"
    )


def milliseconds(seconds: list[float], percent: int) -> str:
    """Return a percentile of ascending seconds as text."""
    return f"{seconds[min(len(seconds) - 1, len(seconds) * percent // 100)] * 1000:,.0f} ms"
