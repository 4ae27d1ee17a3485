"""The models that cross the Temporal wire between workflows and the activities of commits and of tables.

Fields are only ever added, with defaults: running histories hold these. Operators write `TableStart` and
`CheckpointStart` by hand in the Temporal CLI.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from springline.delta.request import CommitRequest, Outcome
from springline.delta.table_request import AdoptTable, CreateTable


class Message(BaseModel):
    """Base of all messages: immutable, unknown fields of a newer writer are passed over."""

    model_config = ConfigDict(frozen=True)


class TableRef(Message):
    """A table and the workspace it lives in."""

    tenant: str
    workspace: str
    table_id: str


class FinishedRound(Message):
    """A round whose answers are out and whose reservation is still in the coordinator."""

    commit_id: str
    identity: str
    version: int
    coordinator_version: str | None = None


class RoundOrder(Message):
    """Input of `reserve` and `finalize_and_reserve`: ids and time come from the workflow, so retries repeat them."""

    table: TableRef
    round_id: str
    now_ms: int
    requests: list[CommitRequest]
    finished: FinishedRound | None = None


class SettledReservation(Message):
    """A reservation somebody else had left in flight, and what became of it."""

    kind: Literal["completed", "abandoned", "released", "void"]
    commit_id: str
    version: int
    members: int


class Reservation(Message):
    """The version that was reserved and for which keys, in the round's order."""

    commit_id: str
    identity: str
    version: int
    coordinator_version: str | None
    keys: list[str]
    resumed: bool = False


class RoundResult(Message):
    """Result of `reserve`: immediate answers, the reservation, and the keys that wait for a later round."""

    outcomes: list[Outcome] = []
    deferred: list[str] = []
    reservation: Reservation | None = None
    redo: bool = False
    settled: list[SettledReservation] = []
    throttled: int = 0
    paced: bool = False
    """Whether the store is known to take about one write a second to one name."""
    checkpoint_interval: int | None = None
    """Versions between checkpoints as the table's own properties want it; None: they do not say."""
    attempt: int = 1


class CommitStep(Message):
    """Input of `write_log`, `write_marker` and `finalize`: which reservation, by id and version."""

    table: TableRef
    commit_id: str
    identity: str
    version: int
    coordinator_version: str | None = None


class LogOutcome(Message):
    """Result of `write_log`; an append may have moved to a later version than was reserved."""

    kind: Literal["logged", "void", "abandoned", "released", "superseded"]
    version: int
    coordinator_version: str | None = None
    attempt: int = 1


class MarkerOutcome(Message):
    """Result of `write_marker`. `superseded`: somebody else completed the reservation; ask the markers."""

    kind: Literal["written", "superseded"]
    delta_log_path: str = ""
    members: Annotated[int, Field(ge=0)] = 0
    attempt: int = 1


class FinalizeOutcome(Message):
    """Result of `finalize`; `paced` as in `RoundResult`."""

    throttled: int = 0
    paced: bool = False
    attempt: int = 1


class TableKind(StrEnum):
    """How a table comes to be registered."""

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
    """What people call the table; it is shown, and nothing depends on it."""


class Probed(Message):
    """What a worker says of itself: the id of its store, its build, and under which name Temporal knows it."""

    store_id: str
    build_id: str
    identity: str
