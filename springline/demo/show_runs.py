"""The terminal output of the demo's second part."""

from __future__ import annotations

import shlex

import pyarrow as pa
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table as Grid

from springline import names
from springline.demo.automation import CHUNK_SIZE, ROUTES, SENSOR, DemoAutomation
from springline.demo.data import MONTHS, flights
from springline.demo.runs import SCHEDULE, USERS, MonthsRun, MonthsStanding, run_months
from springline.local.stack import EmbeddedStack
from springline.projection.schema import FINISHED_TASK


def show_months(
    stack: EmbeddedStack, console: Console, *, rows: int, every: float, task_s: float, seed: int
) -> MonthsRun:
    """Run a year of flights as a pipeline under kills, and show that every month is there once."""
    source = spread(rows)
    console.print(
        Panel.fit(
            f"[bold]A pipeline makes {len(MONTHS)} months of flights: load, departures, delays, check,\n"
            "and a report. Beside it a schedule asks for more every 3 s, a sensor asks\n"
            "for a run for each file that comes, and a backfill makes the routes of\n"
            f"every month. {len(USERS)} workers run all of that, and every {every:g} s or so one of them\n"
            "is killed with SIGKILL, or our worker, or the API.[/bold]\n"
            "At the end its tables are compared with the source, its attempts with what\n"
            "began, and its state with its events.",
            title="and a pipeline",
        )
    )
    with progress_with_a_note(console) as progress:
        tasks, files, routes = (progress.add_task(name, total=None, note="") for name in ("tasks", "files", "routes"))

        def show(now: MonthsStanding, coming: int, kills: int) -> None:
            ended = sum(now.tasks[state] for state in FINISHED_TASK)
            waits = f", {now.tasks['RETRY_WAIT']} to be tried again" if now.tasks["RETRY_WAIT"] else ""
            note = f"{now.tasks['RUNNING']} running{waits}"
            progress.update(tasks, completed=ended, total=now.tasks.total(), note=note)
            progress.update(files, completed=now.files_done, total=coming, note=f"{now.files} have come")
            progress.update(routes, completed=now.months_done, total=len(MONTHS), note=f"{kills} kills so far")

        done = run_months(stack, source, every_s=every, task_s=task_s, seed=seed, progress=show)
    _summary(console, done)
    _say_who_asked(console, done.automation)
    _say_verdict(console, done)
    _say_where_to_look(stack, console, done)
    return done


def progress_with_a_note(console: Console) -> Progress:
    """Return a bar that tells how many of how many, for how long, and a note of its task."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


def spread(rows: int) -> pa.Table:
    """Return so many flights at most, of the whole year."""
    year = flights()
    step = -(-year.num_rows // rows)
    return year.take(pa.array(range(0, year.num_rows, step)))


def _summary(console: Console, done: MonthsRun) -> None:
    grid = Grid(show_header=False, box=None, padding=(0, 2))
    kills = ", ".join(f"{count}x {what}" for what, count in sorted(done.kills.items()))
    attempts = [f"{count} {what}" for what, count in sorted(done.outcomes.items(), reverse=True)]
    ticks = ", ".join(f"{count} {status}" for status, count in sorted(done.ticks.items()))
    beside = done.automation
    asked = sum(len(one.files) for one in beside.evaluations)
    rows = [
        ("killed", f"{done.kills.total()} times in {done.took_s:.0f} s: {kills}" if done.kills else "nothing"),
        ("attempts", f"{done.outcomes.total()} on record; functions began {done.begun} times"),
        *(("", one) for one in attempts),
        ("schedule", f"{SCHEDULE}: {done.ticks.total()} instants were due, each once and none left out; {ticks}"),
        (
            "sensor",
            f"{SENSOR}: {len(beside.files)} files came; {beside.looks} looks asked for {asked} runs",
        ),
        (
            "backfill",
            f"{ROUTES}: {len(MONTHS)} months were due; {len(beside.chunks)} chunks of {CHUNK_SIZE}, "
            f"never more than {beside.at_once} at once",
        ),
        ("runs", ", ".join(f"{count} {state}" for state, count in sorted(done.runs.items()))),
        ("latest carriers", ", ".join(done.report)),
    ]
    for name, text in rows:
        grid.add_row(f"[bold]{name}[/bold]", text)
    console.print(grid)


def _say_who_asked(console: Console, beside: DemoAutomation) -> None:
    """Tell what each evaluation of the sensor saw, and which run made each chunk of the backfill."""
    seen = Grid(box=SIMPLE_HEAD, padding=(0, 1))
    for name in ("evaluation", "ended as", "files that it saw, each asked for once"):
        seen.add_column(name)
    for number, one in enumerate(beside.evaluations, 1):
        said = " ".join(file.removesuffix(".parquet") for file in one.files) if one.error is None else one.error
        seen.add_row(str(number), one.status, escape(said))
    made = Grid(box=SIMPLE_HEAD, padding=(0, 1))
    for name in ("chunk", "ended as", "months", "run"):
        made.add_column(name)
    for chunk in beside.chunks:
        made.add_row(str(chunk.place), chunk.outcome.lower(), " ".join(chunk.months), chunk.run_id)
    console.print(seen, made)


def _say_verdict(console: Console, done: MonthsRun) -> None:
    if done.problems:
        console.print(f"[red bold]WRONG: {len(done.problems)} problems[/red bold]")
        for problem in done.problems[:10]:
            console.print(f"[red]  {problem}[/red]", soft_wrap=True)
        return
    offline = done.offline
    console.print(
        f"[green bold]{done.rows:,} flights loaded, equal to the source row for row, each month once; the delays are "
        f"those computed at once. Each of {len(done.automation.files)} files was taken over by one run, and the routes "
        f"of each month were made by one.\ndigest {done.digest}: published, and folded offline in random order from "
        f"{offline['batches']} batches. Equal: {offline['events']:,} events, none lost, none twice.[/green bold]"
    )


def _say_where_to_look(stack: EmbeddedStack, console: Console, done: MonthsRun) -> None:
    workflow = names.run_workflow_id(stack.scope.tenant, stack.scope.workspace, done.run_id)
    reach = f"SPRINGLINE_API_URL={stack.api_url} SPRINGLINE_TOKEN={stack.token()}"
    lines = [
        f"the run's workflow     {stack.web_ui_url}/namespaces/default/workflows/{shlex.quote(workflow)}",
        "the run, the ticks of the schedule, the sensor, and the backfill",
        f"  export {reach}",
        f"  .venv/bin/springline run show {done.run_id}",
        f"  .venv/bin/springline schedule history {SCHEDULE}",
        f"  .venv/bin/springline sensor show {SENSOR}",
        f"  .venv/bin/springline backfill show {done.automation.backfill_id}",
    ]
    console.print("\n".join(lines), soft_wrap=True, markup=False)
