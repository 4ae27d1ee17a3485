"""Requests for runs: what users ask for, judged, planned on trial, and made into the event that records it.

A request has a run key, and a key stands for one request for ever. Whether two requests are the same is a matter of
what was asked for, never of the definitions at the time: asked again after a deploy, a request is the same one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    ValidationError,
)

from springline import bounds
from springline.control.admission.automation import check_run_key
from springline.control.admission.cases import check_text, invalid
from springline.control.runs.planning import (
    MOST_RUNNING_LABEL,
    OWN_LABELS,
    PARENT_LABEL,
    PRIORITY_LABEL,
    CannotPlan,
    PlannedTask,
    PlanProblem,
    left_to_do,
    plan_again,
    plan_tasks,
)
from springline.definitions.config_models import problems_of_request, told_in_one
from springline.definitions.configs import MAX_CONFIG_BYTES, problem_of_config
from springline.definitions.ids import parse_task_key
from springline.definitions.manifest import DeployedManifest
from springline.definitions.partitions import MAX_PARTITION_KEY
from springline.definitions.selection import BadSelection, select_nodes
from springline.errors import Code, Refused, refused
from springline.ledger.events import RunRequested
from springline.ledger.fingerprints import RerunKind, rerun_run_key
from springline.ledger.identifiers import SENSOR_RUN_KEYS
from springline.ledger.json_text import canonical_json
from springline.ledger.member import RunRequestedMember
from springline.ledger.nested import ManualRef
from springline.misfits import field_of, misfit

OWN_RUN_KEYS: Final = "api:"
"""What keys begin with that the server made, for requests without a key."""
USER_REQUEST: Final = "USER_REQUEST"
"""The reason code of a cancellation that a user asked for."""
MAX_TERMS: Final = 1_000
MAX_TERM: Final = 1_000
MAX_PARTITIONS: Final = 10_000
MAX_LABELS: Final = 64
MAX_LABEL_NAME: Final = 128
MAX_LABEL_VALUE: Final = 256
MAX_LABELS_BYTES: Final = 8 * 1024
"""Names and values of a run's labels together."""
MAX_TASKS_BYTES: Final = 3 * 1024
"""The keys of tasks that a rerun names, together."""
MAX_PRIORITY: Final = 100

MAX_CONCURRENT_TASKS: Final = 500
"""Tasks of a run that may be under way at once, whatever the request says (`workflows.run.MOST_RUNNING`)."""

Json = dict[str, Any]


def _label_name(text: str) -> str:
    bounds.check_line(text)
    if "=" in text:
        raise ValueError(f"{bounds.shown(text, 120)!r} holds an equals sign, which ends a label's name")
    if text.startswith(OWN_LABELS):
        raise ValueError(f"{bounds.shown(text, 120)!r} begins with {OWN_LABELS}, as labels do that the server sets")
    return text


_LabelName = Annotated[
    StrictStr,
    Field(
        min_length=1,
        max_length=MAX_LABEL_NAME,
        json_schema_extra=bounds.judged(f"One line that can be printed, without '=', not below {OWN_LABELS}."),
    ),
    AfterValidator(_label_name),
]
_LabelValue = Annotated[
    StrictStr,
    Field(max_length=MAX_LABEL_VALUE, json_schema_extra=bounds.judged("One line of characters that can be printed.")),
    AfterValidator(lambda text: text if text == "" else bounds.check_line(text)),
]


