"""From a selection of assets and partitions to the tasks of a run, and to the events that begin it.

A plan is a function of a manifest and of what was asked for: made twice, it is equal. A task of a plan makes an asset,
or one of its partitions, or runs a task of the pipeline. It waits for the tasks of the same plan that make what it
needs, by the mapping of each dependency (`springline.definitions.mappings`). What is not planned is taken as it is, and
waited for by nobody; but what a pipeline's task does nobody can take later, so it is planned with what needs it. So of
`latest` it is the last partition that is planned, and an asset between two selected ones does not connect them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal

import msgspec

from springline.bounds import shown
from springline.control.admission.runs import SEQUENCER
from springline.definitions.graph import topological_order
from springline.definitions.ids import meant, named, parse_task_key, task_key
from springline.definitions.manifest import DeployedManifest, DeployedNode
from springline.definitions.mappings import SomePartitions, effective_mapping, needed_keys
from springline.definitions.partitions import FieldProblem, PartitionKind, Partitions
from springline.definitions.selection import with_tasks
from springline.ledger.events import PlanCreated, RunCancelRequested, RunTriggered
from springline.ledger.identifiers import plan_id_of_run
from springline.ledger.member import CancelMember, EventMember, PlanCreatedMember, RunTriggeredMember
from springline.ledger.nested import TaskDefinition, Trigger
from springline.projection.schema import SUCCEEDED

OWN_LABELS: Final = "springline/"
"""What labels of runs begin with that the server sets."""
PRIORITY_LABEL: Final = f"{OWN_LABELS}priority"
PARENT_LABEL: Final = f"{OWN_LABELS}parent_run_id"
BACKFILL_LABEL: Final = f"{OWN_LABELS}backfill_id"
MOST_RUNNING_LABEL: Final = f"{OWN_LABELS}max_concurrent_tasks"
MAX_TASKS: Final = 10_000
MAX_PLAN_BYTES: Final = 7 * 1024 * 1024
"""The tasks of a plan as JSON: one event has them and its other fields (`admission.round.MAX_PLAN_EVENT_BYTES`)."""
LOST_ATTEMPTS: Final = 20
"""How many attempts of a task may be lost with their workers beside those that its `retries` allow."""
LEAST_HEARTBEAT_SEC: Final = 300
"""After how long without an event of a task a reader of the ledger may think it dead, at least.

Its run sees by Temporal, and sooner, whether a worker is alive; it tells the ledger a third of this apart.
"""
_SHOWN: Final = 120


def priority_of(labels: Mapping[str, str] | None) -> int:
    """Return the priority of a run, by its labels."""
    text = (labels or {}).get(PRIORITY_LABEL, "0")
    return int(text) if text.removeprefix("-").isdecimal() and len(text) < 10 else 0


def most_running_of(labels: Mapping[str, str] | None) -> int | None:
    """Return how many attempts of a run may be under way at once, by its labels; None where they do not say."""
    text = (labels or {}).get(MOST_RUNNING_LABEL, "")
    return int(text) if text.isdecimal() and 0 < len(text) < 10 and int(text) > 0 else None


class PlanProblem(StrEnum):
    """Why a request cannot be planned, for programs: the `reason_code` of the cancellation that ends its run."""

    EMPTY_SELECTION = "EMPTY_SELECTION"
    UNKNOWN_ASSET = "UNKNOWN_ASSET"
    UNKNOWN_PARTITION = "UNKNOWN_PARTITION"
    """A key is that of no partition of any selected asset."""
    PARTITION_MISSING = "PARTITION_MISSING"
    """A selected asset has partitions, and none of them is asked for."""
    NO_PARTITIONS = "NO_PARTITIONS"
    """Partitions are asked for, and no selected asset has any."""
    INPUT_NOT_SELECTED = "INPUT_NOT_SELECTED"
    """A parameter takes the output of an asset, or of its partition, that the run does not make."""
    UNKNOWN_TASK = "UNKNOWN_TASK"
    """A rerun names a task that is no task of its parent."""
    TOO_MANY_TASKS = "TOO_MANY_TASKS"
    PLAN_TOO_LARGE = "PLAN_TOO_LARGE"
    MANIFEST_UNUSABLE = "MANIFEST_UNUSABLE"
    """The manifest's definitions do not fit together: no deploy leaves one like it."""


