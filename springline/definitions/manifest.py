"""The deployed manifest: all definitions of a workspace in one document (docs/formats.md#deployed-manifest).

`CodeLocation` is what is deployed, `DeployedManifest` what is stored. Both are strict where they are written: unknown
fields are refused. Readers pass unknown fields over (`read_model`), so that a newer build may add some.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt, model_validator

from springline import bounds
from springline.definitions.durations import LEAST_HEARTBEAT_MS, MAX_DURATION_MS, problem_of_heartbeat
from springline.definitions.ids import ID_RULE, MAX_ID_BYTES, problem_of_id
from springline.definitions.limits import (
    MAX_ASSETS,
    MAX_CODE_VERSION,
    MAX_DEPENDENCIES,
    MAX_DESCRIPTION,
    MAX_OWNERS,
    MAX_PRIORITY,
    MAX_RETRIES,
    MAX_TAG,
    MAX_TAGS,
)
from springline.definitions.mappings import MAX_OFFSET, PartitionMapping
from springline.definitions.partitions import MAX_PARTITION_KEY, MAX_STATIC_KEYS, MAX_ZONE, Partitions
from springline.ledger.json_text import canonical_json

FORMAT: Final = 1

Json = dict[str, Any]
M = TypeVar("M", bound=BaseModel)


def _valid_id(text: str) -> str:
    problem = problem_of_id(text)
    if problem is not None:
        raise ValueError(f"{bounds.shown(text, 120)!r} {problem[0]}. {problem[1]}")
    return text


DefinitionId = Annotated[
    str,
    Field(max_length=MAX_ID_BYTES, json_schema_extra=bounds.judged(ID_RULE, pattern="^[^/:*,\\[\\]\\s]+$")),
    AfterValidator(_valid_id),
]
_Duration = Annotated[StrictInt, Field(ge=1, le=MAX_DURATION_MS)]
_LINE: Final = bounds.judged("One line of characters that can be printed.")
_Tag = Annotated[
    str, Field(min_length=1, max_length=MAX_TAG, json_schema_extra=_LINE), AfterValidator(bounds.check_line)
]


_Key = Annotated[str, Field(max_length=MAX_PARTITION_KEY)]
_Offset = Annotated[StrictInt, Field(ge=-MAX_OFFSET, le=MAX_OFFSET)]


@dataclass(frozen=True, slots=True)
class DefinedPartitions(Partitions):
    """The partitions of an asset, by time or by keys."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid",
        json_schema_extra=bounds.judged(
            "By time: start, and end if given, are keys of the kind, such as 2024-01-31, and timezone is a name of "
            "the tz database, for no hours. Static: keys, distinct, and nothing else."
        ),
    )

    start: _Key | None = None
    end: _Key | None = None
    timezone: Annotated[str, Field(max_length=MAX_ZONE)] | None = None
    keys: Annotated[tuple[_Key, ...], Field(max_length=MAX_STATIC_KEYS)] = ()


