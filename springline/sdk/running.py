"""`materialize`: making assets in this process, for tests and for looking at results. No server takes part.

Assets are made one after the other, each behind what it depends on. An asset that fails is tried again as often as it
says, without a pause; what depends on it is skipped, and everything else is made all the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from os import PathLike
from types import ModuleType
from typing import Any

from springline.definitions.durations import duration_text
from springline.definitions.graph import topological_order
from springline.definitions.ids import meant, named, task_key
from springline.definitions.inputs import needed_of
from springline.definitions.mappings import PartitionMapping, SomePartitions, effective_mapping, needed_keys
from springline.definitions.partitions import FieldProblem
from springline.definitions.selection import BadSelection, select_nodes
from springline.sdk.attempting import Attempted, Attempts, outside_of_any_loop
from springline.sdk.checks import CheckOutcome
from springline.sdk.configs import config_of, plain_config
from springline.sdk.context import Context, problem_of_metadata
from springline.sdk.declaring import DECLARED_NODES, DeclaredNode, External
from springline.sdk.errors import (
    ConfigRefused,
    InvalidConfig,
    InvalidDefinitions,
    InvalidRequest,
    NonRetryable,
    SdkError,
)
from springline.sdk.outputs import NotStorable, decoded, encoded, not_storable
from springline.sdk.resolving import Pipeline, ResolvedEdge, ResolvedNode, assets_of, resolve
from springline.sdk.tables import TablesOfAttempt, TablesOfRun, WriteHandle

AnyNode = DeclaredNode[..., Any]


class AssetStatus(StrEnum):
    """How an asset ended."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"


@dataclass(frozen=True, slots=True)
class AssetResult:
    """What became of one asset, or of one task.

    Attributes:
        kind: "asset" or "task".
        value: what its function returned, in the attempt that succeeded.
        error: what the last attempt raised.
        attempts: how many there were; 0 if it was skipped.
        duration_s: seconds of all attempts together.
        skipped_by: the asset that has no output, and that this one needs.
        metadata: what the last attempt told by `context.add_metadata`.
        progress: what it told last by `context.progress`.
        writes: what it has written to tables, in order, with the versions.
        checks: what its checks have found in the last attempt, in order.
    """

    key: str
    status: AssetStatus
    partition_key: str | None = None
    value: Any = None
    error: BaseException | None = None
    attempts: int = 0
    duration_s: float = 0.0
    skipped_by: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    progress: tuple[float, str | None] | None = None
    writes: Sequence[WriteHandle] = ()
    checks: Sequence[CheckOutcome] = ()
    kind: str = "asset"


@dataclass(frozen=True, slots=True)
class MaterializeResult:
    """What became of every asset that was selected, and of the tasks among them, by key, in the order of their turns.

    `assets` has them all; `kind` says which are tasks.
    """

    run_id: str
    assets: Mapping[str, AssetResult]

    @property
    def success(self) -> bool:
        """Say whether every asset succeeded."""
        return all(one.status is AssetStatus.SUCCEEDED for one in self.assets.values())

    @property
    def failed(self) -> list[str]:
        """The keys of the assets that failed."""
        return [key for key, one in self.assets.items() if one.status is AssetStatus.FAILED]

    @property
    def skipped(self) -> list[str]:
        """The keys of the assets that were skipped."""
        return [key for key, one in self.assets.items() if one.status is AssetStatus.SKIPPED]

    def __getitem__(self, asset: str | AnyNode) -> AssetResult:
        """Return what became of an asset, given by key or as an object; raises `KeyError`."""
        key = asset.key if isinstance(asset, DeclaredNode) else asset
        try:
            return self.assets[key]
        except KeyError:
            raise KeyError(f"{key} was not selected; there are {named(self.assets)}") from None

    def value(self, asset: str | AnyNode) -> Any:
        """Return what an asset's function returned; raises its error if it failed, `KeyError` if it has no output."""
        found = self[asset]
        if found.error is not None:
            raise found.error
        if found.status is not AssetStatus.SUCCEEDED:
            raise KeyError(f"{found.key} was skipped, because {found.skipped_by} has no output")
        return found.value


