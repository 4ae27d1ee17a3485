"""`springline rebuild plan`: the list of events that a rebuild is to read, from the store alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer
from ulid import ULID

from springline.cli.documents import Document, hint
from springline.cli.ledger import read_bytes
from springline.cli.stores import StoreOption, TenantOption, WorkspaceOption, on_store
from springline.errors import Code, Refused, refused
from springline.paths import Scope

OutOption = Annotated[
    str | None,
    typer.Option(
        "--out",
        metavar="NAME",
        help="Name of the manifest, or its whole path; default: a new name.",
    ),
]
RoundsOption = Annotated[
    bool,
    typer.Option("--from-rounds", help="From the records of all rounds: when pointer, manifest or index are lost."),
]
InventoryOption = Annotated[
    str | None,
    typer.Option(
        "--from-inventory",
        metavar="FILE|-",
        help="From names of objects: a storage inventory (CSV, JSON, lines; gzip), or anything that lists names.",
    ),
]
ListingOption = Annotated[
    bool,
    typer.Option("--from-listing", help="List the bucket: slow and costly; for the case that everything else is lost."),
]
ObjectsOption = Annotated[
    bool, typer.Option("--objects", help="List every event by its own object, even if a segment holds it.")
]
SegmentsOption = Annotated[
    bool, typer.Option("--segments", help="With names from elsewhere: take segments, and objects only for the rest.")
]


@dataclass(frozen=True, slots=True)
class Plan:
    """A manifest that was written."""

    manifest: str
    events: int
    document: dict[str, Any]


def plan(
    *,
    tenant: TenantOption,
    workspace: WorkspaceOption,
    store: StoreOption = None,
    out: OutOption = None,
    from_rounds: RoundsOption = False,
    from_inventory: InventoryOption = None,
    from_listing: ListingOption = False,
    objects: ObjectsOption = False,
    segments: SegmentsOption = False,
) -> Document:
    """Write the list of events that a rebuild is to read. Without Temporal and API; nothing is listed or changed.

    By default from the index of accepted events, which the published state names. Prints where the manifest is, what
    it lists, and what was passed over.
    """
    given = {
        "--from-rounds": from_rounds,
        "--from-inventory": from_inventory is not None,
        "--from-listing": from_listing,
    }
    chosen = [option for option, is_given in given.items() if is_given]
    if len(chosen) > 1:
        raise _wrong(f"{' and '.join(chosen)} exclude each other", chosen[-1], "Give one of them.")
    if chosen and objects:
        raise _wrong(f"{chosen[0]} lists objects anyway", "--objects", "Leave --objects out.")
    if segments and chosen in ([], ["--from-rounds"]):
        raise _wrong("--segments goes with names from elsewhere", "--segments", "Leave --segments out.")
    inventory = None if from_inventory is None else read_bytes(from_inventory, "--from-inventory")

    async def find(scoped: Any) -> Any:
        # Segments are read with Arrow's codecs, which take a moment to load: only this command pays.
        from springline.rebuild import sources  # noqa: PLC0415
        from springline.rebuild.sources import names_of_workspace  # noqa: PLC0415

        if from_rounds:
            return await sources.from_rounds(scoped)
        if from_listing:
            hint("the ledger of the workspace is being listed")
            return await sources.from_listing(scoped, segments=segments)
        if inventory is None:
            return await sources.from_index(scoped, objects=objects)
        names, others = names_of_workspace(inventory, Scope(tenant, workspace))
        found = await sources.from_names(scoped, names, sources.Source.INVENTORY, segments=segments)
        found.passed_over.update(others)
        return found

    return _written(store, tenant, workspace, out, find).document


def plan_of_index(store: str | None, tenant: str, workspace: str, out: str | None) -> Plan:
    """Write a manifest of all accepted events."""

    async def find(scoped: Any) -> Any:
        from springline.rebuild.sources import from_index  # noqa: PLC0415 - as above

        return await from_index(scoped)

    return _written(store, tenant, workspace, out, find)


def _written(store: str | None, tenant: str, workspace: str, out: str | None, find: Any) -> Plan:
    async def work(scoped: Any) -> Plan:
        from springline.rebuild.manifest import manifest_path, write_manifest  # noqa: PLC0415

        path = manifest_path(out if out is not None else f"plan-{ULID()}")
        found = await find(scoped)
        written = await write_manifest(
            scoped, path, found.event_paths, found.segment_paths, as_of_round=found.as_of_round
        )
        for note in found.notes:
            hint(note)
        document = {
            "rebuild_manifest_path": written.path,
            "parts": written.parts,
            "source": found.source.value,
            "events": found.events,
            "event_paths": len(found.event_paths),
            "segment_paths": len(found.segment_paths),
            "as_of_round": found.as_of_round,
            "passed_over": dict(sorted(found.passed_over.items())),
            "examples": found.examples,
            "notes": found.notes,
            "next": f"springline rebuild start {written.path} --mode verify",
        }
        return Plan(written.path, found.events, document)

    return on_store(store, tenant, workspace, work)


def _wrong(problem: str, field: str, remedy: str) -> Refused:
    return refused(Code.INVALID_REQUEST, problem, field=field, value=True, remedy=remedy)
