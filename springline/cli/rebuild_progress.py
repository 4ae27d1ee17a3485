"""How far a rebuild is, for a person at a terminal: a bar on standard error, or a line now and then elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from springline.bounds import on_one_line
from springline.cli.documents import hint
from springline.cli.session import session
from springline.rebuild.messages import RebuildView

EVERY_PERCENT = 10.0
"""Without a terminal, a line is written each time the phase changes, so much more is done, or something is wrong."""


class Bar:
    """Shows views of one rebuild as they come."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._live = self._console.is_terminal and sys.stderr.isatty() and session().level >= 0
        self._progress = Progress(
            TextColumn("{task.fields[phase]}", style="bold", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[told]}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._task = self._progress.add_task("rebuild", total=100.0, phase="starting", told="")
        self._phase: str | None = None
        self._percent = 0.0
        self._trouble = ""

    def __enter__(self) -> Self:
        """Begin to draw."""
        if self._live:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the last state on the screen."""
        if self._live:
            self._progress.stop()
        if kind is KeyboardInterrupt:
            hint("the rebuild goes on; `springline rebuild watch` shows it, `springline rebuild cancel` ends it")

    def show(self, view: RebuildView) -> None:
        """Show how far a rebuild is; without a terminal, if there is something new."""
        progress = view.progress or {}
        shown = [progress.get("phase"), view.phase]
        percents = [progress.get("percent"), view.percent]
        if view.ended:
            # What the server keeps of a run that has ended is final; a worker may not answer any more.
            shown.reverse()
            percents.reverse()
        phase = str(next(filter(None, shown), "waiting for a worker"))
        percent = float(next(filter(None, percents), 0.0))
        why = trouble(view)
        told = ", ".join(filter(None, [summary(progress, ended=view.ended), why]))
        if self._live:
            phase, told = on_one_line(phase), on_one_line(told)
            self._progress.update(self._task, completed=percent, phase=phase, told=told)
        elif phase != self._phase or percent >= self._percent + EVERY_PERCENT or (why and why != self._trouble):
            hint(f"{phase}, {percent:.0f} %{': ' if told else ''}{told}")
            self._phase, self._percent, self._trouble = phase, percent, why


def trouble(view: RebuildView) -> str:
    """Return why a rebuild may not move: nobody answers for it, or a step fails again and again."""
    if view.ended:
        return ""
    whys = [] if view.progress is not None else ["no worker answers at the moment"]
    failing = [step for step in view.steps if step.last_failure is not None]
    if failing:
        whys.append(f"{failing[0].name} is repeated: {failing[0].last_failure}")
    return ", ".join(whys)


def summary(progress: dict[str, Any], *, ended: bool = False) -> str:
    """Return counts, rate and, unless it has ended, estimate in one line; what is zero is left out."""
    events, listed = progress.get("events", 0), progress.get("events_listed", 0)
    parts = []
    if events or listed:
        # How many events a listed segment holds is known when it has been read.
        parts.append(f"{events:,} of {listed:,} events" if events <= listed else f"{events:,} events")
    if progress.get("rate"):
        parts.append(f"{progress['rate']:,.0f}/s")
    if progress.get("seconds_left") is not None and not ended:
        parts.append(f"about {progress['seconds_left']:.0f} s left")
    counts = [("skipped", "skipped"), ("duplicates", "duplicate"), ("missing", "missing"), ("damaged", "damaged")]
    parts += [f"{progress[field]:,} {word}" for field, word in counts if progress.get(field)]
    parts += [f"{progress['gaps']:,} not listed"] if progress.get("gaps") else []
    return ", ".join(parts)
