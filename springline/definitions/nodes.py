"""Assets and tasks, the nodes of a pipeline's graph, as they are deployed (docs/formats.md#deployed-manifest)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictInt, model_validator

from springline import bounds
from springline.definitions.durations import LEAST_HEARTBEAT_MS, MAX_DURATION_MS, problem_of_heartbeat
from springline.definitions.ids import ID_RULE, MAX_ID_BYTES, problem_of_id
from springline.definitions.limits import (
    MAX_CHECK_NAME,
    MAX_CHECKS,
    MAX_CODE_VERSION,
    MAX_DEPENDENCIES,
    MAX_DESCRIPTION,
    MAX_MODEL_BYTES,
    MAX_MODEL_FIELD_DEFAULT,
    MAX_MODEL_FIELD_DESCRIPTION,
    MAX_MODEL_FIELD_NAME,
    MAX_MODEL_FIELD_NAMES,
    MAX_MODEL_FIELD_TYPE,
    MAX_MODEL_FIELDS,
    MAX_OWNERS,
    MAX_PRIORITY,
    MAX_RETRIES,
    MAX_TAG,
    MAX_TAGS,
)
from springline.definitions.mappings import MAX_OFFSET, PartitionMapping
from springline.definitions.partitions import (
    DIMENSIONS,
    MAX_PARTITION_KEY,
    MAX_STATIC_KEYS,
    MAX_ZONE,
    Dimension,
    Partitions,
)
from springline.definitions.sizes import LEAST_MEMORY_BYTES, MAX_MEMORY_BYTES
from springline.definitions.urls import MAX_URL, URL_PATTERN, URL_RULE, problem_of_url


def _valid_id(text: str) -> str:
    problem = problem_of_id(text)
    if problem is not None:
        raise ValueError(f"{bounds.shown(text, 120)!r} {problem[0]}. {problem[1]}")
    return text


_ASCII_OF_IDS: Final = "^[^\\x00-,/:-@\\[-\\^`{-\\x7f\\s]+$"
DefinitionId = Annotated[
    str,
    Field(max_length=MAX_ID_BYTES, json_schema_extra=bounds.judged(ID_RULE, pattern=_ASCII_OF_IDS)),
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
class _Bounded(Partitions):
    """Partitions whose texts have a length that an API accepts."""

    start: _Key | None = None
    end: _Key | None = None
    timezone: Annotated[str, Field(max_length=MAX_ZONE)] | None = None
    keys: Annotated[tuple[_Key, ...], Field(max_length=MAX_STATIC_KEYS)] = ()


@dataclass(frozen=True, slots=True)
class DefinedAxis(_Bounded):
    """The partitions of one dimension: by time or by keys."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", json_schema_extra=bounds.judged("As partitions that have no dimensions.")
    )

    dimensions: None = None


@dataclass(frozen=True, slots=True)
class DefinedDimension(Dimension):
    """One of two dimensions of partitions."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: DefinitionId
    partitions: DefinedAxis


@dataclass(frozen=True, slots=True)
class DefinedPartitions(_Bounded):
    """The partitions of an asset: by time, by keys, or in two dimensions."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid",
        json_schema_extra=bounds.judged(
            "By time: start, and end if given, are keys of the kind, such as 2024-01-31, and timezone is a name of "
            "the tz database, for no hours. Static: keys, distinct, and nothing else. Multi: two dimensions, "
            "the second static, and nothing else."
        ),
    )

    dimensions: Annotated[tuple[DefinedDimension, ...], Field(max_length=DIMENSIONS)] | None = None


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


def _valid_url(text: str) -> str:
    problem = problem_of_url(text)
    if problem is not None:
        raise ValueError(f"{bounds.shown(text, 120)!r} {problem[0]}. {problem[1]}")
    return text


_Url = Annotated[
    str,
    Field(max_length=MAX_URL, json_schema_extra=bounds.judged(URL_RULE, pattern=URL_PATTERN)),
    AfterValidator(_valid_url),
]


def _valid_partitions(partitions: DefinedPartitions) -> DefinedPartitions:
    for problem in partitions.problems():
        raise ValueError(f"{problem.message}. {problem.remedy}")
    return partitions


class StrictDefinition(BaseModel):
    """Base of definitions: unknown fields are refused, and nothing changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Dependency(StrictDefinition):
    """An asset or a task that another one depends on."""

    asset: DefinitionId = Field(description="Its key, also that of a task.")
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


class CheckDefinition(StrictDefinition):
    """A check of what an asset makes, as people see it; workers make it by the code of their file."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=MAX_CHECK_NAME, json_schema_extra=_LINE),
        AfterValidator(bounds.check_line),
    ]
    kind: Literal["row_count", "not_null", "unique", "freshness", "sql", "custom"]
    severity: Literal["warn", "error"] = Field(description="One of severity error fails an attempt.")
    table: (
        Annotated[
            str, Field(min_length=1, max_length=MAX_TAG, json_schema_extra=_LINE), AfterValidator(bounds.check_line)
        ]
        | None
    ) = Field(default=None, description="Whose rows it looks at; null: what the function returns, or its one table.")


JsonKind = Literal["null", "boolean", "number", "string", "array", "object"]
"""What a JSON value may be."""
_ModelName = Annotated[
    str,
    Field(min_length=1, max_length=MAX_MODEL_FIELD_NAME, json_schema_extra=_LINE),
    AfterValidator(bounds.check_line),
]


