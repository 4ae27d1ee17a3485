"""Delete, update, merge and optimize: done by delta-rs on the table itself, exactly once under a key.

The commit of an operation has its key as a `txn` of the application `springline:{key}`. Two commits with the same key
cannot both be in a log. Assume that they are at versions a < b. The second was computed from a snapshot r < b that this
module had searched for that `txn`, and it went on only because the snapshot lacked it: so a > r, because snapshots and
checkpoints keep every `txn` (tables that let them expire are refused). Before delta-rs writes b, create-only, it reads
each log file after r, and refuses to commit behind one with the same application (delta-rs, conflict_checker.rs; it
does so for blind appends and after every lost race, too, and fails if one of those files is gone). A write whose answer
was lost, or that arrives late, is create-only for its own version, so it changes nothing in this argument. delta-rs's
own optimize leaves out the `txn`, so `springline.client.compaction` commits in another way: `Commit.replace` gives
delta-rs no version to move behind, and searches for the `txn` itself in each newer snapshot.

Then the client claims the version: the API writes the marker that answers the key for ever (`springline.commit.claim`).
A process that dies in between leaves a version without a marker; a repeated call finds the `txn` in the table, then the
version in the log. An operation that changed nothing commits its `txn` alone if the caller gave the key, so that a
repeated call does not change rows that came later.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import orjson
import pyarrow as pa
import uuid_utils
from pydantic import BaseModel, ConfigDict

from springline.client.comparing import quoted
from springline.client.expressions import (
    Expression,
    Planner,
    column_of,
    engine_condition,
    every_row,
    expression_refusal,
    failing,
    literal,
    raise_unless_panic,
)
from springline.client.http import Unavailable
from springline.client.partition_rules import problem_of, told_refusal
from springline.client.partitions import matching, values_of_files
from springline.client.plain import plain
from springline.client.reading import TARGET, Reached, operation_metrics
from springline.client.scratch import check_settings, rewriting_properties
from springline.delta.features import declared, require_supported, writer_duties
from springline.delta.identity import TXN_VERSION, txn_app_id
from springline.errors import Code, Refused, refused
from springline.keys import idempotency_key, key_has_time

if TYPE_CHECKING:
    from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties

ATTEMPTS = 12
"""How often an operation is tried again from a newer snapshot, after a conflicting commit or an unclear answer."""
FIRST_WAIT_S = 0.05
LONGEST_WAIT_S = 2.0
COMMIT_RETRIES = 100
"""How often delta-rs moves a commit behind versions that do not conflict with it."""
SEARCHED_VERSIONS = 10_000
"""How many versions are searched, newest first, for the one that has a key."""
READ_TOGETHER = 64
CLOCK_SKEW_MS = 24 * 60 * 60 * 1000

_RETENTION = "delta.setTransactionRetentionDuration"
_UNWRITABLE = frozenset({"deletionVectors", "typeWidening", "typeWidening-preview", "v2Checkpoint", "rowTracking"})
"""Table features with which we have not proven that delta-rs rewrites files correctly."""


class ChangeResult(BaseModel):
    """The result of an operation. The same key gets the same `version` for ever.

    `changed` is False if the table had nothing to change; `version` is then the one that was read, or the
    one that records the key. `metrics` are delta-rs's own, such as `num_deleted_rows`; empty if they are no longer
    known. `replayed`: an earlier call had done it.
    """

    model_config = ConfigDict(frozen=True)

    version: int
    changed: bool = True
    metrics: dict[str, Any] = {}
    replayed: bool = False


Metrics = dict[str, Any]


class Commit:
    """The identity in an operation's commit: its key as a `txn`, and the request."""

    def __init__(self, key: str, operation: str, fingerprint: str, task: Mapping[str, str] | None = None) -> None:
        self.key = key
        self._task = {} if task is None else {"task": dict(task)}
        self._request = {"operation": operation, "fingerprint": fingerprint}

    def properties(
        self, metrics: Metrics | None = None, *, changed: bool = True, retries: int = COMMIT_RETRIES
    ) -> CommitProperties:
        """Return the properties of a commit; `metrics` if delta-rs itself counts none."""
        from deltalake import CommitProperties, Transaction  # noqa: PLC0415

        request = self._request if changed else self._request | {"changed": False}
        metadata: dict[str, Any] = {"txnId": self.key, "springline": {"request": request, **self._task}}
        if metrics is not None:
            metadata["operationMetrics"] = metrics
        return CommitProperties(
            custom_metadata=metadata,
            max_commit_retries=retries,
            app_transactions=[Transaction(txn_app_id(self.key), TXN_VERSION, int(time.time() * 1000))],
        )

    @property
    def after(self) -> PostCommitHookProperties:
        """Return what delta-rs does after a commit: it writes checkpoints as the table's properties say.

        It removes no log files; no other code of ours does either.
        """
        from deltalake import PostCommitHookProperties  # noqa: PLC0415

        return PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)

    def replace(self, table: DeltaTable, replacement: Callable[[], tuple[list[Any], Metrics]]) -> Metrics:
        """Commit the `add` and `remove` actions that `replacement` returns, and return its metrics.

        It is asked again for each newer version that others commit meanwhile, to which `table` is then moved: delta-rs
        overlooks that another commit has removed a file without changing rows, so that the rows of two optimizes would
        both stay. Raises `CommitFailedError` if the other versions changed more than rows, or have this key.
        """
        from deltalake.exceptions import CommitFailedError  # noqa: PLC0415

        laid_out = _layout_of(table)
        for _ in range(COMMIT_RETRIES):
            actions, metrics = replacement()
            if not actions:
                return metrics
            try:
                self._write(table, actions, self.properties(metrics, retries=0))
            except CommitFailedError:
                before = table.version()
                table.update_incremental()
                done = table.transaction_version(txn_app_id(self.key)) is not None
                if done or table.version() == before or _layout_of(table) != laid_out:
                    raise
            else:
                return metrics
        raise CommitFailedError(f"{COMMIT_RETRIES} other commits came first")

    def note(self, table: DeltaTable, metrics: Metrics) -> None:
        """Commit that nothing was to change, behind all other versions."""
        self._write(table, [], self.properties(metrics, changed=False))

    def _write(self, table: DeltaTable, actions: list[Any], properties: CommitProperties) -> None:
        table.create_write_transaction(
            actions,
            mode="append",
            schema=table.schema(),
            partition_by=table.metadata().partition_columns,
            commit_properties=properties,
            post_commithook_properties=self.after,
        )
        table.update_incremental()