PlanField = Literal["assets", "partitions", "tasks", "manifest"]


class CannotPlan(Exception):
    """A request that no run can be made of. `field` is the part of the request; `remedy` says what to do."""

    def __init__(self, reason_code: PlanProblem, field: PlanField, value: Any, message: str, remedy: str) -> None:
        super().__init__(message)
        self.reason_code = reason_code
        self.field = field
        self.value = shown(value, _SHOWN)
        self.message = message
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class PlannedInput:
    """A parameter that takes outputs: of which tasks, in the order of their partitions; `many`: as a dict by partition.

    In a rerun they may be tasks of its parent that are not made again.
    """

    argument: str
    many: bool
    task_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """A task: the asset that it makes, the partition of it, the tasks it waits for, and what its parameters take.

    `asset` may be a task of the pipeline instead, which is run.
    """

    key: str
    asset: DeployedNode
    partition_key: str | None
    depends_on: tuple[str, ...]
    inputs: tuple[PlannedInput, ...] = ()


def plan_tasks(
    manifest: DeployedManifest, assets: Sequence[str], partitions: Sequence[str] | None
) -> list[PlannedTask]:
    """Return the tasks that make some assets, each behind those that it waits for.

    Args:
        manifest: the definitions.
        assets: keys of assets and tasks. Whatever their order, the plan is the same. Tasks that they need come along.
        partitions: keys of partitions: each is made of every asset that has it. None or empty for assets without.

    Raises `CannotPlan`.
    """
    known = manifest.nodes
    if not assets:
        raise CannotPlan(
            PlanProblem.EMPTY_SELECTION, "assets", [], "no asset is selected", "Select at least one, such as '*'."
        )
    for key in assets:
        if key not in known:
            raise _unknown_asset(key, known)
    wanted = with_tasks(known, assets)
    chosen = [asset for asset in known.values() if asset.key in wanted]
    for asset in chosen:
        for one in asset.dependencies:
            if one.argument is not None and one.asset not in wanted:
                raise CannotPlan(
                    PlanProblem.INPUT_NOT_SELECTED,
                    "assets",
                    asset.key,
                    f"{asset.key} takes the output of {one.asset} as {one.argument}, and {one.asset} is not selected",
                    f"Select {one.asset} too, for example by '*{asset.key}'.",
                )
    made = _Made(known, _partitions_of(chosen, list(dict.fromkeys(partitions or ()))))
    return _plan(made, made)


def plan_again(manifest: DeployedManifest, parent: Iterable[str], again: Collection[str]) -> list[PlannedTask]:
    """Return the tasks of a rerun: those of its parent that are to be made again.

    Args:
        manifest: the definitions.
        parent: the keys of all tasks of the parent, from which parameters may take outputs.
        again: the keys of those to make.

    Raises `CannotPlan`.
    """
    known = manifest.nodes
    before = set(parent)
    if not again:
        raise CannotPlan(PlanProblem.EMPTY_SELECTION, "tasks", [], "no task is to be made", "Name at least one task.")
    for key in again:
        if key not in before:
            raise CannotPlan(
                PlanProblem.UNKNOWN_TASK,
                "tasks",
                key,
                f"the run has no task {_short(key)}",
                f"{meant(key, before)}Give keys of its tasks.",
            )
    # A task that has left the definitions is no input any more, and only those that are made again must be there.
    return _plan(_Made(known, _keys_of(known, before, again)), _Made(known, _keys_of(known, again, again)))


def left_to_do(states: Mapping[str, str]) -> list[str]:
    """Return the keys of the tasks that a rerun of what failed makes: of all that did not succeed, in order."""
    return sorted(key for key, state in states.items() if state != SUCCEEDED)


_Keys = Mapping[str, Sequence[str] | None]
"""Assets by key, with the keys of their partitions; None for an asset without."""


