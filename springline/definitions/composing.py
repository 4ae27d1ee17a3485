"""Putting a code location's definitions into a workspace: what changes, and what stands in the way."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from springline.bounds import on_one_line
from springline.definitions.ids import meant
from springline.definitions.judging import DefinitionProblem, judge_graph
from springline.definitions.limits import MAX_WORKSPACE_ASSETS
from springline.definitions.manifest import (
    DEFINITIONS,
    FORMAT,
    AssetDefinition,
    CodeLocation,
    DeployedManifest,
    Json,
    as_stored,
    fingerprint_of,
)
from springline.errors import Code, Refused, refused

_TOLD: Final = 20
"""How many problems a refusal lists."""


@dataclass(frozen=True, slots=True)
class AssetChange:
    """A change of an asset: for each field that differs, what it was and what it is; null where it is not set."""

    key: str
    fields: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes that a deploy makes, by key."""

    added: list[str] = field(default_factory=list)
    changed: list[AssetChange] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Say whether there is any."""
        return bool(self.added or self.changed or self.removed)


@dataclass(frozen=True, slots=True)
class Composition:
    """A workspace's definitions with a new part, and changes. `manifest` is to be stored, but for its id."""

    changes: Changes
    fingerprint: str
    assets: int
    manifest: Json


@dataclass(frozen=True, slots=True)
class CurrentManifest:
    """A manifest as it is stored: parsed, and in plain form, which keeps what only newer builds know."""

    manifest: DeployedManifest
    plain: Json


def compose(current: CurrentManifest | None, part: CodeLocation) -> Composition:
    """Put `part` in the place of its code location's definitions; all others stay exactly as they are.

    Raises `Refused`: INVALID_REQUEST for what is wrong with `part`, DEFINITION_CONFLICT for what stands against it in
    other code locations: a key that is theirs, or a dependency of theirs that would not be met any more.
    """
    location = part.location
    deployed = [] if current is None else current.manifest.assets
    others = {one.key: one for one in deployed if one.location != location}
    _refuse_double(part)
    for number, asset in enumerate(part.assets):
        owner = others.get(asset.key)
        if owner is not None:
            raise _owned(number, asset.key, owner.location, location)
    total = len(others) + len(part.assets)
    if total > MAX_WORKSPACE_ASSETS:
        raise refused(
            Code.INVALID_REQUEST,
            f"the workspace would have {total} assets, and {MAX_WORKSPACE_ASSETS} is the most",
            field="assets",
            value=len(part.assets),
            remedy="Use partitions instead of an asset for each of many equal things, or another workspace.",
        )
    nodes: dict[str, AssetDefinition] = {**others, **{one.key: one for one in part.assets}}
    problems = list(judge_graph(nodes))
    if problems:
        # What older rules admitted elsewhere is not this deploy's to answer for.
        known = {(one.asset, one.message) for one in judge_graph({one.key: one for one in deployed})}
        own = {one.key for one in part.assets}
        problems = [one for one in problems if one.asset in own or (one.asset, one.message) not in known]
    if problems:
        problems = [_known_nowhere(one, nodes) for one in problems]
        raise _refusal(problems, part, {key: one.location for key, one in others.items()})
    return _composed(current, part)


def _composed(current: CurrentManifest | None, part: CodeLocation) -> Composition:
    plain: Json = {} if current is None else current.plain
    mine = sorted((as_stored(asset, part.location) for asset in part.assets), key=_key)
    before = [one for one in plain.get("assets", ()) if one["location"] == part.location]
    definitions = {
        name: [one for one in plain.get(name, ()) if one.get("location") != part.location] for name in DEFINITIONS
    }
    definitions["assets"] = sorted([*definitions["assets"], *mine], key=_key)
    fingerprint = fingerprint_of(definitions)
    locations = [one for one in plain.get("locations", ()) if one["location"] != part.location]
    manifest = {
        **plain,
        "format": FORMAT,
        "previous_manifest_id": plain.get("manifest_id"),
        "fingerprint": fingerprint,
        "locations": locations,
        **definitions,
    }
    return Composition(changes_between(before, mine), fingerprint, len(definitions["assets"]), manifest)