class RunAsked(BaseModel):
    """A run that is asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    select: Annotated[list[Annotated[StrictStr, Field(max_length=MAX_TERM)]], Field(max_length=MAX_TERMS)] = Field(
        description="Assets: `delays`; `*delays` with all that it depends on; `raw_flights*` with all that depends on "
        "it; `*` for every asset.",
        json_schema_extra=bounds.judged("At least one, of assets that are deployed and can be made together."),
    )
    partitions: Annotated[
        list[Annotated[StrictStr, Field(max_length=MAX_PARTITION_KEY)]], Field(max_length=MAX_PARTITIONS)
    ] = Field(
        default_factory=list,
        description="Keys of partitions: each is made of every selected asset that has it.",
        json_schema_extra=bounds.judged("Each is a partition of a selected asset; each asset with partitions has one."),
    )
    run_key: Annotated[StrictStr, Field(max_length=bounds.MAX_ID)] | None = Field(
        default=None,
        description="What the run is asked for under: the same request under the same key is the same run, for ever. "
        "Without a key, every request is a new run.",
        json_schema_extra=bounds.judged("Not empty, and without the prefixes sched:, backfill:, rerun: and api:."),
    )
    config: Json = Field(
        default_factory=dict,
        max_length=bounds.MAX_EVENT_FIELDS,
        description="What the functions find in `context.config`; `GET /assets/{key}` says what an asset takes.",
        json_schema_extra=bounds.judged(
            f"Numbers are whole; at most {MAX_CONFIG_BYTES // 1024} KiB as JSON; nothing that a selected asset's model "
            "surely refuses."
        ),
    )
    labels: dict[_LabelName, _LabelValue] = Field(
        default_factory=dict,
        max_length=MAX_LABELS,
        description="Texts by name, to find the run by.",
        json_schema_extra=bounds.judged(f"At most {MAX_LABELS_BYTES // 1024} KiB together."),
    )
    priority: Annotated[StrictInt, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY), BeforeValidator(bounds.whole)] = Field(
        default=0, description="Of what waits, the greater is first."
    )
    max_concurrent_tasks: (
        Annotated[StrictInt, Field(ge=1, le=MAX_CONCURRENT_TASKS), BeforeValidator(bounds.whole)] | None
    ) = Field(default=None, description="How many tasks of the run may be under way at once; null: 500.")


class RerunAsked(BaseModel):
    """The part of a run that is to be made again: what failed, or the tasks named."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    part: Literal["failed"] | None = Field(
        default=None,
        alias="from",
        description="failed: every task that did not succeed.",
        json_schema_extra=bounds.judged("Given, or else tasks."),
    )
    tasks: (
        Annotated[
            list[Annotated[StrictStr, Field(max_length=bounds.MAX_ID)]], Field(min_length=1, max_length=MAX_TERMS)
        ]
        | None
    ) = Field(
        default=None,
        description="Keys of the run's tasks, such as `delays` or `raw_flights[2024-01-31]`.",
        json_schema_extra=bounds.judged(f"Tasks of the run, with at most {MAX_TASKS_BYTES // 1024} KiB of keys."),
    )


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, and by which request of the API."""

    user_id: str
    request_id: str


@dataclass(frozen=True, slots=True)
class ParentRun:
    """A run that has ended, as the state has it: its labels, its configuration, and the states of its tasks by key."""

    run_id: str
    state: str
    labels: Mapping[str, str]
    config: Mapping[str, Any]
    tasks: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request that is judged by itself: its key, its fingerprint, and what makes its event from a manifest.

    `compile` plans on trial and raises `Refused`; nothing of the manifest is part of the fingerprint.
    """

    run_key: str
    fingerprint: str
    compile: Callable[[DeployedManifest], tuple[RunRequested, list[PlannedTask]]]


def parsed_request(asked: Mapping[str, Any]) -> RunAsked:
    """Return a request from its plain form; raises `Refused`, naming the first field that does not fit."""
    try:
        return RunAsked.model_validate(asked)
    except ValidationError as error:
        first = error.errors()[0]
        described = "GET /docs of the API, at POST /api/v1/runs, describes a request"
        raise Refused(misfit(first, field_of(first["loc"]) or "request", described)) from None


def run_request(asked: RunAsked, asker: Asker, new_name: Callable[[], str]) -> KeyedRequest:
    """Return a request for a run, judged by itself. Raises `Refused`.

    `new_name` makes a ULID: of it is the key of a request that has none.
    """
    run_key = _checked_key(asked.run_key) if asked.run_key is not None else f"{OWN_RUN_KEYS}{new_name()}"
    config = _checked_config(asked.config)
    labels = _checked_labels(asked.labels)
    if asked.priority:
        labels[PRIORITY_LABEL] = str(asked.priority)
    if asked.max_concurrent_tasks is not None:
        labels[MOST_RUNNING_LABEL] = str(asked.max_concurrent_tasks)
    terms = sorted({term for text in asked.select for term in text.replace(",", " ").split()})
    partitions = sorted(set(asked.partitions))
    fingerprint = _sha256({"select": terms, "partitions": partitions, "config": config, "labels": labels})

    def compiled(manifest: DeployedManifest) -> tuple[RunRequested, list[PlannedTask]]:
        assets = _selected(manifest, terms)
        try:
            tasks = plan_tasks(manifest, assets, partitions)
        except CannotPlan as error:
            raise _unplannable(error) from error
        check_taken(tasks, config)
        event = RunRequested(
            run_key=run_key,
            request_fingerprint=fingerprint,
            asset_selection=assets,
            trigger_source_ref=ManualRef(asker.user_id, asker.request_id),
            partition_selection=partitions or None,
            labels=labels,
            code_version=manifest.manifest_id,
            springline=_member(RunRequestedMember(config=config or None)),
        )
        return event, tasks

    return KeyedRequest(run_key, fingerprint, compiled)


