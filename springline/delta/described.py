"""Descriptions of a table from its stored protocol, metadata and log files, as far as they can be read, for people.

A log may be any writer's; a reader of a table with odd metadata gets the problems and the rest of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict

from springline.bounds import on_one_line, problem_in_json
from springline.errors import Refused
from springline.keys import check_key

_UNTIL = "engines may refuse the table until a commit brings a good one"


@dataclass(slots=True)
class Described:
    """A table's schema, partition columns, properties and protocol; what cannot be read is left out.

    `problems` says for each odd or left-out part what is wrong with it and what to do.
    """

    columns: dict[str, Any] | None = None
    partition_columns: list[str] = field(default_factory=list)
    properties: dict[str, str] = field(default_factory=dict)
    protocol: dict[str, Any] | None = None
    problems: list[str] = field(default_factory=list)


def described(metadata: Mapping[str, Any] | None, protocol: Mapping[str, Any] | None) -> Described:
    """Read the bodies of the `metaData` and `protocol` actions in force; None where the log has none."""
    found = Described()
    stored = dict(metadata or {})
    found.columns = _schema(stored.get("schemaString"), found.problems) if "schemaString" in stored else None
    columns = stored.get("partitionColumns")
    if isinstance(columns, list | tuple) and all(isinstance(one, str) for one in columns):
        found.partition_columns = list(columns)
    elif columns is not None:
        found.problems.append(_odd("metaData.partitionColumns", columns, "a list of texts"))
    properties = stored.get("configuration")
    if isinstance(properties, dict):
        found.properties = {key: value for key, value in properties.items() if isinstance(value, str)}
        found.problems += [
            _odd(f"metaData.configuration[{on_one_line(key, 100)!r}]", value, "a text")
            for key, value in properties.items()
            if not isinstance(value, str | None)
        ]
    elif properties is not None:
        found.problems.append(_odd("metaData.configuration", properties, "an object of texts"))
    if protocol is not None:
        deep = problem_in_json(dict(protocol))
        if deep is None:
            found.protocol = dict(protocol)
        else:
            found.problems.append(f"protocol {deep.text}; {_UNTIL}")
    return found


def _schema(text: Any, problems: list[str]) -> dict[str, Any] | None:
    try:
        schema = orjson.loads(text) if isinstance(text, str) else None
    except orjson.JSONDecodeError:
        schema = None
    if not isinstance(schema, dict):
        problems.append(_odd("metaData.schemaString", text, "a struct type as JSON"))
        return None
    deep = problem_in_json(schema)
    if deep is not None:
        problems.append(f"metaData.schemaString {deep.text}; {_UNTIL}")
        return None
    return schema


def _odd(where: str, value: Any, wanted: str) -> str:
    kind = type(value).__name__ if not isinstance(value, str | bool | int | float) else on_one_line(repr(value), 100)
    return f"{where} is {kind} and not {wanted}; {_UNTIL}"


_BY_OUR_CLIENT = ("delete", "update", "merge", "optimize")


class HistoryRow(BaseModel):
    """One version of a table. Fields that its writer did not set are None.

    `rows_added` and `rows_removed` count the rows of files that were added and removed as a change of data, by the
    files' statistics and without rows that a deletion vector hides; compaction, which moves rows, counts none. A
    deletion vector that hides one row more is a file removed and added again, with one row less. None: a file has no
    count. `keys` are the idempotency keys of the commits in it: several where appends shared the version.
    `readable` is False for a log file that cannot be read as one; everything else is empty then.
    """

    model_config = ConfigDict(frozen=True)

    version: int
    timestamp_ms: int | None = None
    """The time of writing by its writer's clock, in milliseconds since 1970."""
    operation: str | None = None
    parameters: dict[str, Any] | None = None
    keys: tuple[str, ...] = ()
    files_added: int = 0
    files_removed: int = 0
    bytes_added: int = 0
    rows_added: int | None = 0
    rows_removed: int | None = 0
    engine: str | None = None
    readable: bool = True


def history_row(version: int, log: bytes) -> HistoryRow:
    """Return the row of `version`, given the bytes of its log file, which may be any writer's."""
    try:
        return _row(version, list(_actions(log)))
    except (ValueError, TypeError):
        return HistoryRow(version=version, rows_added=None, rows_removed=None, readable=False)


def _actions(log: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    for line in log.split(b"\n"):
        if line.strip():
            action = orjson.loads(line)
            if not isinstance(action, dict):
                raise TypeError("a line of a log is an object")
            for name, body in action.items():
                if isinstance(body, dict):
                    yield name, body


def _row(version: int, actions: list[tuple[str, dict[str, Any]]]) -> HistoryRow:
    info = next((body for name, body in actions if name == "commitInfo"), {})
    added = [body for name, body in actions if name == "add"]
    removed = [body for name, body in actions if name == "remove"]
    parameters = info.get("operationParameters")
    return HistoryRow(
        version=version,
        timestamp_ms=_whole(info.get("inCommitTimestamp")) or _whole(info.get("timestamp")),
        operation=_operation(info),
        parameters=parameters if isinstance(parameters, dict) else None,
        keys=tuple(dict.fromkeys(_keys(info, actions))),
        files_added=len(added),
        files_removed=len(removed),
        bytes_added=sum(_whole(one.get("size")) or 0 for one in added),
        rows_added=_rows(added),
        rows_removed=_rows(removed),
        engine=_text(info.get("engineInfo")),
    )


def _operation(info: dict[str, Any]) -> str | None:
    """Return the operation's name; delta-rs names some of our client's operations WRITE, so our own name counts."""
    said, ours = _text(info.get("operation")), info.get("springline")
    request = ours.get("request") if isinstance(ours, dict) else None
    asked = request.get("operation") if isinstance(request, dict) else None
    return str(asked).upper() if said == "WRITE" and asked in _BY_OUR_CLIENT else said


def _keys(info: dict[str, Any], actions: list[tuple[str, dict[str, Any]]]) -> Iterator[str]:
    """Yield the keys that a log file names: of a round's members, of a single commit, and of `txn` actions.

    The creation of a table carries the table's id where a commit carries its key.
    """
    ours = info.get("springline")
    members = ours.get("members") if isinstance(ours, dict) else None
    named = [one.get("key") for one in members if isinstance(one, dict)] if isinstance(members, list) else []
    tables = {body.get("id") for name, body in actions if name == "metaData"}
    single = info.get("txnId")
    if not named and single not in tables:
        named = [single]
    named += [body.get("appId") for name, body in actions if name == "txn"]
    for key in named:
        try:
            yield check_key(key)
        except Refused:
            continue


def _rows(files: list[dict[str, Any]]) -> int | None:
    total = 0
    for file in files:
        if file.get("dataChange") is False:
            continue
        rows = _rows_of(file)
        if rows is None:
            return None
        total += rows
    return total


def _rows_of(file: dict[str, Any]) -> int | None:
    text = file.get("stats")
    try:
        stats = orjson.loads(text) if isinstance(text, str) else None
    except orjson.JSONDecodeError:
        return None
    rows = _whole(stats.get("numRecords")) if isinstance(stats, dict) else None
    vector = file.get("deletionVector")
    hidden = _whole(vector.get("cardinality")) if isinstance(vector, dict) else 0
    return None if rows is None or hidden is None else max(0, rows - hidden)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
