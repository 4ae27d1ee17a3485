"""Making a graph of declared assets: which asset each name and each parameter means, and everything that is wrong."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from springline.definitions.graph import upstream_of
from springline.definitions.ids import meant, named
from springline.definitions.judging import judge_graph, unknown_dependency
from springline.definitions.limits import MAX_ASSETS, MAX_SCHEDULES, MAX_SENSORS
from springline.definitions.mappings import PartitionMapping, have_equal_keys
from springline.definitions.partitions import Partitions
from springline.definitions.schedules import selection_problem
from springline.definitions.selection import select_nodes
from springline.sdk.declaring import DeclaredNode, Dep, External
from springline.sdk.errors import SourceProblem
from springline.sdk.schedules import Schedule
from springline.sdk.sensors import Sensor
from springline.sdk.tasks import Task

AnyNode = DeclaredNode[..., Any]
_NAME_NO_PARTITION: Final = {
    "table": "a sensor of a table",
    "objects": "a sensor of objects",
    "run": "a sensor of runs",
}
"""Ready-made sensors whose runs name no partition, in words."""


@dataclass(frozen=True, slots=True)
class ResolvedEdge:
    """A dependency by key; `argument` is the parameter that takes its output, if one does."""

    asset: str
    mapping: PartitionMapping | None
    argument: str | None


@dataclass(frozen=True, slots=True)
class ResolvedNode:
    """An asset or a task whose dependencies are known."""

    declared: AnyNode
    dependencies: tuple[ResolvedEdge, ...]

    @property
    def key(self) -> str:
        """Its key."""
        return self.declared.key

    @property
    def asset_key(self) -> str | None:
        """Its key if it is an asset, None for a task."""
        return None if isinstance(self.declared, Task) else self.declared.key

    @property
    def partitions(self) -> Partitions | None:
        """Its partitions, None if it has none."""
        return self.declared.partitions

    @property
    def url(self) -> str | None:
        """Where it is made over HTTP, None if a function makes it."""
        return self.declared.url


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Assets and tasks by key, and schedules, in the order of their declaration, and what is wrong with them."""

    nodes: Mapping[str, ResolvedNode]
    problems: list[SourceProblem]
    schedules: Sequence[Schedule] = ()
    pools: Mapping[str, int] = field(default_factory=dict)
    """Slots of the pools that the file declares, by name."""
    sensors: Sequence[Sensor] = ()

    @property
    def assets(self) -> dict[str, ResolvedNode]:
        """The assets alone, by key."""
        return {key: one for key, one in self.nodes.items() if one.asset_key is not None}

    @property
    def tasks(self) -> dict[str, ResolvedNode]:
        """The tasks alone, by key."""
        return {key: one for key, one in self.nodes.items() if one.asset_key is None}

    @property
    def upstream(self) -> dict[str, list[str]]:
        """For each asset and task those of the pipeline that it depends on."""
        return upstream_of(self.nodes)


def assets_of(source: Any) -> list[AnyNode]:
    """Return the assets and tasks of a module, or of anything that holds some, in order; each once.

    Of a module: what is bound to a name in it, alone or in a list, tuple or dict, imported assets included.
    """
    if isinstance(source, ModuleType):
        source = list(vars(source).values())
    found: dict[int, AnyNode] = {}
    for one in _flat(source, 0):
        found.setdefault(id(one), one)
    return list(found.values())


def schedules_of(module: ModuleType) -> list[Schedule]:
    """Return the schedules that are bound to names in a module, in order; each once."""
    return list({id(one): one for one in vars(module).values() if isinstance(one, Schedule)}.values())


def sensors_of(module: ModuleType) -> list[Sensor]:
    """Return the sensors that are bound to names in a module, in order; each once."""
    return list({id(one): one for one in vars(module).values() if isinstance(one, Sensor)}.values())


def _flat(source: Any, depth: int) -> Iterable[AnyNode]:
    if isinstance(source, DeclaredNode):
        yield source
    elif depth < 3 and isinstance(source, dict):
        for one in list(source.values()):
            yield from _flat(one, depth + 1)
    elif depth < 3 and isinstance(source, list | tuple | set | frozenset):
        for one in source:
            yield from _flat(one, depth + 1)


