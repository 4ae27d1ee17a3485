"""`springline materialize`: assets of a pipeline file made once on this machine, without any server."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from springline.bounds import steers_no_terminal
from springline.cli.documents import DocumentVerdict, Listing, hint
from springline.cli.pipelines import FileArgument, Json, document_of_process, ended_while_imported, verdict
from springline.cli.runs import ConfigOption, parsed_config
from springline.errors import Code, refused
from springline.exits import EXIT_CONFLICT, EXIT_DONE

TABLES = Path(".springline/tables")


def materialize(
    file: FileArgument,
    selection: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SELECTION...]",
            help="Assets: delays; '*delays' with all that it depends on; 'raw_flights*' with all that depends on it; "
            "default: every asset.",
        ),
    ] = None,
    *,
    partition: Annotated[
        str | None,
        typer.Option("--partition", metavar="KEY", help="The partition to make, such as 2024-01-31."),
    ] = None,
    config: ConfigOption = None,
    tables: Annotated[
        Path,
        typer.Option(
            "--tables", metavar="FOLDER", help="Where context.table writes and reads: a Delta folder for each table."
        ),
    ] = TABLES,
) -> DocumentVerdict:
    """Make assets of a pipeline file once, in a process on this machine, without any server.

    The functions, checks and writes are those of a run; retries follow at once. Tables are folders, which stay, so that
    the next call goes on with them. What functions print is on standard error. Exit code: 0 all succeeded, 2 the file
    or the request is wrong and nothing was made, 3 an asset failed.
    """
    request = {
        "file": file,
        "select": selection or ["*"],
        "partition_key": partition,
        "config": {} if config is None else parsed_config(config),
        "tables": str(tables),
    }
    found = document_of_process("springline.sdk.materializing", json.dumps(request))
    if isinstance(found, int):
        return verdict(ended_while_imported(file, None, found, "while its assets are made"))
    if found["problems"]:
        return verdict(found)
    if found.get("is_config"):
        raise refused(
            Code.INVALID_REQUEST,
            found["refused"],
            field="--config",
            value=json.dumps(request["config"])[:200],
            remedy="Give another object, or another file that holds one; nothing was made.",
        )
    if "refused" in found:
        is_partition = "partition_key" in found["refused"]
        raise refused(
            Code.INVALID_REQUEST,
            _for_the_command(found["refused"]),
            field="--partition" if is_partition else "SELECTION",
            value=partition if is_partition else " ".join(selection or ["*"]),
            remedy="Give --partition KEY, such as 2024-01-31, for assets with partitions, and for those alone."
            if is_partition
            else f"{file} has {', '.join(found['keys'][:20])}; '*NAME' is an asset with all that it depends on.",
        )
    if any(one["writes"] for one in found["assets"]):
        hint(f"tables are in {tables}")
    return DocumentVerdict(_listing(found), EXIT_DONE if found["ok"] else EXIT_CONFLICT)


def _for_the_command(said: str) -> str:
    """Return a refusal of the library without what only a call in Python can do."""
    said = said.replace("give the partition_key to make", "say which one to make")
    return re.sub(r", or (leave \S+ out and )?give inputs=\{.*\}", "", said)


def _listing(found: Json) -> Listing:
    names = ["asset", "partition", "state", "attempts", "seconds", "told"]
    rows = [
        [one["asset"], one["partition"], one["state"], one["attempts"], one["duration_s"], _told(one)]
        for one in found["assets"]
    ]
    document = {name: found[name] for name in ("ok", "file", "run_id", "assets")}

    def text() -> str:
        from springline.cli.present import rows_text  # noqa: PLC0415 - for people only

        # A table is as wide as the window, and an error says more.
        failed = [(one["asset"], " ".join(one["error"].split())) for one in found["assets"] if one["error"] is not None]
        errors = [f"{asset}\n  {steers_no_terminal(error)}\n" for asset, error in failed]
        return "\n".join([rows_text(names, rows)[0], *errors])

    return Listing(lambda: document, names, rows, text=text)


def _told(one: Mapping[str, Any]) -> str | None:
    """Return what is worth a word about an asset: its error, what it has written, and which checks do not hold."""
    if one["error"] is not None:
        return str(one["error"])
    if one["skipped_by"] is not None:
        return f"{one['skipped_by']} has no output"
    told = [
        f"{write['operation']} {write['table']} version {write['version']}"
        + ("" if write["rows"] is None else f" ({write['rows']} rows)")
        for write in one["writes"]
    ]
    told += [f"check {check['name']}: {check['message']}" for check in one["checks"] if not check["passed"]]
    if not told and one["output"] is not None:
        told.append(json.dumps(one["output"], ensure_ascii=False))
    return "; ".join(told) or None