class _Made:
    """Assets and partitions that are made, ready to be looked up."""

    def __init__(self, known: Mapping[str, DeployedNode], keys: _Keys) -> None:
        self.assets = {key: asset for key, asset in known.items() if key in keys}
        self.partitions: dict[str, SomePartitions | None] = {}
        for key, asset in self.assets.items():
            of = keys[key]
            cut = None if asset.partitions is None or of is None else SomePartitions.of(asset.partitions, of)
            self.partitions[key] = cut

    def tasks_of(self, asset: str) -> tuple[str | None, ...]:
        some = self.partitions[asset]
        return (None,) if some is None else some.keys


def _partitions_of(chosen: Sequence[DeployedNode], asked: Sequence[str]) -> _Keys:
    """Return which of the partitions asked for each asset has. Raises `CannotPlan`."""
    cut = [asset for asset in chosen if asset.partitions is not None]
    if asked and not cut:
        raise CannotPlan(
            PlanProblem.NO_PARTITIONS,
            "partitions",
            asked[0],
            f"partitions are asked for, and {named(asset.key for asset in chosen)} have none",
            "Leave partitions out.",
        )
    keys: dict[str, list[str] | None] = {asset.key: None for asset in chosen if asset.partitions is None}
    total = len(keys)
    used: set[str] = set()
    # Many assets have the same partitions: thousands of keys are judged once for all of them.
    valid: dict[Partitions, list[str]] = {}
    for asset in cut:
        assert asset.partitions is not None
        if asset.partitions not in valid:
            valid[asset.partitions] = _valid(asset.partitions, asked)
        found = keys[asset.key] = valid[asset.partitions]
        used.update(found)
        total += len(found)
        if total > MAX_TASKS:
            raise _too_many(total)
    if not asked and cut:
        raise _partition_missing(cut[0], asked)
    for key in asked:
        if key not in used:
            assert cut[0].partitions is not None
            problem = cut[0].partitions.problem_of_key(key)
            others = "" if len(cut) == 1 else f", and no other selected asset has it ({named(a.key for a in cut)})"
            raise CannotPlan(
                PlanProblem.UNKNOWN_PARTITION,
                "partitions",
                key,
                f"partition {_short(key)} {problem} ({cut[0].key}){others}",
                "Give keys of partitions that there are.",
            )
    for asset in cut:
        if not keys[asset.key]:
            raise _partition_missing(asset, asked)
    if total > MAX_TASKS:
        raise _too_many(total)
    return keys


def _valid(partitions: Partitions, asked: Sequence[str]) -> list[str]:
    if partitions.kind is PartitionKind.STATIC:
        there = set(partitions.keys)
        return [key for key in asked if key in there]
    return [key for key in asked if partitions.problem_of_key(key) is None]


def _keys_of(known: Mapping[str, DeployedNode], tasks: Iterable[str], again: Collection[str]) -> _Keys:
    """Return the assets and partitions that tasks make, of those that are defined; all of `again` must be."""
    keys: dict[str, list[str] | None] = {}
    for task in sorted(tasks):
        parsed = parse_task_key(task)
        asset = None if parsed is None else known.get(parsed[0])
        if parsed is None or asset is None:
            if task in again:
                raise _unknown_asset(task if parsed is None else parsed[0], known, "tasks")
            continue
        partition = parsed[1]
        fits = (asset.partitions is None) == (partition is None)
        if not fits or (partition is not None and asset.partitions and asset.partitions.problem_of_key(partition)):
            if task in again:
                raise CannotPlan(
                    PlanProblem.UNKNOWN_PARTITION,
                    "tasks",
                    task,
                    f"the definitions have no task {_short(task)} any more: the partitions of {asset.key} have changed",
                    "Start a new run of the asset.",
                )
            continue
        if partition is None:
            keys[asset.key] = None
        else:
            found = keys.setdefault(asset.key, [])
            assert found is not None
            found.append(partition)
    return keys


