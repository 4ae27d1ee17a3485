"""`springline stage`, `commit` and `explain`: through the HTTP API."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import uuid_utils

from springline.cli.documents import Document, hint
from springline.cli.http import DEFAULT_WAIT_SECONDS, Api, ApiOption, TokenOption, WaitOption
from springline.cli.tables import TableArgument, check_table
from springline.delta.messages import CommitMode
from springline.errors import Code, Refused, refused
from springline.keys import HEADER_FIELD, idempotency_key

REPLAYED_HEADER = "Idempotency-Replayed"

PayloadOption = Annotated[
    str,
    typer.Option("--payload", metavar="FILE|-", help="Delta actions as newline-delimited JSON; - is standard input."),
]
ReadVersionOption = Annotated[
    int | None,
    typer.Option(
        "--read-version",
        metavar="N",
        min=-1,
        help="The version the payload was computed from; -1: the table has none. "
        "An append without it takes the latest.",
    ),
]
ModeOption = Annotated[
    CommitMode,
    typer.Option("--mode", help="strict: version N + 1 or a conflict. append: a blind append, any version will do."),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="UUIDv7|TEXT",
        help="Idempotency key: a UUIDv7, or any text, which stands for one; by default a new one. Shown before it is "
        "sent.",
    ),
]


def stage(
    table: TableArgument,
    *,
    payload: PayloadOption,
    read_version: ReadVersionOption = None,
    mode: ModeOption = CommitMode.STRICT,
    key: KeyOption = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Document:
    """Stage a payload and print the request that commits it, for the Temporal CLI's `--input`.

    The table stays as it is.
    """
    check_table(table)
    chosen = _chosen_key(key)
    data = read_payload(payload)
    with Api(api, token, wait_s=wait, again=f"run the same command again with --key {chosen}") as surface:
        return _staged(surface, table, data, read_version, mode, chosen)


def commit(
    table: TableArgument,
    *,
    payload: PayloadOption,
    read_version: ReadVersionOption = None,
    mode: ModeOption = CommitMode.STRICT,
    key: KeyOption = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Document:
    """Stage a payload and commit it exactly once. After a lost answer, repeat the command with the key it showed."""
    check_table(table)
    chosen = _chosen_key(key)
    data = read_payload(payload)
    hint(f"idempotency key {chosen}; after a lost answer run the same command with --key {chosen}")
    with Api(api, token, wait_s=wait, again=f"run the same command again with --key {chosen}") as surface:
        request = _staged(surface, table, data, read_version, mode, chosen)
        answer = surface.call("POST", table, "commits", body=request, headers={HEADER_FIELD: chosen})
    return {
        "idempotency_key": chosen,
        "replayed": answer.headers.get(REPLAYED_HEADER) == "true",
        **answer.body,
    }


def explain(
    table: TableArgument,
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="The idempotency key of the commit in question: a UUIDv7, or any text.")
    ],
    *,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Document:
    """Tell what became of an idempotency key: committed, in flight, or (exit code 2) not known to the table.

    A key that is no UUIDv7 is shown with the one that it stands for.
    """
    check_table(table)
    canonical = _canonical(key, "key")
    with Api(api, token, wait_s=wait) as surface:
        found = surface.call("GET", table, "commits", canonical).body
    return found if canonical == key else {"key": key, **found}


def read_payload(source: str) -> str:
    """Return the payload in a file or in standard input (`-`); raises `Refused` if it cannot be read as text."""
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        return data.decode()
    except OSError as error:
        raise _payload(f"file {source!r} cannot be read: {error.strerror}", source) from None
    except UnicodeDecodeError as error:
        raise _payload(f"the payload is not UTF-8 at byte {error.start}", source) from None


def _payload(message: str, source: str) -> Refused:
    return refused(
        Code.INVALID_PAYLOAD,
        message,
        field="--payload",
        value=source,
        remedy="Give a file of Delta actions in UTF-8, one JSON object on each line, or - for standard input.",
    )


def _chosen_key(key: str | None) -> str:
    return str(uuid_utils.uuid7()) if key is None else _canonical(key, "--key")


def _canonical(key: str, field: str) -> str:
    """Return the UUIDv7 that a key stands for, and show it to the operator if it differs."""
    canonical = idempotency_key(key, field=field)
    if canonical != key:
        hint(f"key {key!r} stands for {canonical}")
    return canonical


def _staged(
    surface: Api, table: str, payload: str, read_version: int | None, mode: CommitMode, key: str
) -> dict[str, Any]:
    """Stage under the key, so that a repeated command stages once; return the commit request."""
    if read_version is None:
        if mode is CommitMode.STRICT:
            raise refused(
                Code.INVALID_REQUEST,
                "a strict commit names the version it was computed from",
                field="--read-version",
                remedy="Give --read-version N with the version you read, or --mode append for a blind append.",
            )
        read_version = int(surface.call("GET", table).body["latest_version"])
    staged = surface.call("POST", table, "commits", "stage", body={"payload": payload}, headers={HEADER_FIELD: key})
    return {
        "idempotency_key": key,
        "mode": mode.value,
        "read_version": read_version,
        "staged_path": staged.body["staged_path"],
        "staged_version": staged.body["staged_version"],
    }