class MaterializeFailed(SdkError):
    """At least one asset failed. `result` has what became of each; the first asset's error is the cause."""

    def __init__(self, result: MaterializeResult) -> None:
        super().__init__(result)
        self.result = result

    def __str__(self) -> str:
        lines = []
        for one in self.result.assets.values():
            if one.error is not None:
                lines.append(f"{one.key} failed in attempt {one.attempts}: {_line(one.error)}")
            elif one.skipped_by is not None:
                lines.append(f"{one.key} was skipped, because {one.skipped_by} has no output")
        return "\n".join(lines)


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def materialize(
    assets: AnyNode | ModuleType | Iterable[AnyNode],
    select: str | AnyNode | Iterable[str | AnyNode] = "*",
    *,
    partition_key: str | None = None,
    config: Mapping[str, Any] | None = None,
    inputs: Mapping[Any, Any] | None = None,
    run_id: str | None = None,
    tables: str | PathLike[str] | None = None,
    raise_on_error: bool = True,
) -> MaterializeResult:
    """Make assets in this process, and return what became of each.

    A parameter takes what a run would hand over: the output as it comes back from JSON or as a frame, tuples as lists.
    An output that a run could not keep for those who take it fails its asset.

    Works beside a running event loop, too, as in an async test: it then blocks it until the end.

    Args:
        assets: a module with assets and tasks, or these.
        select: which of them: keys or assets; `*delays` is it and all that it depends on, `raw_flights*` it and all
            that depends on it, `*` everything. The tasks that they need run with them.
        partition_key: the partition to make of the assets that have it. Of another one that these need, such as a day
            for the pair `2024-01-31|eu`, the partition that they need is made, if it is one.
        config: what functions find in `context.config`, judged as that of a run: JSON without fractions.
        inputs: outputs of assets that are not selected, by key or asset, for parameters that take them.
        run_id: what functions find in `context.run_id`; made up by default.
        tables: a folder for what functions write and read by `context.table`. Each table is a Delta folder in it,
            `FOLDER/NAME`, which stays. A task's writes are there as soon as its function has returned, as in the lake;
            an attempt that fails has written nothing.
        raise_on_error: raise `MaterializeFailed` at the end if an asset failed.

    An async function's attempt is cancelled when its timeout is over. That of a function without `async` runs to its
    end, because nothing in this process could stop it, and counts as failed then.

    Raises `InvalidDefinitions` for assets that are written wrongly, `InvalidRequest` for arguments that cannot be
    meant, such as `InvalidConfig` for a config that a selected asset's model refuses; nothing runs then.
    """
    import secrets  # noqa: PLC0415 - importing the library must be quick

    if DECLARED_NODES.are_collected:
        raise InvalidRequest("materialize is called while the file is imported: put it below if __name__ == '__main__'")
    pipeline = resolve(assets_of(assets if isinstance(assets, ModuleType | DeclaredNode) else list(assets)))
    if pipeline.problems:
        raise InvalidDefinitions(pipeline.problems)
    chosen = _selected(pipeline, select)
    lake = None if tables is None else _lake_of(tables)
    run = _Run(
        pipeline,
        {key: one for key, one in pipeline.nodes.items() if key in chosen},
        partition_key,
        plain_config(config or {}),
        _by_key(inputs or {}),
        run_id or f"run_{secrets.token_hex(16)}",
        lake,
    )
    run.check()
    try:
        result = outside_of_any_loop(run.make)
    finally:
        if lake is not None:
            lake.close()
    if raise_on_error and result.failed:
        raise MaterializeFailed(result) from result[result.failed[0]].error
    return result


def _selected(pipeline: Pipeline, wanted: str | AnyNode | Iterable[str | AnyNode]) -> set[str]:
    terms = [wanted] if isinstance(wanted, str | DeclaredNode) else list(wanted)
    if not pipeline.nodes:
        raise InvalidRequest("there are no assets: give a module that has some, or assets")
    try:
        return select_nodes(pipeline.nodes, [one.key if isinstance(one, DeclaredNode) else one for one in terms])
    except BadSelection as error:
        raise InvalidRequest(str(error)) from None


def _by_key(inputs: Mapping[Any, Any]) -> dict[str, Any]:
    return {one.key if isinstance(one, DeclaredNode | External) else str(one): value for one, value in inputs.items()}