def _plan(known: _Made, made: _Made) -> list[PlannedTask]:
    """Return the tasks that make `made`; parameters take outputs of all that is in `known`."""
    upstream = {key: [one.asset for one in asset.dependencies] for key, asset in made.assets.items()}
    try:
        order = topological_order(upstream)
    except ValueError:
        raise _unusable("the selected assets depend on each other in a circle") from None
    total = sum(len(made.tasks_of(key)) for key in order)
    if total > MAX_TASKS:
        raise _too_many(total)
    tasks: list[PlannedTask] = []
    size = 0
    for key in order:
        asset = made.assets[key]
        edges = [_Edge(asset, number, known, made) for number in range(len(asset.dependencies))]
        needs = [edge for edge in edges if edge.is_known]
        for partition in made.tasks_of(key):
            task = _task(asset, partition, needs)
            tasks.append(task)
            size += len(msgspec.json.encode(task_definition(task))) + 1
            if size > MAX_PLAN_BYTES:
                raise CannotPlan(
                    PlanProblem.PLAN_TOO_LARGE,
                    "partitions" if partition is not None else "assets",
                    total,
                    f"the plan of {total} tasks is longer than {MAX_PLAN_BYTES // 1024} KiB, the most",
                    "Ask for fewer assets or partitions at a time: several runs, or a backfill.",
                )
    return tasks


class _Edge:
    """A dependency of an asset on another one: which tasks each of its partitions needs."""

    def __init__(self, asset: DeployedNode, number: int, known: _Made, made: _Made) -> None:
        one = asset.dependencies[number]
        self.upstream = one.asset
        self.argument = one.argument
        self.is_known = one.asset in known.assets
        self.many = False
        self._asset = asset
        self._some = known.partitions.get(one.asset)
        self._made = {task_key(one.asset, key) for key in made.tasks_of(one.asset)} if one.asset in made.assets else ()
        if self.is_known:
            mapping = effective_mapping(one.mapping, known.assets[one.asset].partitions, asset.partitions)
            if isinstance(mapping, FieldProblem):
                raise _unusable(f"{asset.key} cannot depend on {one.asset}: {mapping.message}")
            self._mapping = mapping
            self.many = self._some is not None and mapping.many(self._some.partitions, asset.partitions)

    def needed(self, partition: str | None) -> tuple[str, ...]:
        """Return the keys of the tasks that a partition needs."""
        if self._some is None:
            return (task_key(self.upstream),)
        found = needed_keys(self._mapping, self._some, self._asset.partitions, partition)
        return tuple(task_key(self.upstream, key) for key in found)

    def planned(self, needed: tuple[str, ...]) -> tuple[str, ...]:
        """Return those of the tasks that are made."""
        return tuple(key for key in needed if key in self._made)


def _task(asset: DeployedNode, partition: str | None, edges: Sequence[_Edge]) -> PlannedTask:
    depends_on: list[str] = []
    inputs: list[PlannedInput] = []
    for edge in edges:
        needed = edge.needed(partition)
        depends_on += edge.planned(needed)
        if edge.argument is not None:
            if not edge.many and not needed:
                raise CannotPlan(
                    PlanProblem.INPUT_NOT_SELECTED,
                    "assets" if partition is None else "partitions",
                    partition,
                    f"{task_key(asset.key, partition)} takes an output of {edge.upstream} as {edge.argument}, "
                    f"and the partition of {edge.upstream} that it needs is not one that the run makes",
                    "Ask for partitions that both assets have.",
                )
            inputs.append(PlannedInput(edge.argument, edge.many, needed))
    return PlannedTask(
        task_key(asset.key, partition), asset, partition, tuple(dict.fromkeys(depends_on)), tuple(inputs)
    )


