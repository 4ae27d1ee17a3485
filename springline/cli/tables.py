"""`springline table create | adopt | status | list | history`: through the HTTP API."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from springline.cli.documents import Document, Listing, hint
from springline.cli.grid import instant
from springline.cli.http import DEFAULT_WAIT_SECONDS, TABLES, Api, ApiOption, TokenOption, WaitOption, check_in_url
from springline.cli.watching import WatchOption, watched
from springline.errors import Code, refused

Json = dict[str, Any]

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the table, unique in the workspace.")]
TableArgument = Annotated[str, typer.Argument(metavar="TABLE", help="The table's name or id.")]


def create(
    name: NameArgument,
    *,
    schema: Annotated[
        str,
        typer.Option(
            "--schema",
            metavar="FILE|JSON",
            help='Columns as JSON: [{"name", "type", "nullable"}, ...] or Delta\'s own struct; a file, - or the text.',
        ),
    ],
    partition_by: Annotated[
        list[str] | None,
        typer.Option("--partition-by", metavar="A,B", help="Partition columns, in order; may be repeated."),
    ] = None,
    properties: Annotated[
        list[str] | None,
        typer.Option("--property", metavar="KEY=VALUE", help="A table property; may be repeated."),
    ] = None,
    description: Annotated[str | None, typer.Option("--description", help="What the table holds.")] = None,
    location: Annotated[
        str | None,
        typer.Option(
            "--location",
            metavar="FOLDER",
            help="Folder of the workspace, or a URL in it; default: one named by the id.",
        ),
    ] = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Document:
    """Create a Delta table (version 0) and register it. Repeating the same command is safe."""
    body: dict[str, Any] = {
        "name": name,
        "columns": parse_schema(schema),
        "partition_columns": parse_list("--partition-by", partition_by or []),
        "properties": parse_pairs("--property", properties or []),
    }
    if description is not None:
        body["description"] = description
    if location is not None:
        body["location"] = location
    with Api(api, token, wait_s=wait) as surface:
        return surface.call("POST", body=body).body


def adopt(
    name: NameArgument,
    location: Annotated[
        str, typer.Argument(metavar="LOCATION", help="Folder of the workspace that holds the Delta table, or its URL.")
    ],
    *,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Document:
    """Register a Delta table that another engine wrote into a folder of the workspace."""
    with Api(api, token, wait_s=wait) as surface:
        return surface.call("POST", "adopt", body={"name": name, "location": location}).body


def status(
    table: TableArgument,
    *,
    watch: WatchOption = False,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Document:
    """Show a table as it is stored, and what its sequencer is doing."""
    check_table(table)
    with Api(api, token, wait_s=wait) as surface:
        if watch:
            watched(lambda: surface.call("GET", table).body)
        return surface.call("GET", table).body


def list_tables(
    *,
    name_prefix: Annotated[
        str, typer.Option("--name-prefix", metavar="TEXT", help="Only names that begin like this.")
    ] = "",
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Most tables; default: all.")] = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """List the tables of the workspace, in the order of their creation."""
    with Api(api, token, wait_s=wait) as surface:
        filters = {"name_prefix": name_prefix} if name_prefix else {}
        found, damaged, more = _pages(surface, (), limit, filters)
    for one in damaged:
        hint(f"registry entry {one['object']} is damaged: {one['problem']}")
    names = ["name", "table_id", "created", "location"]
    rows = [[one["name"], one["table_id"], instant(one["created_at_ms"]), one["location"]] for one in found]
    return Listing(lambda: {"tables": found, "damaged": damaged, "more": more}, names, rows)


def history(
    table: TableArgument,
    *,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Most versions.")] = 100,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """Show the versions of a table, newest first: when, by which operation, under which keys, with how many rows."""
    check_table(table)
    with Api(api, token, wait_s=wait) as surface:
        found, _, more = _pages(surface, (table, "history"), limit, {})
    names = ["version", "time", "operation", "rows_added", "rows_removed", "keys"]
    rows = [
        [
            one["version"],
            instant(one["timestamp_ms"]),
            one["operation"] if one["readable"] else "(cannot be read)",
            one["rows_added"],
            one["rows_removed"],
            " ".join(one["keys"]),
        ]
        for one in found
    ]
    return Listing(lambda: {"versions": found, "more": more}, names, rows)


def _pages(
    surface: Api, path: tuple[str, ...], limit: int | None, filters: dict[str, str]
) -> tuple[list[Json], list[Json], bool]:
    """Return the items of a list, its damaged entries, and whether there are more than `limit`."""
    pages = list(surface.pages(*path, root=TABLES, params=dict(filters), limit=limit))
    items = [one for page in pages for one in page["items"]]
    damaged = [one for page in pages for one in page.get("damaged", [])]
    return items, damaged, pages[-1]["next_cursor"] is not None


def check_table(table: str) -> str:
    """Return `table` if a URL can contain it; raises `Refused` (INVALID_REQUEST) otherwise."""
    message = f"{table!r} is neither a table's name nor its id"
    check_in_url(table, message, field="table", remedy="Give the table's name or id.")
    return table


def parse_schema(text: str) -> Any:
    """Return the schema from the JSON in a file, in standard input (`-`) or in the option itself; raises `Refused`."""
    source = "the option's text"
    if not text.lstrip().startswith(("[", "{")):
        source = "standard input" if text == "-" else f"file {text!r}"
        text = sys.stdin.read() if text == "-" else read_text("--schema", Path(text))
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise _schema(f"{source} is not JSON: {error}", text) from None
    if not isinstance(parsed, list | dict):
        raise _schema(f"{source} is neither a list of columns nor a struct", text)
    return parsed


def read_text(field: str, path: Path) -> str:
    """Return the text of a file; raises `Refused` (INVALID_REQUEST) naming `field` if there is none."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise refused(
            Code.INVALID_REQUEST,
            f"file {str(path)!r} cannot be read: {reason}",
            field=field,
            value=str(path),
            remedy="Name a readable file in UTF-8, or - for standard input.",
        ) from None


def parse_list(field: str, values: list[str]) -> list[str]:
    """Return the parts of comma-separated `values`; raises `Refused` for an empty part."""
    parts = [part.strip() for value in values for part in value.split(",")]
    if "" in parts:
        raise refused(
            Code.INVALID_REQUEST,
            f"{field} holds an empty name",
            field=field,
            value=values,
            remedy="Give names separated by single commas.",
        )
    return parts


def parse_pairs(field: str, values: list[str]) -> dict[str, str]:
    """Return values by key from `KEY=VALUE` texts; raises `Refused` for other texts and for a key given twice."""
    properties: dict[str, str] = {}
    for value in values:
        key, separator, content = value.partition("=")
        if not separator or not key.strip() or key in properties:
            raise refused(
                Code.INVALID_REQUEST,
                f"{field.strip('-')} {key!r} is given twice" if key in properties else f"{value!r} is not KEY=VALUE",
                field=field,
                value=value,
                remedy=f"Give each {field.strip('-')} once, as {field} KEY=VALUE.",
            )
        properties[key] = content
    return properties


def _schema(message: str, text: str) -> Exception:
    return refused(
        Code.INVALID_REQUEST,
        message,
        field="--schema",
        value=text[:200],
        remedy='Give a list of columns such as [{"name": "id", "type": "long", "nullable": false}].',
    )