class _Run:
    """The making of the selected assets."""

    def __init__(
        self,
        pipeline: Pipeline,
        chosen: Mapping[str, ResolvedNode],
        partition_key: str | None,
        config: Mapping[str, Any],
        inputs: Mapping[str, Any],
        run_id: str,
        lake: TablesOfRun | None,
    ) -> None:
        self._lake = lake
        self._pipeline = pipeline
        self._chosen = chosen
        self._partition_key = partition_key
        self._keys: dict[str, str] = {}
        # As a worker sees it, who takes an output and whether they are selected is all the same.
        edges = [edge for one in pipeline.nodes.values() for edge in one.dependencies]
        self._taken = {edge.asset for edge in edges if edge.argument is not None}
        self._outputs: dict[str, Any] = {}
        self._config = config
        self._inputs = inputs
        self._run_id = run_id
        self._results: dict[str, AssetResult] = {}
        self._attempts = Attempts()

    def check(self) -> None:
        """Raise `InvalidRequest` if the call cannot be meant."""
        partitioned = [one for one in self._chosen.values() if one.partitions is not None]
        if self._partition_key is not None and not partitioned:
            raise InvalidRequest(
                f"partition_key is {self._partition_key!r}, and {named(self._chosen)} have no partitions: leave it out"
            )
        for one in partitioned:
            assert one.partitions is not None
            if self._partition_key is None:
                raise InvalidRequest(f"{one.key} has {one.partitions.kind} partitions: give the partition_key to make")
            if one.partitions.problem_of_key(self._partition_key) is None:
                self._keys[one.key] = self._partition_key
        if partitioned:
            self._find_keys(partitioned)
        for one in self._chosen.values():
            for edge in one.dependencies:
                if edge.argument is not None and edge.asset not in self._chosen and edge.asset not in self._inputs:
                    raise InvalidRequest(
                        f"{one.key} takes the output of {edge.asset}, which is not selected: select it, or give "
                        f"inputs={{{edge.asset!r}: ...}}"
                    )
        known = {edge.asset for one in self._pipeline.nodes.values() for edge in one.dependencies}
        for key in self._inputs:
            if key in self._chosen:
                raise InvalidRequest(f"inputs has an output for {key}, which is selected itself: leave out one of them")
            if key not in known:
                raise InvalidRequest(f"inputs has an output for {key!r}, which nothing depends on. {meant(key, known)}")
        self._check_config()

    def _check_config(self) -> None:
        """Raise `InvalidConfig` with everything that the models of what is made refuse."""
        told: list[str] = []
        for one in self._chosen.values():
            if one.declared.config_model is None:
                continue
            try:
                config_of(one.declared.config_model, self._config, one.key)
            except ConfigRefused as error:
                told.append(str(error))
            except (Exception, SystemExit):
                # What a validator raises of its own is its attempt's error.
                continue
        if told:
            raise InvalidConfig("\n".join(told))

    def _find_keys(self, partitioned: Sequence[ResolvedNode]) -> None:
        """Find the partition of each asset that does not have the one to make: the one that what is behind it needs."""
        now = datetime.now(UTC)
        needed: dict[str, dict[str, str]] = {one.key: {} for one in partitioned}
        for key in reversed(self._order()):
            one = self._chosen[key]
            if one.partitions is not None and key not in self._keys:
                self._keys[key] = self._the_one(one, needed[key])
            for edge in one.dependencies:
                above = self._chosen.get(edge.asset)
                if above is None or above.partitions is None or above.key in self._keys:
                    continue
                found = needed_of(self._mapping(one, edge), above.partitions, one.partitions, self._keys.get(key), now)
                needed[above.key].update(dict.fromkeys(found, key))

    def _order(self) -> Sequence[str]:
        """Return the keys of what is made, each behind what it needs: a circle is told before there is a run."""
        return topological_order({key: [edge.asset for edge in one.dependencies] for key, one in self._chosen.items()})

    def _the_one(self, one: ResolvedNode, needed: Mapping[str, str]) -> str:
        """Return the partition that is needed of an asset, by what needs each; raises `InvalidRequest` if none is."""
        assert one.partitions is not None
        assert self._partition_key is not None
        if len(needed) > 1:
            some = ", ".join(repr(key) for key in list(needed)[:3])
            raise InvalidRequest(
                f"with partition_key {self._partition_key!r}, {next(iter(needed.values()))} needs {len(needed)} "
                f"partitions of {one.key} ({some}{', ...' if len(needed) > 3 else ''}), and materialize makes one of "
                f"each: have a run make them, or leave {one.key} out and give inputs={{{one.key!r}: {{...}}}}"
            )
        key = next(iter(needed), self._partition_key)
        problem = one.partitions.problem_of_key(key)
        if problem is not None:
            raise InvalidRequest(f"partition_key {key!r} {problem} ({one.key})")
        return key

    def make(self) -> MaterializeResult:
        """Make everything; no event loop is running."""
        try:
            for key in self._order():
                self._results[key] = self._made(self._chosen[key])
        finally:
            self._attempts.close()
        return MaterializeResult(self._run_id, dict(self._results))

    def _made(self, one: ResolvedNode) -> AssetResult:
        key = one.key
        partition = self._keys.get(key)
        for edge in one.dependencies:
            before = self._results.get(edge.asset)
            if before is not None and before.status is not AssetStatus.SUCCEEDED and self._is_needed(one, edge):
                return AssetResult(key, AssetStatus.SKIPPED, partition, skipped_by=edge.asset, kind=one.declared.kind)
        arguments = {edge.argument: self._input(one, edge) for edge in one.dependencies if edge.argument is not None}
        began = time.perf_counter()
        number = 0
        while True:
            number += 1
            tables = None if self._lake is None else self._lake.of_attempt(self._run_id, task_key(key, partition))
            context = Context(
                key,
                partition_key=partition,
                partitions=one.partitions,
                run_id=self._run_id,
                attempt=number,
                config=_as_its_own(self._config),
                tables=tables,
            )
            attempted = self._attempt(one.declared, context, arguments, tables)
            again = attempted.error is not None and not isinstance(attempted.error, NonRetryable)
            if not again or number > one.declared.retries:
                break
            context.log.warning("attempt %d of %s failed: %r", number, key, attempted.error)
        return AssetResult(
            key,
            AssetStatus.SUCCEEDED if attempted.error is None else AssetStatus.FAILED,
            partition,
            attempted.value,
            attempted.error,
            number,
            time.perf_counter() - began,
            metadata=context.metadata,
            progress=context.last_progress,
            writes=[] if tables is None else tables.handles,
            checks=attempted.checks,
            kind=one.declared.kind,
        )

    def _input(self, one: ResolvedNode, edge: ResolvedEdge) -> Any:
        if edge.asset in self._inputs:
            return self._inputs[edge.asset]
        above, key = self._chosen[edge.asset].partitions, self._keys.get(edge.asset)
        # As a function gets it where it may need many: a dict by partition key.
        many = above is not None and self._mapping(one, edge).many(above, one.partitions)
        if many and not self._is_needed(one, edge):
            return {}
        # Of its own, as for a function in another process: what one does to it no other one sees.
        value = decoded(*self._outputs[edge.asset])
        return {key: value} if many else value

    def _mapping(self, one: ResolvedNode, edge: ResolvedEdge) -> PartitionMapping:
        """Return how partitions of what is made above belong to those of an asset."""
        mapping = effective_mapping(edge.mapping, self._chosen[edge.asset].partitions, one.partitions)
        assert not isinstance(mapping, FieldProblem)
        return mapping

    def _is_needed(self, one: ResolvedNode, edge: ResolvedEdge) -> bool:
        """Say whether the partition that is made above is one that an asset needs: a window may lie beside it."""
        above, key = self._chosen[edge.asset].partitions, self._keys.get(edge.asset)
        if above is None or key is None:
            return True
        made = SomePartitions.of(above, [key])
        return key in needed_keys(self._mapping(one, edge), made, one.partitions, self._keys.get(one.key))

    def _attempt(
        self, asset: AnyNode, context: Context, arguments: Mapping[str, Any], tables: TablesOfAttempt | None
    ) -> Attempted:
        limit_s = None if asset.timeout_ms is None else asset.timeout_ms / 1_000
        began = time.perf_counter()
        made = self._attempts.make(asset, context, arguments, limit_s)
        late = made.error is None and limit_s is not None and time.perf_counter() - began > limit_s
        if made.timed_out or late:
            made = Attempted(error=_too_long(asset))
        if made.error is None:
            made = self._kept(asset, context, made)
        if tables is None:
            return made
        if made.error is not None:
            tables.discard()
            return made
        try:
            tables.commit()
        except Exception as error:
            return Attempted(error=error)
        return made

    def _kept(self, asset: AnyNode, context: Context, made: Attempted) -> Attempted:
        """Keep an output for what takes it, as a worker does: an attempt fails whose output or metadata cannot be."""
        problem = problem_of_metadata(asset.key, context.metadata)
        if problem is not None:
            return Attempted(error=NonRetryable(problem[0]), checks=made.checks)
        if asset.key not in self._taken:
            return made
        try:
            self._outputs[asset.key] = encoded(made.value)
        except NotStorable as error:
            return Attempted(error=NonRetryable(not_storable(asset.key, error)), checks=made.checks)
        return made


def _as_its_own(value: Any) -> Any:
    """Return a config in dicts and lists of its own, as each process has it: what one does to it no other one sees."""
    if isinstance(value, dict):
        return {key: _as_its_own(one) for key, one in value.items()}
    return [_as_its_own(one) for one in value] if isinstance(value, list) else value


def _lake_of(folder: str | PathLike[str]) -> TablesOfRun:
    from springline.client.task_tables import FolderTables  # noqa: PLC0415 - only who uses tables waits for its import

    return FolderTables(folder)


def _too_long(asset: AnyNode) -> TimeoutError:
    assert asset.timeout_ms is not None
    return TimeoutError(f"{asset.key} took longer than its timeout, {duration_text(asset.timeout_ms)}")