def task_definition(task: PlannedTask) -> TaskDefinition:
    """Return a task as its plan has it.

    Its attempts are more than its retries allow: an attempt that is lost with its worker is no try of the user's. The
    run ends those that are, by an error that is not retryable.
    """
    heartbeat_ms = task.asset.heartbeat_ms or 0
    return TaskDefinition(
        key=task.key,
        depends_on=list(task.depends_on),
        asset_key=task.asset.asset_key,
        partition_key=task.partition_key,
        max_attempts=task.asset.retries + 1 + LOST_ATTEMPTS,
        heartbeat_timeout_sec=max(LEAST_HEARTBEAT_SEC, -(-heartbeat_ms // 1_000)),
    )


@dataclass(frozen=True, slots=True)
class RunOrigin:
    """Where a run comes from: the request, and what it says.

    `request_event_id`: the event of the request. `manifest_id`: the definitions that it names.
    """

    run_id: str
    run_key: str
    trigger: Trigger
    root_assets: Sequence[str]
    manifest_id: str | None
    request_event_id: str | None = None
    labels: Mapping[str, str] | None = None
    config: Mapping[str, Any] | None = None
    effects_scope: str | None = None


def plan_events(origin: RunOrigin, tasks: Sequence[PlannedTask]) -> tuple[RunTriggered, PlanCreated]:
    """Return the events that begin a run: it exists, and these are its tasks."""
    plan = PlanCreated(
        run_id=origin.run_id,
        plan_id=plan_id_of_run(origin.run_id),
        tasks=[task_definition(task) for task in tasks],
        springline=_plain(PlanCreatedMember(manifest_id=origin.manifest_id)),
    )
    return _triggered(origin), plan


def unplanned_run_events(
    origin: RunOrigin, reason_code: str, message: str | None, requested_by: str = SEQUENCER
) -> tuple[RunTriggered, RunCancelRequested]:
    """Return the events of a run that gets no plan: it exists, and it is cancelled, for a reason."""
    cancel = RunCancelRequested(
        run_id=origin.run_id,
        requested_by=requested_by,
        reason=message,
        springline=_plain(CancelMember(reason_code=reason_code)),
    )
    return _triggered(origin), cancel


def _triggered(origin: RunOrigin) -> RunTriggered:
    member = RunTriggeredMember(
        request_event_id=origin.request_event_id,
        effects_scope=origin.effects_scope,
        config=dict(origin.config) if origin.config else None,
    )
    return RunTriggered(
        run_id=origin.run_id,
        plan_id=plan_id_of_run(origin.run_id),
        trigger=origin.trigger,
        root_assets=list(origin.root_assets),
        run_key=origin.run_key,
        labels=dict(origin.labels or {}),
        code_version=origin.manifest_id,
        springline=_plain(member),
    )


def _plain(member: EventMember) -> dict[str, Any] | None:
    plain: dict[str, Any] = msgspec.to_builtins(member)
    return plain or None


def _unknown_asset(key: str, known: Mapping[str, DeployedNode], field: PlanField = "assets") -> CannotPlan:
    return CannotPlan(
        PlanProblem.UNKNOWN_ASSET,
        field,
        key,
        f"there is no asset {_short(key)}",
        f"{meant(key, known)}There are {named(sorted(known))}.",
    )


def _partition_missing(asset: DeployedNode, asked: Sequence[str]) -> CannotPlan:
    assert asset.partitions is not None
    example = asset.partitions.key_at(0)
    if not asked:
        said = f"{asset.key} has {asset.partitions.kind} partitions, and none is asked for"
    else:
        problem = asset.partitions.problem_of_key(asked[0])
        said = f"none of the partitions asked for is one of {asset.key}: {_short(asked[0])} {problem}"
    return CannotPlan(
        PlanProblem.PARTITION_MISSING,
        "partitions",
        list(asked),
        said,
        f"Give the keys of its partitions, such as {example!r}, or leave the asset out.",
    )


def _too_many(total: int) -> CannotPlan:
    return CannotPlan(
        PlanProblem.TOO_MANY_TASKS,
        "partitions",
        total,
        f"the run would have {total} tasks or more, and {MAX_TASKS} is the most",
        "Ask for fewer partitions at a time, or for a backfill.",
    )


def _unusable(said: str) -> CannotPlan:
    return CannotPlan(PlanProblem.MANIFEST_UNUSABLE, "manifest", None, said, "Deploy the definitions again.")


def _short(text: str) -> str:
    return repr(shown(text, _SHOWN))
