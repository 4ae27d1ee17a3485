"""The models that cross the Temporal wire between workflows and the activities of tables and of the worker itself.

Fields are only ever added, with defaults: histories of running workflows hold them. Operators write `TableStart` and
`CheckpointStart` by hand in the Temporal CLI.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, model_validator

from springline.delta.messages import TableRef
from springline.delta.table_request import AdoptTable, CreateTable


class Message(BaseModel):
    """Base of all messages: immutable, ignores unknown fields of a newer writer."""

    model_config = ConfigDict(frozen=True)


class TableKind(StrEnum):
    """The way in which a table is registered."""

    CREATE = "create"
    ADOPT = "adopt"


class TableStart(Message):
    """Input of CreateTableWorkflow: the workspace, and the one request that `kind` names."""

    tenant: str
    workspace: str
    kind: TableKind = TableKind.CREATE
    create: CreateTable | None = None
    adopt: AdoptTable | None = None

    @model_validator(mode="after")
    def _one_request(self) -> TableStart:
        given = {name for name in ("create", "adopt") if getattr(self, name) is not None}
        if given != {self.kind.value}:
            raise ValueError(f"kind is {self.kind.value!r}: give {self.kind.value!r} and nothing else")
        return self

    @property
    def name(self) -> str:
        """Return the name the table is to have."""
        spec = self.create or self.adopt
        assert spec is not None
        return spec.name


class TableOrder(Message):
    """Input of `create_table` and `adopt_table`: id and time come from the workflow, so retries repeat them.

    `now_ms` in milliseconds since 1970.
    """

    start: TableStart
    table_id: str
    now_ms: int


class CheckpointStart(Message):
    """Input of CheckpointWorkflow. `version` is the one that made a checkpoint due; the latest one gets it."""

    table: TableRef
    version: int = 0
    table_name: str | None = None
    """The table's name for people; no logic depends on it."""


class Probed(Message):
    """A worker's answer to a probe: the id of its store, its build, its identity in Temporal, and how it folds.

    `fold_fingerprint` is that of a `FoldConfig`, empty from a worker of an older build.
    """

    store_id: str
    build_id: str
    identity: str
    fold_fingerprint: str = ""
    retention_days: int | None = None
