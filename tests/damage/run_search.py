"""The search among what runs, evaluators and pipelines store: each object x damage x whatever uses it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from springline import paths
from springline.cli.doctor_workspace import workspace_findings
from springline.deployed.deploying import deploy
from springline.deployed.pools import PoolSetting, pool_sizes, set_pool
from springline.deployed.reading import ManifestReader, read_latest
from springline.deployed.register import register, registered
from springline.errors import Code, InvariantViolated, Refused
from springline.explaining.reading import explain
from springline.explaining.story import Question
from springline.explaining.subjects import SUBJECTS
from springline.paths import ObjectPath
from springline.runs.attempt_logs import read_log
from springline.runs.launching import launch
from springline.runs.loading import load_run
from springline.runs.pools import read_pool
from springline.runs.requesting import RunRequests
from springline.storage.identity import store_id
from springline.storage.memory import MemoryStore
from springline.work.outputs import read_output
from springline.work.seals import read_seal
from tests.control.payloads import triggered
from tests.damage import damages
from tests.damage.damages import DAMAGES, Damage
from tests.damage.operations import Wrong
from tests.damage.run_objects import (
    FIRST,
    KINDS,
    LOGS,
    OUTPUTS,
    SEALS,
    SECOND,
    TASK,
    UNDER_WAY,
    RunPlace,
    Workspace,
    kind_of,
    of_kind,
    relative,
    run_id_of,
    taken,
)
from tests.support.definitions import asset, ids, part
from tests.support.local_api import ACME
from tests.support.local_ledger import now_ms
from tests.support.local_runs import LocalRuns
from tests.work.conftest import order

Parts = dict[str, Any]
"""What an operation came to, in parts that do not depend on each other."""


@dataclass
class Told:
    """What an operation came to, and what was said of the parts that it did not come to."""

    parts: Parts = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    async def part(self, name: str, work: Awaitable[Any]) -> None:
        """Have a part made, or note its refusal."""
        try:
            self.parts[name] = await work
        except Refused as error:
            if error.refusal.code is not Code.STORED_DAMAGED:
                raise
            self.said.append(f"{error.refusal.message} {error.refusal.remedy}")
        except InvariantViolated as error:
            self.said.append(str(error))


def damage(made: Workspace, path: ObjectPath, how: str, rnd: Random) -> Damage | None:
    """Return a damage of a kind to an object, None if there is no such."""
    return damages.damage(made, path, how, rnd, kind_of=lambda one: kind_of(one) or "")


# Operations, each in a process that has just started.


async def _assets(place: RunPlace) -> list[str]:
    found = await read_latest(place.own)
    return [] if found is None else sorted(found.manifest.nodes)


async def _sizes(place: RunPlace) -> dict[str, int | None]:
    sizes = await pool_sizes(place.own, ACME, ManifestReader())
    return {name: one.slots for name, one in sizes.items()}


async def read(made: Workspace, place: RunPlace) -> Told:
    """Read what is deployed, and the sizes of pools."""
    told = Told()
    await told.part("assets", _assets(place))
    await told.part("pools", _sizes(place))
    return told


async def deploy_another(made: Workspace, place: RunPlace) -> Told:
    """Deploy one more code location: those that are deployed stay."""
    told = Told()

    async def done() -> list[str]:
        await deploy(place.own, part("third", asset("c")), ids(50))
        return await _assets(place)

    await told.part("assets", done())
    return told


async def deploy_the_same(made: Workspace, place: RunPlace) -> Told:
    """Deploy again what is deployed: nothing changes."""
    told = Told()

    async def done() -> list[str]:
        found = await deploy(place.own, part("other", asset("b")), ids(60))
        assert not found.deployed, "nothing has changed"
        return await _assets(place)

    await told.part("assets", done())
    return told


async def set_another_pool(made: Workspace, place: RunPlace) -> Told:
    """Set the size of one more pool: those that are set stay."""
    told = Told()

    async def done() -> dict[str, int | None]:
        await set_pool(place.own, "q", PoolSetting(slots=7, set_by="bob", set_at_ms=9))
        return await _sizes(place)

    await told.part("pools", done())
    return told


async def launch_what_waits(made: Workspace, place: RunPlace) -> Told:
    """Launch the runs that wait: each is planned as it was asked for, or waits on, and holds up no other."""
    found = await launch(place.store, place.reader, ManifestReader(), place.ledger, place, ACME, None)
    told = Told(said=list(found.aside))
    tasks = await place.rows("tasks")
    begun = {row["run_id"] for row in await place.rows("runs")}
    for key in (FIRST, SECOND):
        if run_id_of(key) in begun:
            told.parts[key] = sorted(one["task_key"] for one in tasks if one["run_id"] == run_id_of(key))
    return told


async def load(made: Workspace, place: RunPlace) -> Told:
    """Read where the run under way stands, as its workflow does."""
    told = Told()

    async def loaded() -> object:
        found = await load_run(place.store, place.reader, ManifestReader(), ACME, run_id_of(UNDER_WAY))
        return found.model_dump(mode="json")

    await told.part("run", loaded())
    return told


async def slots(made: Workspace, place: RunPlace) -> Told:
    """Read who has slots of a pool: what has one keeps it."""
    told = Told()

    async def found() -> object:
        rows = await read_pool(place.store, place.reader, ManifestReader(), ACME, "p", [])
        return [rows.slots, [one.task_key for one in rows.holders]]

    await told.part("slots", found())
    return told


async def back_fill(made: Workspace, place: RunPlace) -> Told:
    """Make passes over the backfill: each chunk has its partitions."""
    told = Told()

    async def passes() -> bool:
        found = await place.settled(made.backfill_id)
        told.said += [] if found.aside is None else [found.aside]
        return True

    await told.part("pass", passes())
    for row in await place.rows("backfill_chunks"):
        told.parts[f"chunk {row['chunk_index']}"] = json.loads(row["partition_keys"])
    if told.said:
        told.parts.pop("pass", None)
    return told


async def explained(made: Workspace, place: RunPlace) -> Told:
    """Ask why the run under way stands as it does."""
    told = Told()

    async def verdict() -> str:
        question = Question(identity=run_id_of(UNDER_WAY), now_ms=now_ms())
        found = await explain(place.store, place.reader, ManifestReader(), ACME, SUBJECTS["run"], question)
        return str(found.verdict)

    await told.part("verdict", verdict())
    return told


async def logs(made: Workspace, place: RunPlace) -> Told:
    """Read the log of an attempt, and what lies behind each of its chunks."""
    told = Told()

    async def lines(after: int) -> object:
        found = await read_log(place.own, run_id_of(UNDER_WAY), TASK, 1, after=after, most=LOGS + 1, written=LOGS)
        return [[chunk.number, *((one.at_ms, one.text) for one in chunk.lines)] for chunk in found]

    for after in range(LOGS):
        await told.part(f"after {after}", lines(after))
    return told


async def outputs(made: Workspace, place: RunPlace) -> Told:
    """Take the outputs of attempts."""
    told = Told()
    for number in range(len(OUTPUTS)):
        await told.part(f"output {number}", read_output(place.own, taken(number)))
    return told


async def seals(made: Workspace, place: RunPlace) -> Told:
    """Read what tasks have sealed, as the next attempt does."""
    told = Told()
    for task in SEALS:
        await told.part(task, read_seal(place.own, order(task).scope, task))
    return told


async def find_workspaces(made: Workspace, place: RunPlace) -> Told:
    """Find the workspaces of the store, behind a pass of Repair."""
    told = Told()

    async def found() -> list[str]:
        await register(place.store, ACME)
        return [scope.prefix for scope in await registered(place.store)]

    await told.part("workspaces", found())
    return told


async def compare_stores(made: Workspace, place: RunPlace) -> Told:
    """Have two processes compare their stores: they are the same."""
    told = Told()

    async def same() -> bool:
        return await store_id(place.store, "new") == await store_id(place.store, "newer")

    await told.part("same", same())
    return told


async def append(made: Workspace, place: RunPlace) -> Told:
    """Append an event and read it: the ledger needs none of these objects."""
    await place.append(triggered("by-hand"))
    return Told({"runs": "by-hand" in {row["run_id"] for row in await place.rows("runs")}})


async def look_after(made: Workspace, place: RunPlace) -> Told:
    """Have doctor look at the workspace: it names what it finds, and comes to its end."""
    await workspace_findings(place.store, ACME, deep=False)
    return Told({"looked": True})


OPERATIONS: dict[str, Callable[[Workspace, RunPlace], Awaitable[Told]]] = {
    "read": read,
    "deploy another": deploy_another,
    "deploy the same": deploy_the_same,
    "set a pool": set_another_pool,
    "launch": launch_what_waits,
    "load": load,
    "slots": slots,
    "back fill": back_fill,
    "explain": explained,
    "logs": logs,
    "outputs": outputs,
    "seals": seals,
    "find workspaces": find_workspaces,
    "compare stores": compare_stores,
    "append": append,
    "doctor": look_after,
}


# Ends without a copy of the object, as runbooks/damaged-object.md tells them.


async def _deploy_anew(made: Workspace, place: RunPlace, path: ObjectPath) -> None:
    """Remove index and note, deploy every code location, and cancel what was asked for by a manifest that is lost."""
    for one in (paths.latest_manifest_index(), paths.manifest_deployed_note()):
        full = ACME.full(one)
        if full in place.store.objects:
            place.store.remove(full)
    new_id = ids(70)
    await deploy(place.own, part("flights", asset("raw"), pools={"p": 3}), new_id)
    await deploy(place.own, part("other", asset("b")), new_id)
    if await _assets(place) != ["b", "raw"]:
        raise Wrong(f"after everything was deployed again, {await _assets(place)} are deployed")
    manifest_id = paths.parse_deployed_manifest(relative(path))
    if manifest_id is not None:
        await _cancel(place)


async def _cancel(place: RunPlace) -> None:
    """Cancel what waits and what is under way, whose workflow finds that it cannot be executed, and ends it."""
    local = LocalRuns(place.store, place.ledger)
    asking = RunRequests(place.store, place.reader, ManifestReader(), place.ledger, local, ACME)
    for key in (FIRST, SECOND):
        begun = run_id_of(key) in {row["run_id"] for row in await place.rows("runs")}
        if not begun and not await asking.withdraw(run_id_of(key), "ada", None):
            raise Wrong(f"request {key} cannot be cancelled")
    await place.append({"type": "run_cancel_requested", "run_id": run_id_of(UNDER_WAY), "requested_by": "ada"})
    await load_run(place.store, place.reader, ManifestReader(), ACME, run_id_of(UNDER_WAY))


async def _as_declared(made: Workspace, place: RunPlace, path: ObjectPath) -> None:
    """Remove the settings and the note: then pools have their declared sizes, and can be set."""
    for one in (paths.pool_settings(), paths.pool_settings_note()):
        full = ACME.full(one)
        if full in place.store.objects:
            place.store.remove(full)
    if await _sizes(place) != {"p": 3}:
        raise Wrong(f"pools have the sizes {await _sizes(place)}")
    await set_pool(place.own, "p", PoolSetting(slots=4, set_by="ada", set_at_ms=20))
    if await _sizes(place) != {"p": 4}:
        raise Wrong(f"pools have the sizes {await _sizes(place)}")


async def _cancel_backfill(made: Workspace, place: RunPlace, path: ObjectPath) -> None:
    """Cancel the backfill: it ends."""
    await place.backfills.cancel(made.backfill_id, "ada")
    found = await place.finish(made.backfill_id)
    if not found.is_over:
        raise Wrong("the backfill is not over")


async def _read_on(made: Workspace, place: RunPlace, path: ObjectPath) -> None:
    """Read the log from the damaged chunk on."""
    known = paths.parse_log_chunk(relative(path))
    assert known is not None
    number = known[3]
    found = await read_log(place.own, run_id_of(UNDER_WAY), TASK, 1, after=number, most=LOGS)
    if [chunk.number for chunk in found] != list(range(number + 1, LOGS + 1)):
        raise Wrong(f"behind {number} are {found}")


ENDS: dict[str, Callable[[Workspace, RunPlace, ObjectPath], Awaitable[None]]] = {
    "manifest": _deploy_anew,
    "index": _deploy_anew,
    "sizes of pools": _as_declared,
    "list of keys": _cancel_backfill,
    "log chunk": _read_on,
}
"""Of kinds that are not here: a rerun that names the task, of outputs and seals; of the identity, its removal."""


@dataclass
class RunCases:
    """What came of all cases so far. `expected`: what each operation comes to without damage, and what it asks for."""

    made: Workspace
    expected: dict[str, tuple[Parts, set[ObjectPath]]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    async def learn(self) -> None:
        """Do every operation on the whole workspace."""
        for name, operation in OPERATIONS.items():
            store = self.made.store()
            told = await operation(self.made, RunPlace(store))
            assert not told.said, f"{name}: {told.said}"
            self.expected[name] = (told.parts, store.asked & self.made.objects.keys())

    def uses(self, kind: str) -> Iterator[tuple[ObjectPath, str]]:
        """Yield the objects of a kind with each operation that asks for them; notes, with what asks for their objects.

        Those of what was replaced are asked for only if that has come back.
        """
        for path in of_kind(self.made, kind):
            for name, (_, asked) in self.expected.items():
                if path in asked or (kind.startswith("note") and name in _OF_NOTES):
                    yield path, name

    async def run(self, one: Damage, name: str) -> None:
        """Try an operation on a damaged copy. Raises `Wrong` with everything that is needed to look."""
        store = self.made.store()
        _apply(store, one)
        said = f"{relative(one.path)} {one.how}: {name}"
        try:
            told = await OPERATIONS[name](self.made, RunPlace(store))
            self._judge(one, told, name)
        except Exception as error:
            raise Wrong(f"{said}: {error!r}; {one.data!r}") from error
        if not told.said:
            self.counts["right"] += 1
            return
        self.counts["named"] += 1
        try:
            await self._ended(one, name, store, told)
        except Exception as error:
            raise Wrong(f"{said}, and then its end: {error!r}") from error

    def _judge(self, one: Damage, told: Told, name: str) -> None:
        expected, _ = self.expected[name]
        for part_, value in told.parts.items():
            if expected.get(part_) != value and not _is_excused(one, name):
                raise Wrong(f"{part_} is {value}, not {expected.get(part_)}")
        if told.parts.keys() != expected.keys() and not told.said:
            raise Wrong(f"nothing is said, and there are {sorted(told.parts)}, not {sorted(expected)}")
        for text in told.said:
            if not any(path in text for path in _blamed(one)):
                raise Wrong(f"the refusal names another: {text}")
            if not any(word in text.lower() for word in ("restore", "remove", "delete", "run the task again")):
                raise Wrong(f"there is no remedy: {text}")

    async def _ended(self, one: Damage, name: str, store: MemoryStore, told: Told) -> None:
        """Check that what is restored is as it was, to the end; and that there is an end without a copy, too."""
        copy = store.copy()
        store.seed(one.path, self.made.objects[one.path])
        again = await OPERATIONS[name](self.made, RunPlace(store))
        if again.said or again.parts != self.expected[name][0]:
            raise Wrong(f"when it is restored: {again}")
        end = ENDS.get(one.kind)
        if end is not None:
            await end(self.made, RunPlace(copy), one.path)
            self.counts["without a copy"] += 1


_OF_NOTES = ("read", "deploy another", "deploy the same", "set a pool")


def _apply(store: MemoryStore, one: Damage) -> None:
    if one.data is None:
        store.remove(one.path)
    else:
        store.seed(one.path, one.data)


def _blamed(one: Damage) -> list[str]:
    """Return the paths of which one is to be in a refusal."""
    return [relative(one.path)]


def _is_excused(one: Damage, name: str) -> bool:
    """Say whether nothing in the store tells the damage from a state that it could rightly be in."""
    if one.kind == "seal" and one.how == "removed":
        # As before it was sealed. What other rows are committed under its keys, the commit refuses.
        return name == "seals"
    return False


def cells() -> Iterator[tuple[str, str]]:
    """Yield every kind of object with every damage."""
    for kind in KINDS:
        for how in DAMAGES:
            yield kind, how