def rerun_request(asked: RerunAsked, parent: ParentRun, asker: Asker) -> KeyedRequest:
    """Return a request for the part of a run that is to be made again. Raises `Refused`.

    Its key follows from the parent and the tasks: asked for again, it is the same rerun.
    """
    if (asked.part is None) == (asked.tasks is None):
        raise invalid(
            "from",
            asked.part,
            "and tasks say which part of the run is made again, and one of them must be given, not both",
            "Give from: failed, or the keys of tasks.",
        )
    if asked.tasks is None:
        kind, again = RerunKind.FROM_FAILURE, left_to_do(parent.tasks)
        if not again:
            raise refused(
                Code.EVENT_CONFLICT,
                f"no task of run {parent.run_id} is left to do: it is {parent.state}, "
                f"and {len(parent.tasks)} of its tasks succeeded",
                field="from",
                value="failed",
                remedy="Name the tasks that are to be made again by `tasks`, or start a new run.",
            )
    else:
        kind, again = RerunKind.SUBSET, sorted(set(asked.tasks))
        _check_tasks(again, parent)
    named = again if kind is RerunKind.SUBSET else None
    part: Literal["failed", "subset"] = "failed" if named is None else "subset"
    run_key = rerun_run_key(parent.run_id, kind, again, ())
    labels = {**parent.labels, PARENT_LABEL: parent.run_id}
    fingerprint = _sha256({"parent_run_id": parent.run_id, "rerun": part, "tasks": again})

    def compiled(manifest: DeployedManifest) -> tuple[RunRequested, list[PlannedTask]]:
        try:
            tasks = plan_again(manifest, parent.tasks, again)
        except CannotPlan as error:
            raise _unplannable(error, of_parent=parent.run_id) from error
        check_taken(tasks, parent.config, of_parent=parent.run_id)
        assets, partitions = _made_by(again)
        event = RunRequested(
            run_key=run_key,
            request_fingerprint=fingerprint,
            asset_selection=assets,
            trigger_source_ref=ManualRef(asker.user_id, asker.request_id),
            partition_selection=partitions or None,
            labels=labels,
            code_version=manifest.manifest_id,
            springline=_member(
                RunRequestedMember(
                    config=dict(parent.config) or None, parent_run_id=parent.run_id, rerun=part, tasks=named
                )
            ),
        )
        return event, tasks

    return KeyedRequest(run_key, fingerprint, compiled)


def check_taken(tasks: Iterable[PlannedTask], config: Mapping[str, Any], *, of_parent: str | None = None) -> None:
    """Raise `Refused` for a config that the models of what a run makes would refuse for certain.

    `of_parent`: the run that is made again, whose config it is. Judged when a run is asked for, and never after: one
    that has been asked for is not stopped by what is deployed later.
    """
    found = problems_of_request([one.asset for one in tasks], config)
    if not found:
        return
    first, said = found[0], told_in_one(found)
    if of_parent is None:
        raise refused(Code.INVALID_REQUEST, said, field=first.field, value=first.value, remedy=first.remedy)
    raise refused(
        Code.DEFINITION_CONFLICT,
        f"run {of_parent} cannot be made again with its config: {said}",
        field=first.field,
        value=first.value,
        remedy="A rerun has the config of its run: start a new run, with another one.",
    )


def check_made_without(tasks: Iterable[PlannedTask]) -> None:
    """Raise `Refused` if what the runs of a backfill make takes no run without a config, which they are."""
    nodes = {one.asset.key: one.asset for one in tasks}
    found = problems_of_request(nodes.values(), {})
    if found:
        raise refused(
            Code.INVALID_REQUEST,
            f"runs of a backfill have no config: {told_in_one(found)}",
            field="select",
            value=sorted(key for key, one in nodes.items() if problems_of_request([one], {})),
            remedy="Give the fields defaults, or start runs with a config: springline run start --config.",
        )


