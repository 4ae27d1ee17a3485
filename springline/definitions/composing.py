"""Putting a code location's definitions into a workspace: what changes, and what stands in the way."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from springline.bounds import on_one_line
from springline.definitions.ids import meant
from springline.definitions.judging import DefinitionProblem, Node, judge_graph, kind_of, undeclared_pool
from springline.definitions.limits import MAX_WORKSPACE_ASSETS, MAX_WORKSPACE_SCHEDULES, MAX_WORKSPACE_SENSORS
from springline.definitions.manifest import (
    DEFINITIONS,
    OPTIONAL,
    POOLS,
    TASKS,
    CodeLocation,
    DeployedManifest,
    Json,
    as_stored,
    fingerprint_of,
    format_of,
    schedule_as_stored,
    sensor_as_stored,
)
from springline.definitions.nodes import AssetDefinition, DefinedTask
from springline.definitions.partitions import FieldProblem
from springline.definitions.schedules import selection_problem
from springline.errors import Code, Refused, refused

_TOLD: Final = 20
"""How many problems a refusal lists."""


@dataclass(frozen=True, slots=True)
class AssetChange:
    """A change of a definition: for each field that differs, what it was and is; null: it is not set."""

    key: str
    fields: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class PoolChange:
    """A change of what a code location declares of a pool: its slots before and after, null where it declared none."""

    name: str
    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes that a deploy makes, by key."""

    added: list[str] = field(default_factory=list)
    changed: list[AssetChange] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    pools: list[PoolChange] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Say whether there is any."""
        return bool(self.added or self.changed or self.removed or self.pools)


@dataclass(frozen=True, slots=True)
class Composition:
    """A workspace's definitions with a new part, and changes. `manifest` is to be stored, but for its id."""

    changes: Changes
    tasks: Changes
    schedules: Changes
    sensors: Changes
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
    deployed = {} if current is None else current.manifest.nodes
    others = {key: one for key, one in deployed.items() if one.location != location}
    _refuse_double("assets", "key", [one.key for one in part.assets], "Give each asset a key of its own.")
    _refuse_double("tasks", "key", [one.key for one in part.tasks], "Give each task a key of its own.")
    _refuse_both(part)
    _refuse_pools(part)
    own = {one.key: f"{name}[{number}]" for name, number, one in _numbered(part)}
    for name, number, node in _numbered(part):
        owner = others.get(node.key)
        if owner is not None:
            raise _owned(name, number, node.key, owner.location, location)
    total = len(others) + len(own)
    if total > MAX_WORKSPACE_ASSETS:
        raise refused(
            Code.INVALID_REQUEST,
            f"the workspace would have {total} assets and tasks, and {MAX_WORKSPACE_ASSETS} is the most",
            field="assets",
            value=len(own),
            remedy="Use partitions instead of an asset for each of many equal things, or another workspace.",
        )
    nodes: dict[str, AssetDefinition | DefinedTask] = {**others, **{one.key: one for _, _, one in _numbered(part)}}
    problems = list(judge_graph(nodes))
    if problems:
        # What older rules admitted elsewhere is not this deploy's to answer for.
        known = {(one.asset, one.message) for one in judge_graph(deployed)}
        problems = [one for one in problems if one.asset in own or (one.asset, one.message) not in known]
    if problems:
        problems = [_known_nowhere(one, nodes) for one in problems]
        raise _refusal(problems, own, nodes, {key: one.location for key, one in others.items()})
    _judge_schedules(current, part, nodes)
    _judge_sensors(current, part, nodes)
    return _composed(current, part)


def _numbered(part: CodeLocation) -> Iterator[tuple[str, int, AssetDefinition | DefinedTask]]:
    """Yield the nodes of a code location, each with the name of its list and its place in it."""
    for number, asset in enumerate(part.assets):
        yield "assets", number, asset
    for number, task in enumerate(part.tasks):
        yield TASKS, number, task


