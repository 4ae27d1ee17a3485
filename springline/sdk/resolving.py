"""Making a graph of declared assets: which asset each name and each parameter means, and everything that is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from springline.definitions.ids import meant, named
from springline.definitions.judging import judge_graph, unknown_dependency
from springline.definitions.limits import MAX_ASSETS
from springline.definitions.mappings import PartitionMapping
from springline.definitions.partitions import Partitions
from springline.sdk.assets import Asset, Dep, External
from springline.sdk.errors import SourceProblem

AnyAsset = Asset[..., Any]


@dataclass(frozen=True, slots=True)
class ResolvedEdge:
    """A dependency by key; `argument` is the parameter that takes its output, if one does."""

    asset: str
    mapping: PartitionMapping | None
    argument: str | None


@dataclass(frozen=True, slots=True)
class ResolvedAsset:
    """An asset whose dependencies are known."""

    declared: AnyAsset
    dependencies: tuple[ResolvedEdge, ...]

    @property
    def key(self) -> str:
        """The asset's key."""
        return self.declared.key

    @property
    def partitions(self) -> Partitions | None:
        """Its partitions, None if it has none."""
        return self.declared.partitions


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Assets by key, in the order of their declaration, and what is wrong with them."""

    assets: Mapping[str, ResolvedAsset]
    problems: list[SourceProblem]

    @property
    def upstream(self) -> dict[str, list[str]]:
        """For each asset those of the pipeline that it depends on."""
        return {
            key: [edge.asset for edge in one.dependencies if edge.asset in self.assets]
            for key, one in self.assets.items()
        }


def assets_of(source: Any) -> list[AnyAsset]:
    """Return the assets of a module, or of anything that holds assets, in order; each once.

    Of a module: what is bound to a name in it, alone or in a list, tuple or dict, imported assets included.
    """
    if isinstance(source, ModuleType):
        source = list(vars(source).values())
    found: dict[int, AnyAsset] = {}
    for one in _flat(source, 0):
        found.setdefault(id(one), one)
    return list(found.values())


def _flat(source: Any, depth: int) -> Iterable[AnyAsset]:
    if isinstance(source, Asset):
        yield source
    elif depth < 3 and isinstance(source, dict):
        for one in list(source.values()):
            yield from _flat(one, depth + 1)
    elif depth < 3 and isinstance(source, list | tuple | set | frozenset):
        for one in source:
            yield from _flat(one, depth + 1)


def resolve(declared: Iterable[AnyAsset]) -> Pipeline:
    """Return the graph of assets, and all problems: with each asset by itself, and between them."""
    problems: list[SourceProblem] = []
    by_key: dict[str, AnyAsset] = {}
    universe = list(declared)
    for one in universe:
        problems += one.problems
        first = by_key.setdefault(one.key, one)
        if first is not one:
            where = f"{Path(first.file).name}:{first.line}"
            problems.append(one.problem(f"has the key of the asset at {where}", "Give each a key of its own."))
    if len(by_key) > MAX_ASSETS:
        first = universe[0]
        problems.append(
            SourceProblem(
                first.file, None, f"there are {len(by_key)} assets, and {MAX_ASSETS} is the most", "Use partitions."
            )
        )
    names = _Names(by_key)
    resolved = {key: ResolvedAsset(one, _edges(one, names, problems)) for key, one in by_key.items()}
    graph = Pipeline(resolved, problems)
    problems += [
        resolved[one.asset].declared.problem(one.message, one.remedy)
        for one in judge_graph(resolved, elsewhere=names.elsewhere)
    ]
    problems.sort(key=lambda one: (one.file, one.line or 0))
    return graph


class _Names:
    """What the names of a pipeline mean."""

    def __init__(self, by_key: Mapping[str, AnyAsset]) -> None:
        self.by_key = by_key
        self.members = {id(one) for one in by_key.values()}
        self.elsewhere: set[str] = set()
        self._by_function: dict[str, list[str]] = {}
        for key, one in by_key.items():
            self._by_function.setdefault(getattr(one.function, "__name__", key), []).append(key)

    def of_argument(self, asset: AnyAsset, argument: str) -> list[str]:
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
        return [bound.key] if isinstance(bound, Asset) and id(bound) in self.members else []


def _edges(asset: AnyAsset, names: _Names, problems: list[SourceProblem]) -> tuple[ResolvedEdge, ...]:
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


def _no_meaning(asset: AnyAsset, argument: str, names: _Names) -> SourceProblem:
    others = [key for key in names.by_key if key != asset.key]
    near = meant(argument, others)
    more = (
        f"There are {named(sorted(others))}. A parameter names the asset whose output it takes, is called context, or "
        f"has a default; {argument} = external('{argument}') names an asset of another code location."
    )
    return asset.problem(f"has the parameter {argument}, and no asset is called that", near.strip() or more)


def _key_of(asset: AnyAsset, one: Dep, names: _Names, problems: list[SourceProblem]) -> str | None:
    """Return the key of a dependency, None if it is a problem."""
    target = one.target
    if isinstance(target, External):
        names.elsewhere.add(target.key)
        return target.key
    if isinstance(target, Asset):
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