def _valid_json(text: str) -> str:
    try:
        json.loads(text)
    except ValueError:
        raise ValueError(f"{bounds.shown(text, 120)!r} is no JSON. Give the default as JSON, such as '15'") from None
    return text


class ConfigField(StrictDefinition):
    """A field of what the config of an asset or a task takes."""

    name: _ModelName = Field(description="As the JSON of a run's config has it.")
    type: Annotated[
        str,
        Field(min_length=1, max_length=MAX_MODEL_FIELD_TYPE, json_schema_extra=_LINE),
        AfterValidator(bounds.check_line),
    ] = Field(description="For people, such as `int, ge=0` or `date | None`.")
    required: StrictBool = False
    default: (
        Annotated[
            str,
            Field(
                min_length=1,
                max_length=MAX_MODEL_FIELD_DEFAULT,
                json_schema_extra=bounds.judged("JSON, as a text."),
            ),
            AfterValidator(_valid_json),
        ]
        | None
    ) = Field(
        default=None,
        description="As a text of JSON, such as `0.5`; null if the field is required, or its default is made by a "
        "function, is long or is no JSON.",
    )
    description: Annotated[str, Field(max_length=MAX_MODEL_FIELD_DESCRIPTION)] | None = None
    also: Annotated[list[_ModelName], Field(max_length=MAX_MODEL_FIELD_NAMES)] = Field(
        default_factory=list, description="Further names of the config that it is read from."
    )
    refuses: Annotated[list[JsonKind], Field(max_length=6)] = Field(
        default_factory=list, description="Kinds of JSON that are none of its values for certain."
    )


class ConfigDefinition(StrictDefinition):
    """What the config of an asset or a task takes, by the model that it declares for it."""

    model_config = ConfigDict(json_schema_extra=bounds.judged(f"At most {MAX_MODEL_BYTES // 1024} KiB as JSON."))

    model: _ModelName = Field(description="The model's name.")
    fields: Annotated[list[ConfigField], Field(max_length=MAX_MODEL_FIELDS)]
    forbids_others: StrictBool = Field(
        default=False, description="Whether it refuses names of the config that are none of its fields'."
    )
    judged: StrictBool = Field(
        default=True,
        description="Whether requests for runs are judged by it: not if code of the model sees the config first.",
    )

    @model_validator(mode="after")
    def _in_bounds(self) -> Self:
        size = len(self.model_dump_json(exclude_defaults=True).encode())
        if size > MAX_MODEL_BYTES:
            raise ValueError(
                f"has {size} bytes as JSON, at most {MAX_MODEL_BYTES} are taken: shorten descriptions, or put fields "
                "into a model of their own"
            )
        return self


class NodeDefinition(StrictDefinition):
    """What assets and tasks have in common, the nodes of a pipeline's graph: what they need, and how they are run."""

    key: DefinitionId = Field(description="Unique in the workspace, among assets and tasks.")
    dependencies: list[Dependency] = Field(
        default_factory=list,
        max_length=MAX_DEPENDENCIES,
        json_schema_extra=bounds.judged("Assets and tasks that there are, each once, in no circle."),
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
    memory_bytes: Annotated[StrictInt, Field(ge=LEAST_MEMORY_BYTES, le=MAX_MEMORY_BYTES)] | None = Field(
        default=None, description="How much memory an attempt may use; null: as the worker has it."
    )
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
    config: ConfigDefinition | None = Field(
        default=None, description="What its config takes; null: any, or nobody has said it."
    )

    @model_validator(mode="after")
    def _in_time(self) -> Self:
        problem = problem_of_heartbeat(self.heartbeat_ms, self.timeout_ms)
        if problem is not None:
            raise ValueError(f"heartbeat_ms {self.heartbeat_ms} {problem}")
        return self


class AssetDefinition(NodeDefinition):
    """An asset: what makes it, how often that is tried, and what it needs."""

    freshness_ms: _Duration | None = Field(
        default=None, description="How old a materialization may be before it counts as stale; null: of any age."
    )
    url: _Url | None = Field(
        default=None,
        description="Where its attempts are posted to; null: workers of the code location take them from its queue.",
    )
    checks: Annotated[list[CheckDefinition], Field(min_length=1, max_length=MAX_CHECKS)] | None = Field(
        default=None, description="What must hold of what it makes, before anybody sees it."
    )

    @property
    def asset_key(self) -> str | None:
        """What rows and events of its tasks name as their asset."""
        return self.key

    @model_validator(mode="after")
    def _made_somewhere(self) -> Self:
        if self.url is not None and self.queue is not None:
            raise ValueError(f"queue {self.queue} has no meaning beside a url: leave one of them out")
        if self.url is not None and self.memory_bytes is not None:
            raise ValueError(
                f"memory_bytes {self.memory_bytes} has no meaning beside a url, whose program nobody of ours watches: "
                "leave one of them out"
            )
        if self.url is not None and self.checks is not None:
            raise ValueError(
                "an asset with a url has no checks, which workers of the code location make: leave them out"
            )
        if self.url is not None and any(one.argument is not None for one in self.dependencies):
            raise ValueError("an asset with a url has no parameters: leave argument out of its dependencies")
        return self


class DefinedTask(NodeDefinition):
    """A task of a pipeline: a function that is run between assets, and makes none.

    Nothing is materialized by it: it has no staleness, and the rows of its partitions are those of its runs alone.
    """

    @property
    def asset_key(self) -> str | None:
        """None: rows and events of its tasks name no asset."""
        return None

    @property
    def url(self) -> str | None:
        """None: workers of its code location run it."""
        return None
