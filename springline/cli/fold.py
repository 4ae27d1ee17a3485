"""`springline state fold`: folds explicit events into a state in this process, and does not publish it."""

from __future__ import annotations

import base64
import binascii
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from springline.cli.documents import DocumentVerdict, hint
from springline.cli.stores import StoreOption, TenantOption, WorkspaceOption, on_store
from springline.errors import Code, refused
from springline.exits import EXIT_CONFLICT, EXIT_DONE
from springline.local.processes import peak_memory_bytes

if TYPE_CHECKING:
    from springline.rebuild.offline import OfflineFold

SecretOption = Annotated[
    str | None,
    typer.Option(
        "--run-id-secret",
        metavar="BASE64",
        envvar="SPRINGLINE_RUN_ID_SECRET",
        help="The secret that run ids are made with; default: the empty one.",
    ),
]
RetentionOption = Annotated[
    int | None,
    typer.Option(
        "--retention-days",
        metavar="N",
        min=0,
        envvar="SPRINGLINE_RETENTION_DAYS",
        help="Fold with retention; 0 keeps runs for ever. Default: nothing is pruned.",
    ),
]


def fold(
    *,
    tenant: TenantOption,
    workspace: WorkspaceOption,
    manifest: Annotated[
        Path,
        typer.Option("--manifest", metavar="FILE", help='A local file with {"event_paths": [...]}, gzip or plain.'),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where the state goes; compressed if it ends in .gz.")
    ],
    store: StoreOption = None,
    batch: Annotated[
        int | None, typer.Option("--batch", metavar="N", min=1, help="Events delivered together; default: all.")
    ] = None,
    order: Annotated[
        str, typer.Option("--order", metavar="ORDER", help="Order of delivery: listed, id, or random:SEED.")
    ] = "listed",
    run_id_secret: SecretOption = None,
    retention_days: RetentionOption = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Write the state even if events are missing or damaged.")
    ] = False,
) -> DocumentVerdict:
    """Fold events at explicit paths without Temporal. Nothing is published or written to the store.

    The state is the same whatever the order and the batches: that of all events in the order of their ids. Prints
    events per second, peak memory, digests, and every object that was not folded, with the reason. Exit code: 0 done,
    3 events are missing or damaged; the state is then written with --allow-missing only.
    """
    from springline.rebuild.offline import event_paths, ordered  # noqa: PLC0415 - as in _folded

    paths = ordered(event_paths(manifest), order)
    secret = parse_secret(run_id_secret)
    _check_out(out)

    async def work(scoped: Any) -> OfflineFold:
        # The fold imports Arrow, which takes most of a second: so import it only in this command.
        from springline.projection.config import FoldConfig  # noqa: PLC0415
        from springline.rebuild.offline import fold_offline  # noqa: PLC0415

        config = FoldConfig(tenant, workspace, secret, retention_days)
        return await fold_offline(scoped, config, paths, batch=batch, progress=_progress(len(paths)))

    folded = on_store(store, tenant, workspace, work)
    report = folded.report() | {"peak_memory_bytes": peak_memory_bytes()}
    lacking = len(folded.missing) + len(folded.damaged)
    written = lacking == 0 or allow_missing
    if written:
        write_state(out, folded.golden())
    else:
        hint(
            f"{lacking} events are missing or damaged, so {out} was not written; --allow-missing writes it all the same"
        )
    if folded.refused:
        hint(f"{len(folded.refused)} objects are none of this workspace's events; they are in `refused`")
    report = {"out": str(out) if written else None, "order": order, **report}
    return DocumentVerdict(report, EXIT_CONFLICT if lacking else EXIT_DONE)


def parse_secret(text: str | None) -> bytes:
    """Return the run-id secret in base64, empty if none is given; raises `Refused` (INVALID_REQUEST)."""
    try:
        return base64.b64decode(text or "", validate=True)
    except (binascii.Error, ValueError):
        raise refused(
            Code.INVALID_REQUEST,
            "the run-id secret is not base64",
            field="--run-id-secret",
            remedy="Give the secret's bytes in base64, as the deployment's configuration holds them.",
        ) from None


def write_state(file: Path, state: dict[str, Any]) -> None:
    """Write a state in golden form, whole or not at all; compressed if the name ends in `.gz`.

    Raises `Refused` if it cannot be written.
    """
    from springline.published.golden_state import encode_golden  # noqa: PLC0415

    data = encode_golden(state, compressed=file.name.endswith(".gz"))
    try:
        if file.exists() and not file.is_file():
            file.write_bytes(data)  # A pipe or a device.
            return
        draft = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            draft.write_bytes(data)
            draft.replace(file.resolve())
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(file, error.strerror or str(error)) from None


def _check_out(file: Path) -> None:
    """Check before an hour of folding that its result can be written."""
    if file.is_dir() or not file.absolute().parent.is_dir():
        raise _unwritable(file, "it is a folder" if file.is_dir() else "its folder is not there")


def _unwritable(file: Path, why: str) -> Exception:
    return refused(
        Code.INVALID_REQUEST,
        f"{str(file)!r} cannot be written: {why}",
        field="--out",
        value=str(file),
        remedy="Name a file in a folder that is there and may be written to.",
    )


def _progress(total: int) -> Any:
    """Return a callback that shows progress to a person, and nothing to a program."""
    if not sys.stderr.isatty():
        return None
    return lambda done: print(
        f"\rspringline: {done:,} of {total:,}", end="\n" if done == total else "", file=sys.stderr
    )
