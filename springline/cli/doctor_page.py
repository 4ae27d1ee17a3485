"""The findings of `springline doctor` as a page for a person: problems first, each with its remedy."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from springline.bounds import on_one_line
from springline.cli.findings import Finding, FindingState
from springline.cli.present import console, trimmed

MOST_FINE = 14
"""Up to this many good findings have a line each; more have one line for each group."""
_LONGEST = 400
_GROUPS = ("configuration", "store", "workspace", "API", "Temporal")
_MARKS = {
    FindingState.OK: ("ok", "green"),
    FindingState.WRONG: ("wrong", "bold red"),
    FindingState.UNREACHABLE: ("no answer", "bold yellow"),
    FindingState.SKIPPED: ("-", "dim"),
}


def page(findings: Sequence[Finding]) -> str:
    """Return the findings by group, each with its remedy if there is one, and a summary."""
    shown, collected = console()
    fine = [one for one in findings if one.state in (FindingState.OK, FindingState.SKIPPED)]
    brief = len(fine) > MOST_FINE
    for group in _GROUPS:
        of_group = [one for one in findings if _group(one) == group]
        if not of_group:
            continue
        shown.print(Text(group, style="bold"))
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True, min_width=11)
        grid.add_column(overflow="fold")
        well = [one for one in of_group if one.state is FindingState.OK]
        for one in of_group:
            if brief and one.state is FindingState.OK:
                continue
            mark, style = _MARKS[one.state]
            told = Text(on_one_line(f"{one.name}: {one.what}", _LONGEST), style="dim" if style == "dim" else "")
            grid.add_row(Text(f"  {mark}", style=style), told)
            if one.ok is False and one.remedy:
                grid.add_row("", Text(on_one_line(one.remedy, _LONGEST), style="cyan"))
        if brief and well:
            names = on_one_line(", ".join(one.name for one in well), _LONGEST)
            grid.add_row(Text("  ok", style="green"), Text(names))
        shown.print(grid)
    wrong = sum(one.state is FindingState.WRONG for one in findings)
    away = sum(one.state is FindingState.UNREACHABLE for one in findings)
    said = [f"{wrong} to correct"] * bool(wrong) + [f"{away} without an answer"] * bool(away)
    shown.print(Text(", ".join(said) if said else "All is well.", style="bold red" if said else "bold green"))
    return trimmed(collected.getvalue())


def _group(one: Finding) -> str:
    name = one.name
    if name.startswith(("workspace ", "tables of ", "definitions of ")):
        return "workspace"
    if name in ("api", "token", "clock", "profile") or name.startswith("clock against"):
        return "API"
    if name.startswith("store"):
        return "store"
    if name == "configuration" or name.upper() == name:
        return "configuration"
    return "Temporal"