def key_reused(run_key: str, known: str) -> Refused:
    """Return the refusal of another request under a used run key; `known`: the run it stands for."""
    return refused(
        Code.KEY_REUSED,
        f"the run key {bounds.shown(run_key, 120)!r} stands for run {known}, which was asked for in another way",
        field="run_key",
        value=run_key,
        remedy="Ask for what was asked for then, or use another run key.",
    )


def _selected(manifest: DeployedManifest, terms: Sequence[str]) -> list[str]:
    try:
        return sorted(select_nodes(manifest.nodes, terms))
    except BadSelection as error:
        message = f"{error.message[0].upper()}{error.message[1:].rstrip('.')}"
        raise refused(Code.INVALID_REQUEST, message, field="select", value=error.term, remedy=error.remedy) from error


def _checked_key(run_key: str) -> str:
    check_text(run_key, "run_key")
    try:
        bounds.check_line(run_key)
    except ValueError as error:
        raise invalid("run_key", run_key, f"cannot be one: {error}", "Use one line that can be printed.") from None
    check_run_key(run_key, "run_key")
    if run_key.startswith(SENSOR_RUN_KEYS):
        # Foreign evaluations may use any key, so that admission does not refuse these: but the sensor would get no run.
        raise invalid("run_key", run_key, "has the form of a sensor's run key", "Use another run key.")
    if run_key.startswith(OWN_RUN_KEYS):
        raise invalid(
            "run_key", run_key, "has the form of a key that the server makes", "Use another run key, or none."
        )
    return run_key


def _checked_labels(labels: Mapping[str, str]) -> dict[str, str]:
    size = sum(len(name.encode()) + len(value.encode()) for name, value in labels.items())
    if size > MAX_LABELS_BYTES:
        raise invalid(
            "labels", len(labels), f"have {size} bytes, at most {MAX_LABELS_BYTES} are taken", "Use shorter labels."
        )
    return dict(sorted(labels.items()))


def _checked_config(config: Json) -> Json:
    found = problem_of_config(config)
    if found is not None:
        raise invalid(found.field, found.value, found.message, found.remedy)
    return config


def _check_tasks(again: Sequence[str], parent: ParentRun) -> None:
    size = sum(len(key.encode()) for key in again)
    if size > MAX_TASKS_BYTES:
        raise invalid(
            "tasks",
            len(again),
            f"are keys of {size} bytes together, at most {MAX_TASKS_BYTES} are taken",
            "Name fewer tasks, or make everything again that did not succeed by `from`.",
        )
    for key in again:
        if key not in parent.tasks:
            raise invalid(
                "tasks",
                key,
                f"names no task of run {parent.run_id}: {bounds.shown(key, 120)!r}",
                f"`springline run show {parent.run_id}` shows them, as GET .../tasks does.",
            )


def _made_by(tasks: Iterable[str]) -> tuple[list[str], list[str]]:
    assets: set[str] = set()
    partitions: set[str] = set()
    for key in tasks:
        parsed = parse_task_key(key)
        # `plan_again` has planned them all.
        assert parsed is not None
        assets.add(parsed[0])
        if parsed[1] is not None:
            partitions.add(parsed[1])
    return sorted(assets), sorted(partitions)


def _unplannable(error: CannotPlan, *, of_parent: str | None = None) -> Refused:
    if error.reason_code is PlanProblem.MANIFEST_UNUSABLE:
        return refused(
            Code.DEFINITION_CONFLICT, error.message, field="manifest", value=error.value, remedy=error.remedy
        )
    field = "select" if error.field == "assets" else error.field
    if of_parent is not None:
        return refused(
            Code.DEFINITION_CONFLICT,
            f"run {of_parent} cannot be made again: {error.message}",
            field=field,
            value=error.value,
            remedy=error.remedy,
        )
    return refused(Code.INVALID_REQUEST, error.message, field=field, value=error.value, remedy=error.remedy)


def _member(member: RunRequestedMember) -> Json | None:
    plain: Json = msgspec.to_builtins(member)
    return plain or None


def _sha256(asked: Json) -> str:
    return hashlib.sha256(canonical_json(asked)).hexdigest()
