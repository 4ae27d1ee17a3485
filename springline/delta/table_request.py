"""Requests for tables and their registration: requests, names, roots, entries, claims.

See docs/formats.md#table-registry.

A root is a folder of the workspace, outside the folders of the workspace's own objects.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from springline import bounds, paths
from springline.errors import Code, Refused, refused

MAX_NAME_LENGTH = 200
RESERVED_NAMES = frozenset({"adopt"})
"""Names with another meaning in a URL where a table's name stands."""
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
    """A request to create a table.

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
        json_schema_extra=bounds.judged(
            "Columns of the table, not all of them, without / and : in their names, of types to partition by."
        ),
    )
    properties: dict[_Property, _Property] = Field(
        default_factory=dict,
        max_length=bounds.MAX_PROPERTIES,
        json_schema_extra=bounds.judged("Values that Delta's properties may have; features that are supported here."),
    )
    description: Annotated[str, Field(max_length=bounds.MAX_DESCRIPTION)] | None = None
    location: _Location | None = None


class AdoptTable(BaseModel):
    """A request to register an existing Delta folder of the workspace, by its name or in full, under a name."""

    model_config = ConfigDict(frozen=True)

    name: _Name
    location: _Location


def check_name(name: str) -> None:
    """Raise `Refused` (`INVALID_REQUEST`) unless `name` is valid for a table.

    A name never looks like a table id, because all interfaces accept either.
    """
    if _LIKE_AN_ID.fullmatch(name):
        raise _no_name("name", name, "looks like a table id", "choose a name that is no UUID")
    check_name_or_id(name, field="name")


def check_name_or_id(text: object, *, field: str = "table") -> None:
    """Raise `Refused` (`INVALID_REQUEST`) for what no table has as its name or its id."""
    if not isinstance(text, str):
        raise _no_name(field, text, f"is a {type(text).__name__} and no text", "give the table's name or its id")
    if _LIKE_AN_ID.fullmatch(text):
        return
    if not _NAME.fullmatch(text):
        remedy = "use letters, digits, _, - and ., and begin with a letter, a digit or _"
        raise _no_name(field, text, "is not a table name", remedy)
    if len(text) > MAX_NAME_LENGTH:
        raise _no_name(field, text, f"is longer than {MAX_NAME_LENGTH} characters", "shorten it")
    if text in RESERVED_NAMES:
        raise _no_name(field, text, "is a word of the API", "choose another name")


def _no_name(field: str, given: object, problem: str, remedy: str) -> Refused:
    message = f"{field}: {repr(given)[:MAX_NAME_LENGTH]} {problem}"
    return refused(Code.INVALID_REQUEST, message, field=field, value=given, remedy=remedy)


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


MAX_DEPTH = 32
MAX_FOLDER_BYTES = 255
MAX_ROOT_BYTES = 768
"""Of a new table's root; a bucket takes names of 1,024 bytes, and those of the table's files are behind it."""
_ANY_ID = "00000000-0000-0000-0000-000000000000"


def roots_of_location(location: str, scope: paths.Scope, store_url: str | None) -> tuple[str, ...]:
    """Return the roots that a `location` may mean in the store `store_url`, as `springline.paths.table_roots` does.

    Raises `Refused` (`INVALID_PATH`) if it lies outside the workspace, or is no folder of it that a table may have.
    """
    try:
        roots = paths.table_roots(location, scope, store_url)
    except paths.InvalidPath as error:
        raise refused(Code.INVALID_PATH, str(error), field="location", value=location, remedy=error.remedy) from None
    for root in roots:
        _check(root, location)
    return roots


def _check(root: str, location: str) -> None:
    """Raise `Refused` (`INVALID_PATH`) if no table may have this root."""
    area, folder = paths.area_and_folder(root)
    segments = folder.split("/")
    if "" in segments:
        raise _bad(location, "has an empty segment", "write one slash between folders")
    if len(segments) > MAX_DEPTH:
        raise _bad(location, f"is deeper than {MAX_DEPTH} folders", "choose a shorter one")
    if paths.DELTA_LOG_FOLDER in segments:
        raise _bad(location, "is inside a table's log", "name the table's folder, the one that holds the log")
    if not area and segments[0] in paths.RESERVED_FOLDERS:
        raise _bad(location, f"is in {segments[0]!r}, where the workspace keeps its own objects", "choose another")
    if any(default_owner(ancestor) is not None for ancestor in ancestors(root)):
        raise _bad(location, "is inside another table's default location", "choose a folder outside it")
    if default_owner(f"{root}/{_ANY_ID}") is not None:
        raise _bad(location, "is the folder of all default locations", "name a folder below it")


def check_new_root(root: str, location: str) -> None:
    """Raise `Refused` (`INVALID_PATH`) if a new table may not have this root; an existing one may."""
    _, folder = paths.area_and_folder(root)
    pair = next((segment for segment in folder.split("/") if "=" in segment), None)
    if pair is not None:
        problem = f"has the folder {pair!r}, which engines take for a partition column and its value"
        raise _bad(location, problem, "name folders without =")
    longest = max(len(segment.encode()) for segment in folder.split("/"))
    if longest > MAX_FOLDER_BYTES:
        problem = f"has a folder of {longest} bytes, and {MAX_FOLDER_BYTES} is the most that file systems take"
        raise _bad(location, problem, "choose a shorter name")
    size = len(root.encode())
    if size > MAX_ROOT_BYTES:
        problem = f"makes a root of {size} bytes, and {MAX_ROOT_BYTES} is the most that leaves room for names of files"
        raise _bad(location, problem, "choose a shorter one")


def default_owner(root: str) -> str | None:
    """Return the id of the table whose default location, old or new, is `root`; None if it is not such a location.

    No other table may have that root: a table with a coordinator and no registry entry is expected there
    (docs/protocol.md#rule-2), so another id there would give one log two sequencers.
    """
    area, folder = paths.area_and_folder(root)
    table_id = folder if area else folder.rpartition("/")[2]
    try:
        paths.table_id(table_id)
    except paths.InvalidPath:
        return None
    return table_id if area or paths.default_table_root(table_id) == root else None


def ancestors(root: str) -> list[str]:
    """Return the folders of the workspace that contain `root` and might be tables, outermost first."""
    area, folder = paths.area_and_folder(root)
    segments = folder.split("/")
    before = f"{area}/" if area else ""
    return [before + "/".join(segments[:count]) for count in range(1, len(segments))]


def _bad(location: str, problem: str, remedy: str) -> Refused:
    return refused(
        Code.INVALID_PATH, f"location {location!r} {problem}", field="location", value=location, remedy=remedy
    )
