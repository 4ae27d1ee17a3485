"""Refusals of what does not fit its model: field, value and remedy, from pydantic's errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from springline.bounds import on_one_line, shown
from springline.errors import Code, Refusal


def misfit(error: Mapping[str, Any], name: str, described: str) -> Refusal:
    """Return the refusal for one of pydantic's errors about the field `name`; `described` says where to read more."""
    kind = error["type"]
    if kind == "missing":
        message, value, remedy = f"{name} is missing", None, f"Add {name} to the request."
    elif kind in ("extra_forbidden", "unexpected_keyword_argument"):
        message, value = f"{name} is not a field of this request", shown(error.get("input"))
        remedy = f"Remove {name}, or correct its spelling; {described}."
    else:
        said = str(error["msg"]).removeprefix("Value error, ")
        message, value = f"{name}: {said[:1].lower()}{said[1:]}", shown(error.get("input"))
        remedy = f"Correct {name}; {described}."
    return Refusal(code=Code.INVALID_REQUEST, message=message, field=name, value=value, remedy=remedy)


def field_of(location: Sequence[str | int]) -> str:
    """Return the dotted name of the field at a location, without the names of a union's alternatives."""
    return on_one_line(".".join(str(part) for part in location if isinstance(part, int) or part.isidentifier()))