@dataclass(frozen=True, slots=True)
class DefinedMapping(PartitionMapping):
    """Which upstream partitions a partition needs."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid",
        json_schema_extra=bounds.judged(
            "One that the partitions of both assets admit. Only a window has offsets; start is not behind end."
        ),
    )

    start_offset: _Offset = 0
    end_offset: _Offset = 0


def _valid_partitions(partitions: DefinedPartitions) -> DefinedPartitions:
    for problem in partitions.problems():
        raise ValueError(f"{problem.message}. {problem.remedy}")
    return partitions


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Dependency(_Strict):
    """An asset that another one depends on."""

    asset: DefinitionId = Field(description="Its key.")
    mapping: DefinedMapping | None = Field(
        default=None,
        description="Which of its partitions a partition needs; null: what the partitions of both suggest.",
    )
    argument: (
        Annotated[
            str,
            Field(min_length=1, max_length=MAX_ID_BYTES, json_schema_extra=_LINE),
            AfterValidator(bounds.check_line),
        ]
        | None
    ) = Field(default=None, description="The parameter that takes its output; null if none does.")


class AssetDefinition(_Strict):
    """An asset: what makes it, how often that is tried, and what it needs."""

    key: DefinitionId = Field(description="Unique in the workspace.")
    dependencies: list[Dependency] = Field(
        default_factory=list,
        max_length=MAX_DEPENDENCIES,
        json_schema_extra=bounds.judged("Assets that there are, each once, in no circle."),
    )
    partitions: Annotated[DefinedPartitions, AfterValidator(_valid_partitions)] | None = None
    retries: Annotated[StrictInt, Field(ge=0, le=MAX_RETRIES)] = Field(
        default=0, description="How often a failed attempt is followed by another."
    )
    retry_delay_ms: _Duration | None = Field(
        default=None, description="The pause before another attempt, doubled each time up to 15 min; null: 30 s."
    )
    timeout_ms: _Duration | None = Field(default=None, description="How long an attempt may take.")
    heartbeat_ms: (
        Annotated[
            StrictInt,
            Field(
                ge=LEAST_HEARTBEAT_MS,
                le=MAX_DURATION_MS,
                json_schema_extra=bounds.judged("No longer than the timeout."),
            ),
        ]
        | None
    ) = Field(default=None, description="After how long without a sign of life an attempt counts as lost.")
    queue: DefinitionId | None = Field(default=None, description="Where workers take it from; null: the default queue.")
    pool: DefinitionId | None = Field(default=None, description="Whose slots bound how many run at once.")
    priority: Annotated[StrictInt, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] = Field(
        default=0, description="Of what waits, the greater is first."
    )
    code_version: (
        Annotated[
            str,
            Field(min_length=1, max_length=MAX_CODE_VERSION, json_schema_extra=_LINE),
            AfterValidator(bounds.check_line),
        ]
        | None
    ) = Field(default=None, description="What the author calls this version of the code.")
    description: Annotated[str, Field(max_length=MAX_DESCRIPTION)] | None = None
    tags: dict[_Tag, _Tag] = Field(default_factory=dict, max_length=MAX_TAGS)
    owners: list[_Tag] = Field(default_factory=list, max_length=MAX_OWNERS)

    @model_validator(mode="after")
    def _in_time(self) -> Self:
        problem = problem_of_heartbeat(self.heartbeat_ms, self.timeout_ms)
        if problem is not None:
            raise ValueError(f"heartbeat_ms {self.heartbeat_ms} {problem}")
        return self


class CodeLocation(_Strict):
    """All definitions of one code location: what a deploy of it puts in the place of the ones before."""

    location: DefinitionId
    assets: list[AssetDefinition] = Field(
        max_length=MAX_ASSETS,
        json_schema_extra=bounds.judged("Each key once, and no key of another code location."),
        description="Empty: the code location is removed.",
    )


class DeployedAsset(AssetDefinition):
    """An asset in a manifest, with the code location that it belongs to."""

    location: DefinitionId


class DeployedLocation(_Strict):
    """A code location in a manifest."""

    location: DefinitionId
    manifest_id: str = Field(description="The manifest that changed it last.")


class DeployedManifest(_Strict):
    """All definitions of a workspace.

    `fingerprint`: SHA-256 of the canonical JSON of `assets`, `schedules` and `sensors`: equal for equal definitions.
    """

    format: Literal[1]
    manifest_id: str
    previous_manifest_id: str | None = None
    deployed_at_ms: int
    fingerprint: str
    locations: list[DeployedLocation]
    assets: list[DeployedAsset]
    schedules: list[Json] = Field(default_factory=list)
    sensors: list[Json] = Field(default_factory=list)


DEFINITIONS: Final = ("assets", "schedules", "sensors")
"""The lists of definitions in a manifest; each item has a `location`."""


def read_model(model: type[M], data: bytes) -> M:
    """Return a model from stored JSON; unknown fields, at any depth, are passed over. Raises `ValueError`."""
    return model.model_validate_json(data, extra="ignore")


def as_stored(asset: AssetDefinition, location: str) -> Json:
    """Return the plain form in which an asset is stored, compared and hashed: without nulls, dependencies in order."""
    plain = asset.model_dump(mode="json", exclude_none=True)
    plain["dependencies"].sort(key=lambda one: one["asset"])
    return {**plain, "location": location}


def fingerprint_of(definitions: Mapping[str, Sequence[Json]]) -> str:
    """Return the fingerprint of definitions: SHA-256 over their canonical JSON, as 64 hex digits."""
    content = {name: list(definitions.get(name, ())) for name in DEFINITIONS}
    return hashlib.sha256(canonical_json(content)).hexdigest()
