"""What somebody asks for when a table is to be created or adopted (design 10), and which names a table may have."""

from __future__ import annotations

import re
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from springline.errors import Code, refused

MAX_NAME_LENGTH = 200
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_LIKE_AN_ID = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")


class CreateTable(BaseModel):
    """A table to be created.

    `columns` (or `schema`) is a list of `{"name", "type", "nullable"}` or Delta's own struct type. `location` is
    a folder of the workspace, None for the table's default one. `properties` are Delta table properties and free ones.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    columns: list[dict[str, Any]] | dict[str, Any] = Field(validation_alias=AliasChoices("columns", "schema"))
    partition_columns: list[str] = Field(default_factory=list)
    properties: dict[str, str] = Field(default_factory=dict)
    description: str | None = None
    location: str | None = None


class AdoptTable(BaseModel):
    """An existing Delta folder of the workspace that is to be registered under a name."""

    model_config = ConfigDict(frozen=True)

    name: str
    location: str


def check_name(name: str) -> None:
    """Raise `Refused` (`INVALID_REQUEST`) unless `name` is one a table may have.

    A name never looks like a table id, because everything takes one or the other.
    """
    problem = remedy = None
    if not _NAME.fullmatch(name):
        problem = "is not a table name"
        remedy = "use letters, digits, _, - and ., and begin with a letter, a digit or _"
    elif len(name) > MAX_NAME_LENGTH:
        problem, remedy = f"is longer than {MAX_NAME_LENGTH} characters", "shorten it"
    elif _LIKE_AN_ID.fullmatch(name):
        problem, remedy = "looks like a table id", "choose a name that is no UUID"
    if problem is not None:
        raise refused(
            Code.INVALID_REQUEST,
            f"name: {name[:MAX_NAME_LENGTH]!r} {problem}",
            field="name",
            value=name,
            remedy=remedy,
        )
