"""The deployed manifest: all definitions of a workspace in one document (docs/formats.md#deployed-manifest).

`CodeLocation` is what is deployed, `DeployedManifest` what is stored. Both are strict where they are written: unknown
fields are refused. Readers pass unknown fields over (`read_model`), so that a newer build may add some.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, StrictInt, model_validator

from springline import bounds
from springline.definitions.cron import MAX_LINE
from springline.definitions.instants import MAX_INTERVAL_S
from springline.definitions.limits import (
    DEFAULT_CATCHUP_MINUTES,
    DEFAULT_CATCHUP_TICKS,
    DEFAULT_SENSOR_INTERVAL_S,
    DEFAULT_SENSOR_TIMEOUT_S,
    MAX_ACTIVE_RUNS_OF_SCHEDULE,
    MAX_ASSETS,
    MAX_CATCHUP_MINUTES,
    MAX_CATCHUP_TICKS,
    MAX_JITTER_S,
    MAX_POOLS,
    MAX_PREFIX,
    MAX_SCHEDULES,
    MAX_SELECT,
    MAX_SENSOR_INTERVAL_S,
    MAX_SENSOR_TIMEOUT_S,
    MAX_SENSORS,
    MAX_SLOTS,
    MAX_TERM,
)
from springline.definitions.nodes import AssetDefinition, DefinedTask, DefinitionId, NodeDefinition, StrictDefinition
from springline.definitions.partitions import MAX_ZONE
from springline.definitions.schedules import Overlap, timing_problems
from springline.definitions.sensors import RunEnd, SensorKind, problems_of_sensor
from springline.ledger.json_text import canonical_json

FORMAT: Final = 2
"""The latest format of a manifest, that of one with tasks, or with partitions in two dimensions."""
FIRST_FORMAT: Final = 1

Json = dict[str, Any]
M = TypeVar("M", bound=BaseModel)


class PoolDefinition(StrictDefinition):
    """A pool: how many attempts of assets that name it may run at once in the workspace."""

    name: DefinitionId
    slots: Annotated[StrictInt, Field(ge=1, le=MAX_SLOTS)]


_Interval = Annotated[StrictInt, Field(ge=1, le=MAX_INTERVAL_S), BeforeValidator(bounds.whole)]
_CatchupMinutes = Annotated[StrictInt, Field(ge=1, le=MAX_CATCHUP_MINUTES), BeforeValidator(bounds.whole)]
_CatchupTicks = Annotated[StrictInt, Field(ge=1, le=MAX_CATCHUP_TICKS), BeforeValidator(bounds.whole)]
_ActiveRuns = Annotated[StrictInt, Field(ge=1, le=MAX_ACTIVE_RUNS_OF_SCHEDULE), BeforeValidator(bounds.whole)]
_Jitter = Annotated[StrictInt, Field(ge=0, le=MAX_JITTER_S), BeforeValidator(bounds.whole)]


class ScheduleDefinition(StrictDefinition):
    """When runs of which assets are asked for: by a cron line in a zone, or at an interval.

    Whether that can be read is for `springline.definitions.schedules.timing_problems` to say.
    """

    cron: (
        Annotated[
            str,
            Field(
                max_length=MAX_LINE,
                json_schema_extra=bounds.judged(
                    "A cron line of 5 fields, or 6 with seconds first, that names a day of some year; given, or else "
                    "interval_seconds."
                ),
            ),
        ]
        | None
    ) = Field(default=None, description="Minute, hour, day of month, month, day of week; 0 and 7 are Sunday.")
    interval_seconds: _Interval | None = Field(
        default=None, description="Due at whole multiples of it since 1970, UTC."
    )
    timezone: Annotated[
        str, Field(max_length=MAX_ZONE, json_schema_extra=bounds.judged("A name of the tz database."))
    ] = Field(default="UTC", description="Of the cron line.")
    select: Annotated[list[Annotated[str, Field(max_length=MAX_TERM)]], Field(min_length=1, max_length=MAX_SELECT)] = (
        Field(
            description="Assets, as for a run: `delays`, `*delays`, `raw_flights*`, `*`.",
            json_schema_extra=bounds.judged("Assets that are deployed and can be made together."),
        )
    )
    catchup_window_minutes: _CatchupMinutes = Field(
        default=DEFAULT_CATCHUP_MINUTES, description="Instants that lie further back are skipped, on record."
    )
    max_catchup_ticks: _CatchupTicks = Field(
        default=DEFAULT_CATCHUP_TICKS,
        description="Of instants that were missed the last so many are caught up; those before are skipped, on record.",
    )
    overlap: Overlap = Field(
        default="allow",
        description="While as many of its runs as may are under way: allow another; skip the instant; or let the last "
        "instant wait.",
    )
    max_active_runs: _ActiveRuns | None = Field(
        default=None,
        description="How many of its runs may be under way at once; null: any number, or 1 without overlap.",
    )
    jitter_seconds: _Jitter | None = Field(
        default=None, description="Runs are asked for up to so much later, always the same for one schedule."
    )


class DefinedSchedule(ScheduleDefinition):
    """A schedule of a code location."""

    schedule_id: DefinitionId = Field(description="Unique in the workspace.")

    @model_validator(mode="after")
    def _due(self) -> Self:
        for problem in timing_problems(self):
            raise ValueError(f"{problem.message}. {problem.remedy}")
        return self


_SensorInterval = Annotated[StrictInt, Field(ge=1, le=MAX_SENSOR_INTERVAL_S), BeforeValidator(bounds.whole)]
_SensorTimeout = Annotated[StrictInt, Field(ge=1, le=MAX_SENSOR_TIMEOUT_S), BeforeValidator(bounds.whole)]


class DefinedSensor(StrictDefinition):
    """A sensor of a code location: what it watches, how often, and what it asks to be made."""

    sensor_id: DefinitionId = Field(
        description="Unique in the workspace.",
        json_schema_extra=bounds.judged("Each kind has the fields that it needs, and no others."),
    )
    kind: SensorKind = Field(
        description="poll and push call the function of the code location; the others are evaluated by our workers."
    )
    interval_seconds: _SensorInterval = Field(
        default=DEFAULT_SENSOR_INTERVAL_S, description="At least so long between two evaluations; of push, no polls."
    )
    timeout_seconds: _SensorTimeout = Field(
        default=DEFAULT_SENSOR_TIMEOUT_S, description="How long one evaluation may take."
    )
    select: Annotated[list[Annotated[str, Field(max_length=MAX_TERM)]], Field(max_length=MAX_SELECT)] = Field(
        default_factory=list,
        description="Assets, as for a run; what a request of the function names takes its place.",
        json_schema_extra=bounds.judged("Assets that are deployed and can be made together."),
    )
    table: Annotated[str, Field(min_length=1, max_length=bounds.MAX_NAME)] | None = Field(
        default=None, description="Of the kind table: the table's name."
    )
    asset: DefinitionId | None = Field(default=None, description="Of the kind asset: the asset's key.")
    prefix: Annotated[str, Field(min_length=1, max_length=MAX_PREFIX)] | None = Field(
        default=None, description="Of the kind objects: below it, in the workspace's part of the store."
    )
    ends: Annotated[list[RunEnd], Field(max_length=3)] = Field(
        default_factory=list, description="Of the kind run: the ends that it waits for."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for problem in problems_of_sensor(self):
            raise ValueError(f"{problem.message}. {problem.remedy}")
        return self


class CodeLocation(StrictDefinition):
    """All definitions of one code location: what a deploy of it puts in the place of the ones before."""

    location: DefinitionId
    assets: list[AssetDefinition] = Field(
        max_length=MAX_ASSETS,
        json_schema_extra=bounds.judged("Each key once, and no key of another code location."),
        description="Empty, and no tasks: the code location is removed.",
    )
    tasks: list[DefinedTask] = Field(
        default_factory=list,
        max_length=MAX_ASSETS,
        json_schema_extra=bounds.judged("Each key once, no key of an asset, and none of another code location."),
        description="What is run between assets, and makes none.",
    )
    schedules: list[DefinedSchedule] = Field(
        default_factory=list,
        max_length=MAX_SCHEDULES,
        json_schema_extra=bounds.judged("Each id once, of no other code location; none without an asset."),
    )
    sensors: list[DefinedSensor] = Field(
        default_factory=list,
        max_length=MAX_SENSORS,
        json_schema_extra=bounds.judged("Each id once, of no other code location; none without an asset."),
    )
    pools: list[PoolDefinition] = Field(
        default_factory=list,
        max_length=MAX_POOLS,
        json_schema_extra=bounds.judged("Each name once; each pool that an asset names."),
        description="If several code locations declare a pool, the least number of slots counts.",
    )


class DeployedAsset(AssetDefinition):
    """An asset in a manifest, with the code location that it belongs to."""

    location: DefinitionId


class DeployedTask(DefinedTask):
    """A task in a manifest, with the code location that it belongs to."""

    location: DefinitionId


DeployedNode = DeployedAsset | DeployedTask


class DeployedPool(PoolDefinition):
    """A pool in a manifest, with a code location that declares it."""

    location: DefinitionId


class DeployedLocation(StrictDefinition):
    """A code location in a manifest."""

    location: DefinitionId
    manifest_id: str = Field(description="The manifest that changed it last.")


class DeployedManifest(StrictDefinition):
    """All definitions of a workspace.

    `fingerprint`: SHA-256 of the canonical JSON of `assets`, `schedules` and `sensors`, and of `tasks` and `pools` if
    there are any: equal for equal definitions.
    """

    format: Literal[1, 2] = Field(description="2: it has what builds that read 1 alone would run wrongly.")
    manifest_id: str
    previous_manifest_id: str | None = None
    deployed_at_ms: int
    fingerprint: str
    locations: list[DeployedLocation]
    assets: list[DeployedAsset]
    schedules: list[Json] = Field(default_factory=list)
    sensors: list[Json] = Field(default_factory=list)
    pools: list[DeployedPool] = Field(default_factory=list)
    tasks: list[DeployedTask] = Field(default_factory=list)

    @cached_property
    def nodes(self) -> dict[str, DeployedNode]:
        """The assets and tasks by key, in the order of their keys."""
        both: list[DeployedNode] = [*self.assets, *self.tasks]
        return {one.key: one for one in sorted(both, key=lambda one: one.key)}


DEFINITIONS: Final = ("assets", "schedules", "sensors")
"""The lists of definitions in a manifest; each item has a `location`."""
TASKS: Final = "tasks"
POOLS: Final = "pools"
OPTIONAL: Final = (TASKS, POOLS)
"""More such lists, which a manifest has only if they are not empty: manifests were deployed before there were any."""


def read_model(model: type[M], data: bytes) -> M:
    """Return a model from stored JSON; unknown fields, at any depth, are passed over. Raises `ValueError`."""
    return model.model_validate_json(data, extra="ignore")


def format_of(definitions: Mapping[str, Sequence[Json]]) -> int:
    """Return the format of a manifest with these definitions: the least whose readers run all of them as they are."""
    nodes = (*definitions.get("assets", ()), *definitions.get(TASKS, ()))
    has_more = any((one.get("partitions") or {}).get("dimensions") for one in nodes)
    return FORMAT if definitions.get(TASKS) or has_more else FIRST_FORMAT


def as_stored(node: NodeDefinition, location: str) -> Json:
    """Return the plain form in which a node is stored, compared and hashed: without nulls, dependencies in order."""
    plain = node.model_dump(mode="json", exclude_none=True)
    plain["dependencies"].sort(key=lambda one: one["asset"])
    return {**plain, "location": location}


def schedule_as_stored(schedule: DefinedSchedule, location: str) -> Json:
    """Return the plain form in which a schedule is stored, compared and hashed: without nulls."""
    return {**schedule.model_dump(mode="json", exclude_none=True), "location": location}


def sensor_as_stored(sensor: DefinedSensor, location: str) -> Json:
    """Return the plain form in which a sensor is stored, compared and hashed: without what says nothing."""
    plain = sensor.model_dump(mode="json", exclude_none=True)
    return {**{name: one for name, one in plain.items() if one != []}, "location": location}


def sensor_ids(manifest: DeployedManifest | None) -> list[str]:
    """Return the ids of the sensors of a manifest, in order."""
    found = [] if manifest is None else [one.get("sensor_id") for one in manifest.sensors]
    return sorted(one for one in found if isinstance(one, str))


def fingerprint_of(definitions: Mapping[str, Sequence[Json]]) -> str:
    """Return the fingerprint of definitions: SHA-256 over their canonical JSON, as 64 hex digits."""
    content = {name: list(definitions.get(name, ())) for name in DEFINITIONS}
    content |= {name: list(definitions[name]) for name in OPTIONAL if definitions.get(name)}
    return hashlib.sha256(canonical_json(content)).hexdigest()
