"""`springline validate | deploy`: pipeline files, judged on this machine and sent to the HTTP API.

A file is imported in a process of its own (`springline.sdk.describing`): what user code prints, breaks or ends is not
this command. The API never sees code, only definitions, and judges them again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Annotated, Any

import typer

from springline.cli.documents import DocumentVerdict, Listing, hint, write_for_people
from springline.cli.grid import Format
from springline.cli.http import DEFAULT_WAIT_SECONDS, MANIFESTS, SCHEDULES, Api, ApiOption, TokenOption, WaitOption
from springline.cli.session import session
from springline.errors import Code, refused
from springline.exits import EXIT_BAD_INPUT, EXIT_DONE, EXIT_INTERRUPTED
from springline.local.processes import module_command

Json = dict[str, Any]

FileArgument = Annotated[str, typer.Argument(metavar="FILE", help="A pipeline file, or a module by its dotted name.")]
LocationOption = Annotated[
    str | None,
    typer.Option("--location", metavar="NAME", help="Name of the code location; default: that of the file."),
]


def validate(file: FileArgument, *, location: LocationOption = None) -> DocumentVerdict:
    """Say everything that is wrong with a pipeline file, each with its line, asset and remedy.

    The file is imported, and none of its assets is made. Exit code: 0 it is valid, 2 it is not.
    """
    found = describe(file, location)
    return verdict(found)


def deploy(
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="A pipeline file, or a module by its dotted name.")
    ] = None,
    *,
    location: LocationOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    remove: Annotated[
        str | None, typer.Option("--remove", metavar="NAME", help="Instead of FILE: remove this code location.")
    ] = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> DocumentVerdict:
    """Let a workspace know the assets, tasks and schedules of a file, in the place of those of this code location.

    Shows first what is added, changed and removed. Other code locations stay as they are. Deploying the same again
    changes nothing. Exit code: 0 done, 2 the file is not valid and nothing was deployed, 3 another code location stands
    against it.
    """
    if (file is None) == (remove is None) or (remove is not None and location is not None):
        raise refused(
            Code.INVALID_REQUEST,
            "a deploy takes either a pipeline file, or --remove with the code location to remove",
            field="FILE",
            value=file,
            remedy="Give FILE, or --remove NAME alone.",
        )
    found: Json = {"file": None, "location": remove, "assets": []} if file is None else describe(file, location)
    if found.get("problems"):
        return verdict(found)
    body = body_of(found)
    with Api(api, token, wait_s=wait) as surface:
        planned = surface.call("POST", root=MANIFESTS, body={**body, "dry_run": True}).body
        if remove is not None and not any(one.get("removed") for one in _parts(planned).values()):
            raise refused(
                Code.NOT_FOUND,
                f"no code location {remove!r} is deployed",
                field="--remove",
                value=remove,
                remedy="`springline asset list` shows the code location of each asset.",
            )
        for_people = session().form_here() is Format.TABLE
        if for_people:
            from springline.cli.pipelines_page import changes_text  # noqa: PLC0415 - for people only

            write_for_people(changes_text(planned))
        if body.get("schedules"):
            _tell_of_schedules(surface, {str(one["schedule_id"]) for one in body["schedules"]})
        done = planned
        changes = any(any(one.values()) for one in _parts(planned).values())
        # Schedules are events, too: what a deploy that was cut off has left to append, this one appends.
        if not dry_run and (changes or body.get("schedules")):
            done = surface.call("POST", root=MANIFESTS, body=body).body
    # Where nothing changes, what was judged is the answer: it was no dry run for all that.
    document = {"file": found["file"], **done, "dry_run": dry_run}
    return DocumentVerdict(
        Listing(
            lambda: document,
            _CHANGE_NAMES,
            [row for changes in _parts(done).values() for row in _change_rows(changes)],
            text=lambda: _ended(planned, done),
        ),
        EXIT_DONE,
    )


def _tell_of_schedules(surface: Api, names: set[str]) -> None:
    """Tell which schedules of the file operators have defined over HTTP, or paused: a deploy does not turn them on."""
    pages = surface.pages(root=SCHEDULES, params={})
    for one in (one for page in pages for one in page["items"] if one["schedule_id"] in names):
        settings = one.get("settings") or {}
        if settings.get("deleted"):
            continue
        if settings.get("dialect") and settings.get("location") is None:
            hint(f"schedule {one['schedule_id']} was defined over HTTP: this file's definition takes its place")
        if not one["enabled"]:
            hint(
                f"schedule {one['schedule_id']} is paused and stays so: "
                f"`springline schedule resume {one['schedule_id']}` turns it on"
            )


_CHANGE_NAMES = ("change", "asset", "field", "from", "to")


def _parts(answer: Json) -> Json:
    """Return the changes of each kind of definition; an older API tells no changes of tasks."""
    return {name: answer.get(name) or {} for name in ("changes", "tasks", "schedules", "sensors")}


def _change_rows(changes: Json) -> list[list[Any]]:
    return [
        *(["added", key, None, None, None] for key in changes.get("added", ())),
        *(
            ["changed", one["key"], name, field["from"], field["to"]]
            for one in changes.get("changed", ())
            for name, field in one["fields"].items()
        ),
        *(["removed", key, None, None, None] for key in changes.get("removed", ())),
        *(
            [_kind(one), f"pool {one['name']}", "slots", one["before"], one["after"]]
            for one in changes.get("pools", [])
        ),
    ]


def _kind(pool: Json) -> str:
    return "added" if pool["before"] is None else "removed" if pool["after"] is None else "changed"


def _ended(planned: Json, done: Json) -> str:
    from springline.cli.pipelines_page import changes_text, deployed_text  # noqa: PLC0415 - for people only

    # Somebody else may have deployed the same code location between the two calls.
    anew = done is not planned and _parts(done) != _parts(planned)
    return (changes_text(done) if anew else "") + deployed_text(done)


def body_of(found: Json) -> Json:
    """Return the request that deploys what `describe` has found."""
    # Without pools and schedules it is as it was before there were any: an older API takes it, too.
    more = {name: found[name] for name in ("tasks", "pools", "schedules", "sensors") if found.get(name)}
    return {"location": found["location"], "assets": found["assets"], **more}


def describe(file: str, location: str | None) -> Json:
    """Import a pipeline file in a process of its own, and return what it declares and what is wrong with it."""
    found = document_of_process("springline.sdk.describing", file, *([] if location is None else [location]))
    return ended_while_imported(file, location, found) if isinstance(found, int) else found


def document_of_process(module: str, *arguments: str) -> Json | int:
    """Return the document of a module that answers by `springline.sdk.answering`, its exit code if it has none."""
    command = module_command(module, *arguments)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    if done.returncode == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    try:
        found: Json = json.loads(done.stdout)
    except ValueError:
        return done.returncode
    for one in [found, *found["problems"]]:
        one["file"] = near(one["file"])
    return found


def ended_while_imported(file: str, location: str | None, code: int, when: str = "while it is imported") -> Json:
    """Return what is told of a file whose code has ended the process, with this exit code, before it could answer."""
    problem = {
        "file": file,
        "line": None,
        "asset": None,
        "kind": "asset",
        "message": f"ends the process {when}, {_how(code)}",
        "remedy": "Leave that to functions; what it printed is above.",
        "traceback": None,
    }
    return {"file": file, "location": location, "keys": [], "assets": [], "problems": [problem]}


def _how(code: int) -> str:
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by the signal {signal.Signals(-code).name}"
    except ValueError:
        return f"by the signal {-code}"


def near(path: str) -> str:
    """Return a path as somebody in the current folder writes it."""
    try:
        return str(Path(path).relative_to(Path.cwd().resolve())) if os.path.isabs(path) else path  # noqa: PTH117
    except ValueError:
        return path


def verdict(found: Json) -> DocumentVerdict:
    """Return what `springline validate` says of a file that `describe` has looked at."""
    problems = found["problems"]
    document = {
        "ok": not problems,
        "file": found["file"],
        "location": found["location"],
        "assets": found["keys"],
        "tasks": found.get("task_keys", []),
        "problems": problems,
    }
    names = ["file", "line", "asset", "message", "remedy"]

    def text() -> str:
        from springline.cli.pipelines_page import validity_text  # noqa: PLC0415 - for people only

        return validity_text(document)

    rows = [[one[name] for name in names] for one in problems]
    return DocumentVerdict(Listing(lambda: document, names, rows, text=text), EXIT_BAD_INPUT if problems else EXIT_DONE)