def _layout_of(table: DeltaTable) -> list[Any]:
    """Return what a table's metadata and protocol say."""
    metadata = table.metadata()
    return [protocol_of(table), table.schema().to_json(), metadata.partition_columns, metadata.configuration]


@dataclass(frozen=True, slots=True)
class TableOperation:
    """An operation: its name, the arguments that identify it, and functions that check and run it.

    `check` raises `Refused` if the operation is not possible on the table; `run` does it and returns the metrics.
    `changes_rows`: whether an append-only table forbids it.
    """

    operation: str
    arguments: Mapping[str, Any]
    check: Callable[[DeltaTable, pa.Schema], None]
    run: Callable[[DeltaTable, Commit], Metrics]
    changes_rows: bool = True
    field: str = "where"
    writes_no_rows: Callable[[DeltaTable, pa.Schema], bool] = lambda _table, _schema: False
    """Whether delta-rs writes no partition value: then the table's partition types do not matter."""
    blamed: Callable[[DeltaTable, pa.Schema, BaseException], Refused | None] = lambda _table, _schema, _error: None
    """Return the refusal that names the column and value that made `run` fail; None if unknown."""

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of operation and arguments in canonical form."""
        known = {"operation": self.operation, "arguments": self.arguments}
        try:
            text = orjson.dumps(known, option=orjson.OPT_SORT_KEYS)
        except TypeError as error:
            raise refused(
                Code.INVALID_REQUEST,
                f"{self.operation} has an argument that is no text: {error}",
                field=self.field,
                value=repr(self.arguments.get(self.field))[:200],
                remedy="Give conditions and expressions as texts of SQL, in whole characters.",
            ) from error
        return hashlib.sha256(text).hexdigest()


def delete(where: str) -> TableOperation:
    """Return the operation that deletes the rows for which `where` is true.

    If a condition needs partition values only, delta-rs removes every file that it cannot rule out,
    so that `id = null` deletes all rows. So this module decides conditions over partition columns itself, file by file,
    and makes all others depend on a column of the rows (`every_row`).
    """

    judged: list[Expression] = []

    def check(table: DeltaTable, schema: pa.Schema) -> None:
        judged[:] = [Planner({TARGET: table}, {TARGET: schema}).predicate(where, field="where")]

    def whole_files(table: DeltaTable, _schema: pa.Schema) -> bool:
        return judged[0].is_about(table.metadata().partition_columns)

    def run(table: DeltaTable, commit: Commit) -> Metrics:
        schema = pa.schema(table.schema().to_arrow())
        if whole_files(table, schema):
            return _remove_files(table, where, commit)
        by = table.metadata().partition_columns
        return table.delete(
            f"({engine_condition(judged[0], schema, by)}) AND {every_row(schema, by)}",
            writer_properties=rewriting_properties(table, schema, {}),
            commit_properties=commit.properties(),
            post_commithook_properties=commit.after,
        )

    return TableOperation("delete", {"where": where}, check, run, writes_no_rows=whole_files)


def _remove_files(table: DeltaTable, where: str, commit: Commit) -> Metrics:
    """Delete the files whose partition values `where` is true for."""
    from deltalake.transaction import RemoveAction  # noqa: PLC0415

    by = table.metadata().partition_columns

    def removal() -> tuple[list[Any], Metrics]:
        files = pa.table(table.get_add_actions())
        values = pa.table([plain(column.combine_chunks(), name) for name, column in _partitions(files, by)], names=by)
        told = zip(files.to_pylist(), values_of_files(files, by), matching(where, by, values), strict=True)
        chosen = [(file, kept) for file, kept, hit in told if hit]
        counts = [file.get("num_records") for file, _ in chosen]
        metrics: Metrics = {"num_added_files": 0, "num_removed_files": len(chosen), "num_copied_rows": 0}
        if None not in counts:
            metrics["num_deleted_rows"] = sum(counts)
        now_ms = int(time.time() * 1000)
        return [
            RemoveAction(unquote(file["path"]), True, now_ms, file["size_bytes"], kept) for file, kept in chosen
        ], metrics

    return commit.replace(table, removal)


def _partitions(files: pa.Table, by: Sequence[str]) -> Iterator[tuple[str, pa.ChunkedArray]]:
    column = files.column("partition")
    for name in by:
        yield name, pa.chunked_array([chunk.field(name) for chunk in column.chunks], column.type.field(name).type)


def update(set_: Mapping[str, str], values: Mapping[str, Any], where: str | None) -> TableOperation:
    """Return the operation that gives columns new values, from SQL expressions and Python values."""
    for argument, given_ in (("set", set_), ("values", values)):
        if not isinstance(given_, Mapping):
            raise refused(
                Code.INVALID_REQUEST,
                f"{argument} is a {type(given_).__name__}, not a mapping of columns",
                field=argument,
                value=repr(given_)[:200],
                remedy="Give each column once: set={'x': 'x + 1'} as SQL, or values={'x': 5} as a value.",
            )
    both = sorted(set(set_) & set(values))
    if both or not (set_ or values):
        raise refused(
            Code.INVALID_REQUEST,
            f"column {both[0]!r} is given in set and in values" if both else "no column is given a new value",
            field="set",
            value=both[:1],
            remedy="Give each column once: set={'x': 'x + 1'} as SQL, or values={'x': 5} as a value.",
        )
    expressions: dict[str, str] = {}
    judged: list[Expression] = []

    def check(table: DeltaTable, schema: pa.Schema) -> None:
        planner = Planner({TARGET: table}, {TARGET: schema})
        judged[:] = [] if where is None else [planner.predicate(where, field="where")]
        partitions = table.metadata().partition_columns
        expressions.clear()
        for name, text in set_.items():
            column = column_of(schema, name, field="set")
            expressions[quoted(name)] = planner.assignment(
                text, column, field=f"set.{name}", partitions=name in partitions
            )
        for name, value in values.items():
            column = column_of(schema, name, field="values")
            expressions[quoted(name)] = literal(value, column, field=f"values.{name}", partitions=name in partitions)

    def run(table: DeltaTable, commit: Commit) -> Metrics:
        schema = pa.schema(table.schema().to_arrow())
        by = table.metadata().partition_columns
        known = {name: _known(value, schema, name) for name, value in values.items()}
        return table.update(
            updates=expressions,
            predicate=engine_condition(judged[0], schema, by) if judged else None,
            writer_properties=rewriting_properties(table, schema, dict.fromkeys(set_) | known),
            commit_properties=commit.properties(),
            post_commithook_properties=commit.after,
        )

    def blamed(table: DeltaTable, schema: pa.Schema, _error: BaseException) -> Refused | None:
        assigned = {name: (text, expressions[quoted(name)]) for name, text in set_.items()}
        return failing(table, assigned, judged[0].sql if judged else None, schema)

    given = {name: _canonical_value(value) for name, value in values.items()}
    arguments = {"set": dict(set_), "values": given, "where": where}
    return TableOperation("update", arguments, check, run, field="set", blamed=blamed)


def _known(value: Any, schema: pa.Schema, name: str) -> pa.ChunkedArray | None:
    try:
        return pa.chunked_array([[value]], schema.field(name).type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None


def _canonical_value(value: Any) -> list[str]:
    return [type(value).__name__, repr(value)]


class Changer:
    """Does operations to one table, each exactly once under its key."""

    def __init__(self, reached: Reached) -> None:
        self._reached = reached

    def do(self, change: TableOperation, key: str | None) -> ChangeResult:
        """Do `change`, or return its result if it was done before.

        Raises `Refused`: KEY_REUSED for the key of another request, before anything is done; CONCURRENT_CHANGE if other
        commits conflicted too often; VERSION_UNKNOWN if it is done and its version cannot be found; the refusals of
        `check`. Raises `Unavailable` if the outcome is unclear: repeat it under the same key.
        """
        return _Doing(self._reached, change, key).result()

    def check(self, change: TableOperation) -> None:
        """Raise the refusal of a change that the table, as it is now, does not allow."""
        table = self._reached.delta_table()
        schema = pa.schema(table.schema().to_arrow())
        _require_writable(table, self._reached.name, change)
        change.check(table, schema)
        _require_partitions(table, schema, change)


@dataclass(slots=True)
class _Doing:
    reached: Reached
    change: TableOperation
    given: str | None
    key: str = field(init=False)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        self.key = str(uuid_utils.uuid7()) if self.given is None else idempotency_key(self.given)
        self.fingerprint = self.change.fingerprint

    def result(self) -> ChangeResult:
        if self.given is not None:
            answered = self._answered()
            if answered is not None:
                return answered
        wait = FIRST_WAIT_S
        problem: BaseException | None = None
        for _ in range(ATTEMPTS):
            table = self.reached.delta_table()
            if table.transaction_version(txn_app_id(self.key)) is not None:
                return self._found(table)
            schema = pa.schema(table.schema().to_arrow())
            _require_writable(table, self.reached.name, self.change)
            self.change.check(table, schema)
            _require_partitions(table, schema, self.change)
            done = self._try(table, schema)
            if isinstance(done, ChangeResult):
                return done
            problem = done
            time.sleep(random.uniform(wait / 2, wait))
            wait = min(wait * 2, LONGEST_WAIT_S)
        table = self.reached.delta_table()
        if table.transaction_version(txn_app_id(self.key)) is not None:
            return self._found(table)
        if isinstance(problem, OSError):
            raise Unavailable(
                f"the store gave no answer in {ATTEMPTS} tries, so that nobody knows what became of "
                f"{self.change.operation}; repeat it with key={self.given or self.key!r}; last: {problem}"
            )
        raise Refused(
            refused(
                Code.CONCURRENT_CHANGE,
                f"{self.change.operation} lost against other commits {ATTEMPTS} times; the last time: {problem}",
                field="table",
                value=self.reached.name,
                remedy="Nothing was changed. Repeat it under the same key when fewer others write to these rows.",
            ).refusal.model_copy(update={"latest_version": table.version()})
        )

    def _answered(self) -> ChangeResult | None:
        """Return the answer in the key's marker, None if there is no marker."""
        url = f"/api/v1/delta/tables/{self.reached.name}/commits/{self.key}"
        try:
            view = self.reached.api.call("GET", url)
        except Refused as error:
            if error.refusal.code is Code.KEY_NOT_FOUND:
                return None
            raise
        if view["fate"] != "committed" or view.get("fingerprint") != self._request:
            raise refused(
                Code.KEY_REUSED,
                f"key {self.given!r} belongs to another request, which is {view['fate']} as version {view['version']}",
                field="key",
                value=self.given,
                remedy="Repeat exactly the operation that was first sent under this key, or use a new key.",
            )
        return self._replayed(view["version"])

    @property
    def _request(self) -> str:
        return f"{self.change.operation}:{self.fingerprint}"

    def _try(self, table: DeltaTable, schema: pa.Schema) -> ChangeResult | BaseException:
        """Do it once, from this snapshot; return the error if it has to be tried again."""
        from deltalake.exceptions import CommitFailedError, DeltaError, DeltaProtocolError  # noqa: PLC0415

        before = table.version()
        try:
            commit = Commit(self.key, self.change.operation, self.fingerprint, self.reached.task)
            metrics = self.change.run(table, commit)
            if table.version() == before or table.transaction_version(txn_app_id(self.key)) is None:
                if self.given is None:
                    return ChangeResult(version=table.version(), changed=False, metrics=metrics)
                commit.note(table, metrics)
        except CommitFailedError as error:
            # A conflict, or our own commit whose answer was lost: the next snapshot shows which.
            return error
        except OSError as error:
            return error
        except BaseException as error:
            if not isinstance(error, DeltaError | DeltaProtocolError | ValueError) and type(error) is not Exception:
                raise_unless_panic(error)
            self._raise_unless_done(error, table, schema)
            return error
        return self._found(table, metrics)

    def _raise_unless_done(self, error: BaseException, table: DeltaTable, schema: pa.Schema) -> None:
        """Raise the library's error as a refusal, unless the commit exists: then a step after the commit failed."""
        if self.reached.delta_table().transaction_version(txn_app_id(self.key)) is not None:
            return
        if "multiple source rows" in str(error):
            raise refused(
                Code.INVALID_REQUEST,
                "source holds several rows for one row of the table, and a clause takes more than one of them",
                field="source",
                remedy="Leave one source row for each row of the table, or give the clauses conditions that tell.",
            ) from error
        if "failed validation check" in str(error):
            names = [one.name for one in schema if not one.nullable]
            raise refused(
                Code.INVALID_REQUEST,
                f"{self.change.operation} would leave null in a column that may hold none: {', '.join(names)}",
                field=self.change.field,
                value=names,
                remedy="Give these columns values in every row that is written.",
            ) from error
        field = self.change.field
        partitions = table.metadata().partition_columns
        blamed = told_refusal(error, schema, partitions, field=field) or self.change.blamed(table, schema, error)
        if blamed is not None:
            raise blamed from error
        told = expression_refusal(
            error,
            str(self.change.arguments.get(field)),
            field=field,
            columns={self.reached.name: schema},
            fallback="cannot be done",
        )
        raise told from error

    def _claimed(self, version: int, *, changed: bool, metrics: Metrics, replayed: bool = False) -> ChangeResult:
        body = {
            "idempotency_key": self.key,
            "version": version,
            "operation": self.change.operation,
            "fingerprint": self.fingerprint,
        }
        answer = self.reached.api.call("POST", f"/api/v1/delta/tables/{self.reached.name}/commits/claim", body=body)
        return ChangeResult(version=answer["version"], changed=changed, metrics=metrics, replayed=replayed)

    def _found(self, table: DeltaTable, metrics: Metrics | None = None) -> ChangeResult:
        """Claim the version whose log file has the key, which the table has; `metrics` if this call committed it."""
        version = self._search(table)
        if version is None:
            answered = self._answered()
            if answered is not None:
                return answered
            raise refused(
                Code.VERSION_UNKNOWN,
                f"key {self.given or self.key!r} is committed in this table, but none of the newest "
                f"{SEARCHED_VERSIONS} log files that are left holds it, so its version is not known",
                field="key",
                value=self.given or self.key,
                remedy="Do not repeat it under another key: what it changes is changed already.",
            )
        told, changed = operation_metrics(self.reached.logs([version])[0] or b"")
        if metrics is None:
            return self._claimed(version, changed=changed, metrics=told, replayed=True)
        return self._claimed(version, changed=changed, metrics=metrics)

    def _replayed(self, version: int) -> ChangeResult:
        log = self.reached.logs([version])[0] or b""
        metrics, changed = operation_metrics(log)
        return ChangeResult(version=version, changed=changed, metrics=metrics, replayed=True)

    def _search(self, table: DeltaTable) -> int | None:
        """Return the version whose log file has the key's `txn`, searching backwards from the snapshot."""
        wanted = orjson.dumps(txn_app_id(self.key))
        oldest_ms = int(self.key.replace("-", "")[:12], 16) - CLOCK_SKEW_MS if key_has_time(self.key) else None
        end, lowest, together = table.version(), table.version() - SEARCHED_VERSIONS, 1
        while end >= max(0, lowest):
            versions = list(range(end, max(-1, lowest, end - together), -1))
            for version, log in zip(versions, self.reached.logs(versions), strict=True):
                if log is None:
                    return None
                if any(wanted in line and b'"txn"' in line for line in log.split(b"\n")):
                    return version
                committed_ms = _committed_ms(log)
                if oldest_ms is not None and committed_ms is not None and committed_ms < oldest_ms:
                    return None
            end, together = versions[-1] - 1, READ_TOGETHER
        return None