def _judge_schedules(
    current: CurrentManifest | None, part: CodeLocation, nodes: Mapping[str, AssetDefinition | DefinedTask]
) -> None:
    """Raise `Refused` for a schedule of the part that cannot be: its id is used, or its selection means nothing."""
    deployed = [] if current is None else current.manifest.schedules
    others = {one.get("schedule_id"): one.get("location") for one in deployed if one.get("location") != part.location}
    names = [one.schedule_id for one in part.schedules]
    of_schedules = _Kind("schedule", MAX_WORKSPACE_SCHEDULES, "Select more assets by each, or use another workspace.")
    _judge_many(of_schedules, names, others, part)
    for number, schedule in enumerate(part.schedules):
        _judge_owner(of_schedules, number, schedule.schedule_id, others, part)
        problem = selection_problem(nodes, schedule.select)
        if problem is not None:
            raise _cannot_be(of_schedules, number, schedule.schedule_id, problem, schedule.select)


def _judge_sensors(
    current: CurrentManifest | None, part: CodeLocation, nodes: Mapping[str, AssetDefinition | DefinedTask]
) -> None:
    """Raise `Refused` for a sensor of the part that cannot be: its id is used, or it watches or selects nothing."""
    deployed = [] if current is None else current.manifest.sensors
    others = {one.get("sensor_id"): one.get("location") for one in deployed if one.get("location") != part.location}
    names = [one.sensor_id for one in part.sensors]
    of_sensors = _Kind("sensor", MAX_WORKSPACE_SENSORS, "Watch more by each, or use another workspace.")
    _judge_many(of_sensors, names, others, part)
    for number, sensor in enumerate(part.sensors):
        _judge_owner(of_sensors, number, sensor.sensor_id, others, part)
        problem = selection_problem(nodes, sensor.select) if sensor.select else None
        if problem is None and sensor.asset is not None and sensor.asset not in nodes:
            message = f"it watches the asset {sensor.asset}, which there is not"
            problem = FieldProblem("asset", message, meant(sensor.asset, nodes).strip() or "Deploy it first.")
        if problem is None and sensor.asset is not None and nodes[sensor.asset].asset_key is None:
            message = f"it watches {sensor.asset}, which is a task and is never materialized"
            problem = FieldProblem("asset", message, "Watch an asset, or the runs: run_sensor.")
        if problem is not None:
            value = sensor.select if problem.field == "select" else sensor.asset
            raise _cannot_be(of_sensors, number, sensor.sensor_id, problem, value)


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a code location has besides assets: `most` of a workspace; `fewer`: what to do about too many."""

    name: str
    most: int
    fewer: str


def _judge_many(kind: _Kind, names: Sequence[str], others: Mapping[Any, Any], part: CodeLocation) -> None:
    """Raise `Refused` if there are too many, two of one id, or no assets beside them; `others`: those elsewhere."""
    many = f"{kind.name}s"
    if names and not part.assets and not part.tasks:
        raise refused(
            Code.INVALID_REQUEST,
            f"a code location without assets is removed, and has no {many}",
            field=many,
            value=len(names),
            remedy=f"Give its assets, or no {many}.",
        )
    if len(others) + len(names) > kind.most:
        raise refused(
            Code.INVALID_REQUEST,
            f"the workspace would have {len(others) + len(names)} {many}, and {kind.most} is the most",
            field=many,
            value=len(names),
            remedy=kind.fewer,
        )
    _refuse_double(many, f"{kind.name}_id", names, f"Give each {kind.name} an id of its own.")


def _judge_owner(kind: _Kind, number: int, name: str, others: Mapping[Any, Any], part: CodeLocation) -> None:
    """Raise `Refused` if another code location has one of this id."""
    if name in others:
        raise refused(
            Code.DEFINITION_CONFLICT,
            f"{kind.name} {name} belongs to code location {others[name]}, and not to {part.location}",
            field=f"{kind.name}s[{number}].{kind.name}_id",
            value=name,
            remedy=f"Choose another id, or first deploy {others[name]} without it.",
        )


def _cannot_be(kind: _Kind, number: int, name: str, problem: FieldProblem, value: Any) -> Refused:
    return refused(
        Code.INVALID_REQUEST,
        f"{kind.name} {name} cannot be: {problem.message}",
        field=f"{kind.name}s[{number}].{problem.field}",
        value=value,
        remedy=problem.remedy,
    )


def _composed(current: CurrentManifest | None, part: CodeLocation) -> Composition:
    plain: Json = {} if current is None else current.plain
    mine = sorted((as_stored(asset, part.location) for asset in part.assets), key=_key)
    before = [one for one in plain.get("assets", ()) if one["location"] == part.location]
    definitions = {
        name: [one for one in plain.get(name, ()) if one.get("location") != part.location] for name in DEFINITIONS
    }
    definitions["assets"] = sorted([*definitions["assets"], *mine], key=_key)
    own_tasks = sorted((as_stored(task, part.location) for task in part.tasks), key=_key)
    tasks_before = [one for one in plain.get(TASKS, ()) if one["location"] == part.location]
    other_tasks = [one for one in plain.get(TASKS, ()) if one["location"] != part.location]
    definitions[TASKS] = sorted([*other_tasks, *own_tasks], key=_key)
    own = sorted((schedule_as_stored(one, part.location) for one in part.schedules), key=_schedule_key)
    due_before = [one for one in plain.get("schedules", ()) if one.get("location") == part.location]
    # Of an older build's manifest what has no id is left where it is.
    definitions["schedules"] = sorted([*definitions["schedules"], *own], key=_schedule_key)
    watching = sorted((sensor_as_stored(one, part.location) for one in part.sensors), key=_sensor_key)
    watched_before = [one for one in plain.get("sensors", ()) if one.get("location") == part.location]
    definitions["sensors"] = sorted([*definitions["sensors"], *watching], key=_sensor_key)
    pools = sorted(({**one.model_dump(), "location": part.location} for one in part.pools), key=_name)
    pools_before = [one for one in plain.get(POOLS, ()) if one["location"] == part.location]
    all_pools = [*(one for one in plain.get(POOLS, ()) if one["location"] != part.location), *pools]
    definitions[POOLS] = sorted(all_pools, key=lambda one: (_name(one), str(one["location"])))
    fingerprint = fingerprint_of(definitions)
    locations = [one for one in plain.get("locations", ()) if one["location"] != part.location]
    manifest = {
        **plain,
        "format": format_of(definitions),
        "previous_manifest_id": plain.get("manifest_id"),
        "fingerprint": fingerprint,
        "locations": locations,
        **definitions,
    }
    for name in OPTIONAL:
        if not definitions[name]:
            del manifest[name]
    changes = replace(changes_between(before, mine), pools=_pool_changes(pools_before, pools))
    due = changes_between(due_before, own, key=_schedule_key)
    sensors = changes_between(watched_before, watching, key=_sensor_key)
    tasks = changes_between(tasks_before, own_tasks)
    return Composition(changes, tasks, due, sensors, fingerprint, len(definitions["assets"]), manifest)


def named_manifest(composition: Composition, part: CodeLocation, manifest_id: str, deployed_at_ms: int) -> Json:
    """Return the manifest to store, with its id and time."""
    own = [{"location": part.location, "manifest_id": manifest_id}] if part.assets or part.tasks else []
    locations = sorted([*composition.manifest["locations"], *own], key=lambda one: str(one["location"]))
    named = {"manifest_id": manifest_id, "deployed_at_ms": deployed_at_ms, "locations": locations}
    return {name: one for name, one in (composition.manifest | named).items() if one is not None}


def changes_between(
    before: Sequence[Json], after: Sequence[Json], *, key: Callable[[Json], str] | None = None
) -> Changes:
    """Return what differs between two lists of definitions in stored form, by default of assets."""
    named_by = key or _key
    old = {named_by(one): one for one in before}
    new = {named_by(one): one for one in after}
    changed = []
    for one in sorted(old.keys() & new.keys()):
        names = sorted(old[one].keys() | new[one].keys())
        fields = {
            name: {"from": old[one].get(name), "to": new[one].get(name)}
            for name in names
            if old[one].get(name) != new[one].get(name)
        }
        if fields:
            changed.append(AssetChange(one, fields))
    return Changes(sorted(new.keys() - old.keys()), changed, sorted(old.keys() - new.keys()))


def _pool_changes(before: Sequence[Json], after: Sequence[Json]) -> list[PoolChange]:
    old = {_name(one): int(one["slots"]) for one in before}
    new = {_name(one): int(one["slots"]) for one in after}
    return [
        PoolChange(name, old.get(name), new.get(name))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _name(pool: Json) -> str:
    return str(pool["name"])


def _key(asset: Json) -> str:
    return str(asset["key"])


def _schedule_key(schedule: Json) -> str:
    return str(schedule.get("schedule_id", ""))


def _sensor_key(sensor: Json) -> str:
    return str(sensor.get("sensor_id", ""))


def _refuse_double(list_name: str, field_name: str, names: Sequence[str], remedy: str) -> None:
    """Refuse two definitions of one name in a list of the code location."""
    seen: dict[str, int] = {}
    for number, name in enumerate(names):
        first = seen.setdefault(name, number)
        if first != number:
            raise refused(
                Code.INVALID_REQUEST,
                f"{list_name} {first} and {number} are both called {name}",
                field=f"{list_name}[{number}].{field_name}",
                value=name,
                remedy=remedy,
            )


def _refuse_both(part: CodeLocation) -> None:
    """Refuse a task that has the key of an asset beside it."""
    assets = {one.key for one in part.assets}
    for number, task in enumerate(part.tasks):
        if task.key in assets:
            raise refused(
                Code.INVALID_REQUEST,
                f"an asset and a task are both called {task.key}",
                field=f"tasks[{number}].key",
                value=task.key,
                remedy="Give each a key of its own.",
            )


def _refuse_pools(part: CodeLocation) -> None:
    """Refuse pools that are declared twice, and assets that name one that the code location does not declare."""
    if part.pools and not part.assets and not part.tasks:
        raise refused(
            Code.INVALID_REQUEST,
            f"code location {part.location} has pools and no asset, and without assets it is removed",
            field="pools",
            value=len(part.pools),
            remedy="Declare pools beside the assets that name them.",
        )
    names = [one.name for one in part.pools]
    _refuse_double("pools", "name", names, "Declare each pool once.")
    declared = set(names)
    for name, number, node in _numbered(part):
        if node.pool is not None and node.pool not in declared:
            problem = undeclared_pool(node.pool, declared)
            raise refused(
                Code.INVALID_REQUEST,
                f"{kind_of(node)} {node.key} {problem.message}",
                field=f"{name}[{number}].pool",
                value=node.pool,
                remedy=problem.remedy,
            )


def _owned(name: str, number: int, key: str, owner: str, location: str) -> Refused:
    return refused(
        Code.DEFINITION_CONFLICT,
        f"{name.removesuffix('s')} {key} belongs to code location {owner}, and not to {location}",
        field=f"{name}[{number}].key",
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


def _refusal(
    problems: Sequence[DefinitionProblem], places: Mapping[str, str], nodes: Mapping[str, Node], others: dict[str, str]
) -> Refused:
    """Return the refusal for the first problem of the part, else for the first that it would make elsewhere.

    `places`: where each node of the part stands in the request.
    """
    own = [one for one in problems if one.asset in places]
    first = (own or list(problems))[0]
    kind = kind_of(nodes[first.asset])
    ordered = [*own, *(one for one in problems if one.asset not in places)]
    more = f"; {len(ordered) - 1} more problem(s) are listed in value" if len(ordered) > 1 else ""
    told = list(_told(ordered[:_TOLD], others))
    if own:
        return refused(
            Code.INVALID_REQUEST,
            f"{kind} {first.asset} {first.message}{more}",
            field=f"{places[first.asset]}.{first.field}",
            value=told if more else first.dependency,
            remedy=first.remedy,
        )
    return refused(
        Code.DEFINITION_CONFLICT,
        f"{kind} {first.asset} of code location {others[first.asset]} would have a problem: it {first.message}{more}",
        field="assets",
        value=told if more else first.dependency,
        remedy=f"Keep what {others[first.asset]} depends on, or first deploy {others[first.asset]} without it.",
    )


def _told(problems: Iterable[DefinitionProblem], others: dict[str, str]) -> Iterator[str]:
    for one in problems:
        where = f" of {others[one.asset]}" if one.asset in others else ""
        yield on_one_line(f"{one.asset}{where} {one.message}", 300)
