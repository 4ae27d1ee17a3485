"""What `springline validate` and `springline deploy` show to a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
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
            line.append(f"asset {_line(one['asset'])} ", style="cyan")
        line.append(_line(one["message"]), style="red")
        shown.print(line, soft_wrap=True)
        for said in (one["traceback"] or "").splitlines():
            shown.print(Padding(Text(on_one_line(said, _LONGEST), style="dim"), (0, 0, 0, 4)), soft_wrap=True)
        shown.print(Padding(Text(_line(one["remedy"])), (0, 0, 0, 2)))
    if problems:
        shown.print(Text(_count(len(problems), "problem"), style="bold red"))
    else:
        said = f"{document['file']} is valid: {_count(len(document['assets']), 'asset')} of code location "
        shown.print(Text(_line(f"{said}{document['location']}"), style="bold green"), soft_wrap=True)
    return trimmed(collected.getvalue())


def changes_text(answer: Mapping[str, Any]) -> str:
    """Return what a deploy adds, changes and removes, a line each."""
    shown, collected = console()
    changes = answer["changes"]
    if not any(changes.values()):
        return ""
    shown.print(Text(f"code location {answer['location']}", style="bold"))
    for key in changes["added"][:_MOST]:
        shown.print(Text(f"  + {_line(key)}", style="green"))
    for one in changes["changed"][:_MOST]:
        shown.print(Text(f"  ~ {_line(one['key'])}", style="yellow"))
        for name, field in one["fields"].items():
            line = Text.assemble(
                f"      {_line(name)}: ", (_value(field["from"]), "red"), " -> ", (_value(field["to"]), "green")
            )
            shown.print(line, soft_wrap=True)
    for key in changes["removed"][:_MOST]:
        shown.print(Text(f"  - {_line(key)}", style="red"))
    more = sum(max(0, len(some) - _MOST) for some in changes.values())
    if more:
        shown.print(Text(f"  ... and {more:,} more; -o json shows all", style="dim"))
    return trimmed(collected.getvalue())


def deployed_text(answer: Mapping[str, Any]) -> str:
    """Return what a deploy came to, in a line."""
    shown, collected = console()
    changes = answer["changes"]
    if answer["deployed"]:
        said, style = f"Deployed: manifest {answer['manifest_id']}, ", "bold green"
    elif any(changes.values()):
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