def _committed_ms(log: bytes) -> int | None:
    for line in log.split(b"\n"):
        if b'"commitInfo"' in line:
            try:
                return int(orjson.loads(line)["commitInfo"]["timestamp"])
            except (ValueError, KeyError, TypeError):
                return None
    return None


def _require_writable(table: DeltaTable, name: str, change: TableOperation) -> None:
    """Raise `Refused` (UNSUPPORTED_FEATURE) for a table that delta-rs must not change, or that forbids it."""
    protocol, configuration = protocol_of(table), table.metadata().configuration
    metadata = {"configuration": configuration, "schemaString": table.schema().to_json()}
    require_supported(protocol, metadata, field="table")
    names = declared(protocol)
    duties = sorted({*writer_duties(protocol, metadata), *(names & _UNWRITABLE)})
    if _RETENTION in configuration:
        duties.append(_RETENTION)
    if duties:
        raise refused(
            Code.UNSUPPORTED_FEATURE,
            f"the table asks its writers for {', '.join(duties)}, with which {change.operation} is not done here",
            field="table",
            value=duties,
            remedy="Change this table with an engine that does, and commit its actions by commit().",
        )
    check_settings(configuration, name)
    if change.changes_rows and configuration.get("delta.appendOnly", "").strip().lower() == "true":
        raise refused(
            Code.UNSUPPORTED_FEATURE,
            f"the table is append-only (delta.appendOnly), which forbids {change.operation}",
            field="table",
            value="delta.appendOnly",
            remedy="Set delta.appendOnly to false first, if its rows may be changed.",
        )