def resolve(
    declared: Iterable[AnyNode], schedules: Sequence[Schedule] = (), sensors: Sequence[Sensor] = ()
) -> Pipeline:
    """Return the graph of assets, and all problems: with each declaration by itself, and between them."""
    problems: list[SourceProblem] = []
    by_key: dict[str, AnyNode] = {}
    universe = list(declared)
    for one in universe:
        problems += one.problems
        first = by_key.setdefault(one.key, one)
        if first is not one:
            where = f"{Path(first.file).name}:{first.line}"
            problems.append(one.problem(f"has the key of the {first.kind} at {where}", "Give each a key of its own."))
    if len(by_key) > MAX_ASSETS:
        first = universe[0]
        problems.append(
            SourceProblem(
                first.file, None, f"there are {len(by_key)} assets, and {MAX_ASSETS} is the most", "Use partitions."
            )
        )
    names = _Names(by_key)
    resolved = {key: ResolvedNode(one, _edges(one, names, problems)) for key, one in by_key.items()}
    graph = Pipeline(resolved, problems, schedules, sensors=sensors)
    problems += [
        resolved[one.asset].declared.problem(one.message, one.remedy)
        for one in judge_graph(resolved, elsewhere=names.elsewhere)
    ]
    ids = [one.schedule_id for one in schedules]
    problems += _problems_of_selecting("schedule", schedules, ids, MAX_SCHEDULES, resolved, names.elsewhere)
    ids = [one.sensor_id for one in sensors]
    problems += _problems_of_selecting("sensor", sensors, ids, MAX_SENSORS, resolved, names.elsewhere)
    problems.sort(key=lambda one: (one.file, one.line or 0))
    return graph


def _problems_of_selecting(
    kind: str,
    declared: Sequence[Schedule | Sensor],
    ids: Sequence[str],
    most: int,
    assets: Mapping[str, ResolvedNode],
    elsewhere: Collection[str],
) -> Iterable[SourceProblem]:
    """Yield what is wrong with schedules, or with sensors: by themselves, their ids, what they select, how many."""
    by_id: dict[str, Schedule | Sensor] = {}
    for one, its_id in zip(declared, ids, strict=True):
        yield from one.problems
        first = by_id.setdefault(its_id, one)
        if first is not one:
            where = f"{Path(first.file).name}:{first.line}"
            yield one.problem(f"has the id of the {kind} at {where}", "Give each an id of its own.")
        own = [term for term in one.select if term.strip("*") not in elsewhere]
        problem = selection_problem(assets, own) if own else None
        if problem is not None:
            yield one.problem(f"cannot be: {problem.message}", problem.remedy)
        watched = assets.get(one.asset or "") if isinstance(one, Sensor) else None
        if watched is not None and watched.asset_key is None:
            said = f"watches {watched.key}, which is a task and is never materialized"
            yield one.problem(said, "Watch an asset; or watch runs, by run_sensor.")
        elif watched is not None and problem is None and own:
            yield from _problems_of_watching(one, watched, select_nodes(assets, own), assets)
        elif isinstance(one, Sensor) and one.kind in _NAME_NO_PARTITION and problem is None and own:
            yield from _problems_of_partitions(one, select_nodes(assets, own), assets)
    if len(declared) > most:
        yield declared[0].problem(f"is one of {len(declared)}, and {most} is the most", f"Use fewer {kind}s.")


def _problems_of_watching(
    one: Schedule | Sensor, watched: ResolvedNode, chosen: Collection[str], assets: Mapping[str, ResolvedNode]
) -> Iterable[SourceProblem]:
    """Yield what is wrong with a sensor whose runs make the partition of the asset that it watches."""
    if watched.key in chosen:
        said = f"watches {watched.key}, and the runs that it asks for make it: each would ask for the next one"
        yield one.problem(said, "Select what lies behind it without it, or watch another asset.")
    for key in sorted(chosen):
        cut = assets[key].partitions
        if cut is not None and not have_equal_keys(watched.partitions, cut):
            said = f"asks for the partition of {watched.key} that was made, and {key} has none of its keys"
            yield one.problem(said, "Write a function by @sensor, whose RunRequest names the partitions.")
            return


def _problems_of_partitions(
    one: Sensor, chosen: Collection[str], assets: Mapping[str, ResolvedNode]
) -> Iterable[SourceProblem]:
    """Yield what is wrong with a ready-made sensor whose runs name no partition: none of them could be planned."""
    cut = next((key for key in sorted(chosen) if assets[key].partitions is not None), None)
    if cut is not None:
        said = f"cannot be: {cut} has partitions, and the runs that {_NAME_NO_PARTITION[one.kind]} asks for name none"
        yield one.problem(said, "Write a function by @sensor, whose RunRequest names the partitions.")


