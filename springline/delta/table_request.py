"""What somebody asks for when a table is to be created or adopted (docs/formats.md#table-registry), and which names a
table may have.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from springline import bounds
from springline.errors import Code, refused

MAX_NAME_LENGTH = 200
RESERVED_NAMES = frozenset({"adopt"})
"""Names that stand for something else where a URL names a table."""
_NAME_PATTERN = "[A-Za-z0-9_][A-Za-z0-9_.-]*"
_NAME = re.compile(_NAME_PATTERN)
_LIKE_AN_ID_PATTERN = "[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}"
_LIKE_AN_ID = re.compile(_LIKE_AN_ID_PATTERN)
_Name = Annotated[
    str,
    Field(
        max_length=bounds.MAX_NAME,
        json_schema_extra={
            "maxLength": MAX_NAME_LENGTH,
            "pattern": f"^(?!({_LIKE_AN_ID_PATTERN}|adopt)$){_NAME_PATTERN}$",
        },
    ),
]
_Location = Annotated[
    str,
    Field(max_length=bounds.MAX_LOCATION, json_schema_extra=bounds.judged("A folder inside the workspace.")),
]
_Property = Annotated[str, Field(max_length=bounds.MAX_PROPERTY)]
_Columns = (
    Annotated[
        list[Annotated[dict[str, Any], Field(max_length=bounds.MAX_STRUCT_FIELDS)]],
        Field(max_length=bounds.MAX_COLUMNS),
    ]
    | Annotated[dict[str, Any], Field(max_length=bounds.MAX_STRUCT_FIELDS)]
)


class CreateTable(BaseModel):
    """A table to be created.

    `columns` (or `schema`) is a list of `{"name", "type", "nullable"}` or Delta's own struct type. `location` is a
    folder of the workspace, by its name or by a full URL or path inside the workspace; None for the default one.
    `properties` are Delta table properties and free ones.
    """

    model_config = ConfigDict(frozen=True)

    name: _Name
    columns: _Columns = Field(
        validation_alias=AliasChoices("columns", "schema"),
        json_schema_extra=bounds.judged("Types that Delta has, under names that differ by more than their case."),
    )
    partition_columns: list[Annotated[str, Field(max_length=bounds.MAX_COLUMN_NAME)]] = Field(
        default_factory=list,
        max_length=bounds.MAX_PARTITION_COLUMNS,
        json_schema_extra=bounds.judged("Columns of the table, not all of them, of types that can be partitioned by."),
    )
    properties: dict[_Property, _Property] = Field(
        default_factory=dict,
        max_length=bounds.MAX_PROPERTIES,
        json_schema_extra=bounds.judged("Values that Delta's properties may have; features that are supported here."),
    )
    description: Annotated[str, Field(max_length=bounds.MAX_DESCRIPTION)] | None = None
    location: _Location | None = None


class AdoptTable(BaseModel):
    """An existing Delta folder of the workspace, by its name or in full, that is to be registered under a name."""

    model_config = ConfigDict(frozen=True)

    name: _Name
    location: _Location


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
    elif name in RESERVED_NAMES:
        problem, remedy = "is a word of the API", "choose another name"
    if problem is not None:
        raise refused(
            Code.INVALID_REQUEST,
            f"name: {name[:MAX_NAME_LENGTH]!r} {problem}",
            field="name",
            value=name,
            remedy=remedy,
        )


class TableEntry(BaseModel):
    """A registered table.

    `root` is a folder of the workspace (`springline.paths.workspace_path`): one of its tables area if it begins with a
    slash, else one under its prefix. It has no slash at its end.
    """

    model_config = ConfigDict(frozen=True)

    table_id: str
    name: str
    root: str
    created_at_ms: int
    properties: dict[str, str] = {}


class Claim(BaseModel):
    """A root or a name claimed by a table; create-only, so that two tables never share one."""

    model_config = ConfigDict(frozen=True)

    table_id: str
    value: str