def _require_partitions(table: DeltaTable, schema: pa.Schema, change: TableOperation) -> None:
    """Raise `Refused` for a table whose partition values delta-rs would write in a form that other readers misread.

    It leaves out the zone of a timestamp, which other engines then read in their own zone, has its own forms for
    infinities and large numbers, and writes -1.50 as -1.-50, with which nobody can open the table any more.
    """
    if change.writes_no_rows(table, schema):
        return
    by = table.metadata().partition_columns
    for name in by:
        kind = schema.field(name).type
        zoned = pa.types.is_timestamp(kind) and kind.tz is not None
        if zoned or pa.types.is_floating(kind) or (pa.types.is_decimal(kind) and _holds_misread(table, name, kind, by)):
            raise refused(
                Code.UNSUPPORTED_FEATURE,
                f"the table is partitioned by {name!r} of type {kind}, and {change.operation} would write its values "
                "in a form that other engines read as something else",
                field="table",
                value=name,
                remedy=f"Replace whole partitions: overwrite(data, where=...) or delete by {name!r} alone.",
            )


def _holds_misread(table: DeltaTable, name: str, kind: pa.DataType, by: Sequence[str]) -> bool:
    """Say whether a file has a partition value that delta-rs would write as another; other writers may have made it."""
    values = dict(_partitions(pa.table(table.get_add_actions()), by))[name].to_pylist()
    return any(value is not None and problem_of(value, kind, name) is not None for value in values)


def protocol_of(table: DeltaTable) -> dict[str, Any]:
    """Return the table's `protocol` action."""
    found = table.protocol()
    protocol: dict[str, Any] = {
        "minReaderVersion": found.min_reader_version,
        "minWriterVersion": found.min_writer_version,
    }
    if found.writer_features is not None:
        protocol["writerFeatures"] = list(found.writer_features)
    if found.reader_features is not None:
        protocol["readerFeatures"] = list(found.reader_features)
    return protocol