class _Names:
    """What the names of a pipeline mean."""

    def __init__(self, by_key: Mapping[str, AnyNode]) -> None:
        self.by_key = by_key
        self.members = {id(one) for one in by_key.values()}
        self.elsewhere: set[str] = set()
        self._by_function: dict[str, list[str]] = {}
        for key, one in by_key.items():
            self._by_function.setdefault(getattr(one.function, "__name__", key), []).append(key)

    def of_argument(self, asset: AnyNode, argument: str) -> list[str]:
        """Return the keys that a parameter may mean: one if it is clear, none if it means nothing."""
        keys = [one.target if isinstance(one.target, str) else one.target.key for one in asset.deps]
        own = [key for key in keys if argument in (key, key.rpartition(".")[2])]
        if own:
            return list(dict.fromkeys(own))
        if argument in self.by_key:
            return [argument]
        found = [key for key in self._by_function.get(argument, ()) if key != asset.key]
        if found:
            return found
        bound = getattr(asset.function, "__globals__", {}).get(argument)
        if isinstance(bound, External):
            self.elsewhere.add(bound.key)
            return [bound.key]
        return [bound.key] if isinstance(bound, DeclaredNode) and id(bound) in self.members else []


def _edges(asset: AnyNode, names: _Names, problems: list[SourceProblem]) -> tuple[ResolvedEdge, ...]:
    found: dict[str, ResolvedEdge] = {}
    for one in asset.deps:
        key = _key_of(asset, one, names, problems)
        if key is None:
            continue
        before = found.get(key)
        if before is not None and before.mapping != one.mapping:
            problems.append(asset.problem(f"maps {key} in two ways", "Name it once in deps."))
        found[key] = ResolvedEdge(key, one.mapping, None)
    for argument in asset.arguments:
        meanings = names.of_argument(asset, argument)
        if len(meanings) == 1:
            (key,) = meanings
            before = found.get(key)
            if before is not None and before.argument is not None:
                problems.append(
                    asset.problem(f"takes {key} twice, as {before.argument} and {argument}", "Take it once.")
                )
            found[key] = ResolvedEdge(key, None if before is None else before.mapping, argument)
        elif meanings:
            problems.append(
                asset.problem(
                    f"has the parameter {argument}, which may mean {' or '.join(meanings)}",
                    "Name the one that is meant in deps.",
                )
            )
        else:
            problems.append(_no_meaning(asset, argument, names))
    return tuple(found.values())


def _no_meaning(asset: AnyNode, argument: str, names: _Names) -> SourceProblem:
    if argument in ("self", "cls"):
        return asset.problem(
            f"has the parameter {argument}, as a method has",
            f"Write {asset.key} as a function of its own, outside of the class.",
        )
    if argument == "config":
        return asset.problem(
            "has the parameter config, and no asset is called that",
            f"The run's config is in context.config: take the parameter context; @{asset.kind}(config=Settings) gives "
            "it the types of a Pydantic model.",
        )
    others = [key for key in names.by_key if key != asset.key]
    near = meant(argument, others)
    more = (
        f"There are {named(sorted(others))}. A parameter names the asset whose output it takes, is called context, or "
        f"has a default; {argument} = external('{argument}') names an asset of another code location."
    )
    return asset.problem(f"has the parameter {argument}, and no asset is called that", near.strip() or more)


def _key_of(asset: AnyNode, one: Dep, names: _Names, problems: list[SourceProblem]) -> str | None:
    """Return the key of a dependency, None if it is a problem."""
    target = one.target
    if isinstance(target, External):
        names.elsewhere.add(target.key)
        return target.key
    if isinstance(target, DeclaredNode):
        if id(target) in names.members:
            return target.key
        if target.key in names.by_key:
            # Another declaration of the key is the one that counts, and a problem already.
            return target.key
        problems.append(
            asset.problem(
                f"depends on the asset {target.key} of {Path(target.file).name}, which is not part of the pipeline",
                f"Import {target.key} by name into the file; or, if another code location deploys it, "
                f"depend on external('{target.key}').",
            )
        )
        return None
    if target not in names.by_key:
        found = unknown_dependency(asset.key, target, list(names.by_key))
        problems.append(asset.problem(found.message, found.remedy))
        return None
    return str(target)