def named_manifest(composition: Composition, part: CodeLocation, manifest_id: str, deployed_at_ms: int) -> Json:
    """Return the manifest to store, with its id and time."""
    own = [{"location": part.location, "manifest_id": manifest_id}] if part.assets else []
    locations = sorted([*composition.manifest["locations"], *own], key=lambda one: str(one["location"]))
    named = {"manifest_id": manifest_id, "deployed_at_ms": deployed_at_ms, "locations": locations}
    return {name: one for name, one in (composition.manifest | named).items() if one is not None}


def changes_between(before: Sequence[Json], after: Sequence[Json]) -> Changes:
    """Return what differs between two lists of assets in stored form."""
    old = {_key(one): one for one in before}
    new = {_key(one): one for one in after}
    changed = []
    for key in sorted(old.keys() & new.keys()):
        names = sorted(old[key].keys() | new[key].keys())
        fields = {
            name: {"from": old[key].get(name), "to": new[key].get(name)}
            for name in names
            if old[key].get(name) != new[key].get(name)
        }
        if fields:
            changed.append(AssetChange(key, fields))
    return Changes(sorted(new.keys() - old.keys()), changed, sorted(old.keys() - new.keys()))


def _key(asset: Json) -> str:
    return str(asset["key"])


def _refuse_double(part: CodeLocation) -> None:
    seen: dict[str, int] = {}
    for number, asset in enumerate(part.assets):
        first = seen.setdefault(asset.key, number)
        if first != number:
            raise refused(
                Code.INVALID_REQUEST,
                f"assets {first} and {number} are both called {asset.key}",
                field=f"assets[{number}].key",
                value=asset.key,
                remedy="Give each asset a key of its own.",
            )


def _owned(number: int, key: str, owner: str, location: str) -> Refused:
    return refused(
        Code.DEFINITION_CONFLICT,
        f"asset {key} belongs to code location {owner}, and not to {location}",
        field=f"assets[{number}].key",
        value=key,
        remedy=f"Choose another key; or deploy it as {owner} (--location {owner}); or depend on it by "
        f"external('{key}'); or first deploy {owner} without it.",
    )


def _known_nowhere(problem: DefinitionProblem, nodes: Collection[str]) -> DefinitionProblem:
    """Return the problem with a remedy for the whole workspace: an unknown dependency is in no code location."""
    unknown = problem.dependency
    if unknown is None or unknown in nodes:
        return problem
    near = meant(unknown, nodes)
    return replace(problem, remedy=near.strip() or f"First deploy the code location that has {unknown}.")


def _refusal(problems: Sequence[DefinitionProblem], part: CodeLocation, others: dict[str, str]) -> Refused:
    """Return the refusal for the first problem of the part, else for the first that it would make elsewhere."""
    numbers = {asset.key: number for number, asset in enumerate(part.assets)}
    own = [one for one in problems if one.asset in numbers]
    first = (own or list(problems))[0]
    ordered = [*own, *(one for one in problems if one.asset not in numbers)]
    more = f"; {len(ordered) - 1} more problem(s) are listed in value" if len(ordered) > 1 else ""
    told = list(_told(ordered[:_TOLD], others))
    if own:
        return refused(
            Code.INVALID_REQUEST,
            f"asset {first.asset} {first.message}{more}",
            field=f"assets[{numbers[first.asset]}].{first.field}",
            value=told if more else first.dependency,
            remedy=first.remedy,
        )
    return refused(
        Code.DEFINITION_CONFLICT,
        f"asset {first.asset} of code location {others[first.asset]} would have a problem: it {first.message}{more}",
        field="assets",
        value=told if more else first.dependency,
        remedy=f"Keep what {others[first.asset]} depends on, or first deploy {others[first.asset]} without it.",
    )


def _told(problems: Iterable[DefinitionProblem], others: dict[str, str]) -> Iterator[str]:
    for one in problems:
        where = f" of {others[one.asset]}" if one.asset in others else ""
        yield on_one_line(f"{one.asset}{where} {one.message}", 300)
