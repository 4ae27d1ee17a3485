"""`springline state show | dump | digest | diff`: the published state, read from the store."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from springline.cli.documents import Document, DocumentVerdict
from springline.cli.fold import write_state
from springline.cli.stores import (
    OptionalTenant,
    OptionalWorkspace,
    StoreOption,
    TenantOption,
    WorkspaceOption,
    on_store,
)
from springline.cli.watching import WatchOption, watched
from springline.errors import Code, refused
from springline.exits import EXIT_CONFLICT, EXIT_DONE


def show(
    *, tenant: TenantOption, workspace: WorkspaceOption, store: StoreOption = None, watch: WatchOption = False
) -> Document:
    """Show where the published state stands: revision, watermarks, rows by table, digest."""

    async def work(scoped: Any) -> Document:
        # Reading the state needs Arrow, which takes most of a second to import: so import it only in these commands.
        from springline.projection.schema import REFERENCE_TABLES  # noqa: PLC0415
        from springline.published.reader import read_digest  # noqa: PLC0415

        found = await read_digest(scoped)
        rows = {name: table["rows"] for name, table in found.tables.items()}
        return {
            "revision": found.head.revision.as_json(),
            "events": found.head.events,
            "rounds_folded": found.head.rounds_folded,
            "watermarks": found.head.watermarks,
            "rows": {name: count for name, count in rows.items() if count or name in REFERENCE_TABLES},
            "digest": found.state,
            "own_digest": found.own,
        }

    if watch:
        watched(lambda: on_store(store, tenant, workspace, work))
    return on_store(store, tenant, workspace, work)


def digest(*, tenant: TenantOption, workspace: WorkspaceOption, store: StoreOption = None) -> Document:
    """Show the digest of the published state and of its tables. Equal digests mean equal states."""

    async def work(scoped: Any) -> Document:
        from springline.published.reader import read_digest  # noqa: PLC0415 - as above

        found = await read_digest(scoped)
        return {
            "digest": found.state,
            "own_digest": found.own,
            "tables": found.tables,
            "revision": found.head.revision.as_json(),
        }

    return on_store(store, tenant, workspace, work)


def dump(
    *,
    tenant: TenantOption,
    workspace: WorkspaceOption,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Compressed if it ends in .gz.")],
    store: StoreOption = None,
) -> Document:
    """Write the published state to a file that anybody can compare: `springline state diff`, or any JSON tool."""
    state = on_store(store, tenant, workspace, _golden)
    write_state(out, state["state"])
    return {"out": str(out), "revision": state["revision"], "rows": state["state"]["row_counts"]}


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="A file of `state dump` or `state fold`.")],
    b: Annotated[
        Path | None, typer.Argument(metavar="[B]", help="Another one; default: the published state in the store.")
    ] = None,
    *,
    tenant: OptionalTenant = None,
    workspace: OptionalWorkspace = None,
    store: StoreOption = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=0, help="Most differences shown.")] = 100,
) -> DocumentVerdict:
    """Compare two states, by table, key and column. Exit code: 0 they are equal, 3 they differ."""
    from springline.published.golden_state import differences  # noqa: PLC0415

    left = _tables(a, "A")
    if b is not None:
        right, against = _tables(b, "B"), str(b)
    else:
        right, against = _published(store, tenant, workspace)
    found = differences(left, right)
    shown = list(islice(found, limit))
    more = sum(1 for _ in found)
    counts: dict[str, int] = {}
    for one in shown:
        counts[one.table] = counts.get(one.table, 0) + 1
    document = {
        "equal": not shown and not more,
        "a": str(a),
        "b": against,
        "differences": [one.as_json() for one in shown],
        "shown_by_table": counts,
        "total": len(shown) + more,
    }
    return DocumentVerdict(document, EXIT_DONE if document["equal"] else EXIT_CONFLICT)


async def _golden(scoped: Any) -> dict[str, Any]:
    from springline.projection.schema import REFERENCE_TABLES  # noqa: PLC0415
    from springline.published.golden_state import golden_state  # noqa: PLC0415
    from springline.published.reader import read_published  # noqa: PLC0415

    head, snapshot = await read_published(scoped, tuple(REFERENCE_TABLES))
    state = golden_state(lambda name: snapshot[name], head.golden_watermarks(), head.golden_manifest())
    return {"state": state, "revision": head.revision.as_json()}


def _published(store: str | None, tenant: str | None, workspace: str | None) -> tuple[Any, str]:
    for option, value in (("--tenant", tenant), ("--workspace", workspace)):
        if value is None:
            raise refused(
                Code.INVALID_REQUEST,
                f"{option} is not given, and no second file either",
                field=option,
                remedy="Give a second file, or --store, --tenant and --workspace of the state to compare with.",
            )
    assert tenant is not None
    assert workspace is not None
    from springline.published.golden_state import decode_golden, encode_golden  # noqa: PLC0415

    found = on_store(store, tenant, workspace, _golden)
    # Encode and decode it as a file, so that both sides have the same form.
    tables = decode_golden(encode_golden(found["state"], compressed=False))["tables"]
    return tables, f"revision {found['revision']['manifest_id']}"


def _tables(file: Path, field: str) -> Any:
    from springline.published.golden_state import InvalidGoldenState, decode_golden  # noqa: PLC0415

    try:
        return decode_golden(file.read_bytes())["tables"]
    except (OSError, InvalidGoldenState) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise refused(
            Code.INVALID_REQUEST,
            f"file {str(file)!r} is no state: {said}",
            field=field,
            value=str(file),
            remedy="Give a file that `springline state dump` or `springline state fold` wrote.",
        ) from None
