"""What `springline validate` and `springline deploy` show to a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from springline.bounds import on_one_line
from springline.cli.present import console, trimmed

_LONGEST = 2_000
_MOST = 50
"""How many assets of each kind of change are named."""


def validity_text(document: Mapping[str, Any]) -> str:
    """Return whether a pipeline file is valid, or everything that is wrong with it."""
    shown, collected = console()
    problems = document["problems"]
    for one in problems:
        where = one["file"] if one["line"] is None else f"{one['file']}:{one['line']}"
        line = Text.assemble((_line(where), "bold"), "  ")
        if one["asset"]:
            line.append(f"{one.get('kind', 'asset')} {_line(one['asset'])} ", style="cyan")
        line.append(_line(one["message"]), style="red")
        shown.print(line, soft_wrap=True)
        for said in (one["traceback"] or "").splitlines():
            shown.print(Padding(Text(on_one_line(said, _LONGEST), style="dim"), (0, 0, 0, 4)), soft_wrap=True)
        shown.print(Padding(Text(_line(one["remedy"])), (0, 0, 0, 2)))
    if problems:
        shown.print(Text(_count(len(problems), "problem"), style="bold red"))
    else:
        tasks = f" and {_count(len(document['tasks']), 'task')}" if document["tasks"] else ""
        said = f"{document['file']} is valid: {_count(len(document['assets']), 'asset')}{tasks} of code location "
        shown.print(Text(_line(f"{said}{document['location']}"), style="bold green"), soft_wrap=True)
    return trimmed(collected.getvalue())


def changes_text(answer: Mapping[str, Any]) -> str:
    """Return what a deploy adds, changes and removes, a line each: assets, then tasks, schedules and sensors."""
    shown, collected = console()
    tasks, schedules, sensors = (answer.get(name) or {} for name in ("tasks", "schedules", "sensors"))
    if not any(any(one.values()) for one in (answer["changes"], tasks, schedules, sensors)):
        return ""
    shown.print(Text(f"code location {answer['location']}", style="bold"))
    _print_changes(shown, answer["changes"], "")
    if tasks:
        _print_changes(shown, tasks, "task ")
    if schedules:
        _print_changes(shown, schedules, "schedule ")
    if sensors:
        _print_changes(shown, sensors, "sensor ")
    return trimmed(collected.getvalue())


def _print_changes(shown: Console, changes: Mapping[str, Any], kind: str) -> None:
    for key in changes["added"][:_MOST]:
        shown.print(Text(f"  + {kind}{_line(key)}", style="green"))
    for one in changes["changed"][:_MOST]:
        shown.print(Text(f"  ~ {kind}{_line(one['key'])}", style="yellow"))
        for name, field in one["fields"].items():
            line = Text.assemble(
                f"      {_line(name)}: ", (_value(field["from"]), "red"), " -> ", (_value(field["to"]), "green")
            )
            shown.print(line, soft_wrap=True)
    for key in changes["removed"][:_MOST]:
        shown.print(Text(f"  - {kind}{_line(key)}", style="red"))
    for one in changes.get("pools", [])[:_MOST]:
        line = Text.assemble(
            f"  ~ pool {_line(one['name'])} slots: ",
            (_value(one["before"]), "red"),
            " -> ",
            (_value(one["after"]), "green"),
        )
        shown.print(line, soft_wrap=True)
    more = sum(max(0, len(some) - _MOST) for some in changes.values())
    if more:
        shown.print(Text(f"  ... and {more:,} more; -o json shows all", style="dim"))


def deployed_text(answer: Mapping[str, Any]) -> str:
    """Return what a deploy came to, in a line."""
    shown, collected = console()
    more = [(answer.get(name) or {}).values() for name in ("tasks", "schedules", "sensors")]
    changes = [*answer["changes"].values(), *(one for some in more for one in some)]
    if answer["deployed"]:
        said, style = f"Deployed: manifest {answer['manifest_id']}, ", "bold green"
    elif any(changes):
        said, style = "Nothing was deployed, it was a dry run: ", "bold"
    else:
        said, style = "Nothing changes: this is what is deployed already, ", "bold green"
    shown.print(Text(f"{said}{_count(answer['assets'], 'asset')} in the workspace", style=style), soft_wrap=True)
    return trimmed(collected.getvalue())


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _line(text: str) -> str:
    return on_one_line(" ".join(str(text).split()), _LONGEST)


def _value(value: Any) -> str:
    if value is None:
        return "-"
    return on_one_line(value if isinstance(value, str) else orjson.dumps(value).decode(), 300)
