"""The bodies of requests and answers; unknown fields of a request are refused."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictInt

from springline import bounds, paths
from springline.commit.inspect import InflightView
from springline.delta.described import HistoryRow
from springline.delta.messages import CommitMode
from springline.delta.table_request import TableEntry

_KEY = "01946b1c-0000-7000-8000-000000000001"
_TABLE = "01946b1c-0000-7000-8000-0000000000aa"
_STAGED = paths.delta_staged(_TABLE, "01JHMP8000000000000000000A")
_LOG = paths.delta_log(paths.new_table_root(_TABLE, paths.Scope("acme", "prod")), 7)
_ADD = (
    '{"add":{"path":"part-0001.parquet","partitionValues":{},"size":1024,'
    '"modificationTime":1736935200000,"dataChange":true}}\n'
)


Version = Annotated[StrictInt, Field(ge=0, le=bounds.MAX_VERSION), BeforeValidator(bounds.whole)]
ReadVersion = Annotated[StrictInt, Field(ge=-1, le=bounds.MAX_VERSION), BeforeValidator(bounds.whole)]
Key = Annotated[str, Field(max_length=bounds.MAX_KEY, json_schema_extra={"pattern": f"^{bounds.KEY_PATTERN}$"})]
StagedPath = Annotated[
    str,
    Field(
        max_length=bounds.MAX_STAGED_PATH,
        json_schema_extra=bounds.judged("One of this table. Both staged values are given, or the payload instead."),
    ),
]
StagedVersion = Annotated[
    str,
    Field(
        max_length=bounds.MAX_STAGED_VERSION,
        json_schema_extra=bounds.judged("One line of characters that can be printed; given together with staged_path."),
    ),
    AfterValidator(bounds.check_line),
]
Payload = Annotated[
    str,
    Field(
        max_length=bounds.MAX_BODY_BYTES,
        json_schema_extra=bounds.judged("Actions that the Delta protocol and this table admit, of at most 5 MiB."),
    ),
]


class StageBody(BaseModel):
    """A payload to be staged."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"payload": _ADD}]})

    payload: Payload = Field(description="Delta actions as newline-delimited JSON, one action per line.")
    idempotency_key: Key | None = Field(
        default=None,
        description="The key of the commit to come, if staging is to be repeatable: the same payload under the same "
        "key is staged once.",
    )


class StagedBody(BaseModel):
    """Where a payload was staged: what a commit names."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"staged_path": _STAGED, "staged_version": "1736935200000001"}]}
    )

    staged_path: str
    staged_version: str = Field(description="The store's version token of the staged object; opaque.")


class CommitBody(BaseModel):
    """A request to commit a payload: one that is staged, named by both values, or one that comes along."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "mode": "append",
                    "read_version": 6,
                    "staged_path": _STAGED,
                    "staged_version": "1736935200000001",
                    "idempotency_key": _KEY,
                },
                {"mode": "append", "read_version": 6, "payload": _ADD, "idempotency_key": _KEY},
            ]
        },
    )

    read_version: ReadVersion = Field(
        description="The version the payload was computed from; -1 for a table without versions."
    )
    staged_path: StagedPath | None = Field(default=None, description="As staging returned it.")
    staged_version: StagedVersion | None = Field(default=None, description="As staging returned it.")
    payload: Payload | None = Field(
        default=None,
        description="Instead of both: Delta actions as newline-delimited JSON, which are staged and committed.",
    )
    mode: CommitMode = Field(
        default=CommitMode.STRICT,
        json_schema_extra=bounds.judged("append is for payloads of add, txn and commitInfo actions alone."),
        description="strict: version read_version + 1 or a conflict. append: a blind append, any version will do.",
    )
    idempotency_key: Key | None = Field(
        default=None, description="Canonical lower-case UUIDv7; here or in the header Idempotency-Key, or in both."
    )


class ClaimBody(BaseModel):
    """A version that its caller committed on the table itself, with the key as a `txn`, and what the request was."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"idempotency_key": _KEY, "version": 7, "operation": "delete", "fingerprint": "5e" * 32},
            ]
        },
    )

    version: Annotated[
        Version, Field(json_schema_extra=bounds.judged("One that holds the commit of this key and request."))
    ]
    operation: str = Field(
        max_length=32, pattern=r"^[a-z0-9_]{1,32}$", description="As in commitInfo.springline.request."
    )
    fingerprint: str = Field(
        max_length=64, pattern=r"^[0-9a-f]{64}$", description="As in commitInfo.springline.request."
    )
    idempotency_key: Key | None = Field(
        default=None, description="Canonical lower-case UUIDv7; here or in the header Idempotency-Key, or in both."
    )


class CommittedBody(BaseModel):
    """Where a request was committed; the same key gets the same answer for ever."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"version": 7, "delta_log_path": _LOG}]})

    version: int
    delta_log_path: str = Field(
        description="The log file in the workspace; one that begins with a slash is the file's path in the store."
    )


class TableStatusBody(BaseModel):
    """A table as it is stored, and what its sequencer is doing."""

    table: TableEntry
    location: str = Field(description="The URL that Delta readers open the table by.")
    latest_version: int
    coordinator_version: int | None = Field(
        description="What the coordinator says; behind latest_version while a commit is under way."
    )
    inflight: InflightView | None = Field(description="The version that is reserved and not yet finalized.")
    last_checkpoint: int | None
    columns: dict[str, Any] | None = Field(description="The table's schema, as Delta's struct type.")
    partition_columns: list[str]
    properties: dict[str, str]
    protocol: dict[str, Any] | None
    metadata: dict[str, Any] | None = Field(description="The table's `metaData` action as it is stored.")
    problems: list[str] = Field(
        default=[], description="What is odd about the stored metadata or protocol; what cannot be read is left out."
    )
    sequencer: dict[str, Any] | None = Field(
        description="Phase and counts of the table's workflow; null while it rests or cannot be asked."
    )


class TableBody(BaseModel):
    """A table that is registered."""

    table: TableEntry
    location: str = Field(description="The URL that Delta readers open the table by.")


class ListedTable(BaseModel):
    """A table in a list."""

    table_id: str
    name: str | None = Field(description="The name it is found by; null if another table has that name.")
    location: str = Field(description="The URL that Delta readers open the table by.")
    created_at_ms: int = Field(description="When it was registered, in milliseconds since 1970.")


class DamagedEntry(BaseModel):
    """An object of the table registry that says nothing of a table."""

    object: str = Field(description="Its path in the workspace.")
    problem: str


class TablesBody(BaseModel):
    """One page of the workspace's tables, in the order of their ids, which is that of their creation."""

    items: list[ListedTable]
    damaged: list[DamagedEntry] = Field(description="Registry entries that cannot be read; call an operator.")
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last one.")


class HistoryBody(BaseModel):
    """One page of a table's versions, newest first. Those whose log files clean-up has removed are left out."""

    items: list[HistoryRow]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last one.")


class ReadyBody(BaseModel):
    """Whether this process can do its work now."""

    ready: bool


class ReadinessBody(ReadyBody):
    """Whether this process can do its work now, and what stands in the way."""

    checks: dict[str, str] = Field(description="By name: `ok`, or what is wrong.")
    warnings: dict[str, str] = Field(
        default={}, description="What is wrong somewhere, though this process can work: by name, as in `checks`."
    )


class VersionBody(BaseModel):
    """What is running."""

    name: str
    version: str
    api: str
    store_id: str | None = Field(default=None, description="Which store it works with; null if that cannot be told.")
