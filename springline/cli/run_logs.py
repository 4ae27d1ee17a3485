"""`springline run logs`: what attempts of a run have printed, through the HTTP API."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from springline.bounds import steers_no_terminal
from springline.cli.documents import DocumentVerdict, Listing, hint
from springline.cli.grid import Format
from springline.cli.http import DEFAULT_WAIT_SECONDS, RUNS, Api, ApiOption, TokenOption, WaitOption
from springline.cli.runs import RunArgument, check_run
from springline.cli.runs_page import OVER
from springline.cli.session import session
from springline.definitions.ids import meant, meant_task_key
from springline.errors import Code, Refused, refused
from springline.exits import EXIT_CONFLICT, EXIT_DONE

Json = dict[str, Any]

_EVERY_SECONDS = 1.0


def logs(
    run_id: RunArgument,
    task: Annotated[
        str | None,
        typer.Argument(metavar="[TASK]", help="A task, such as raw_flights[2024-01-31]; default: all of the run."),
    ] = None,
    *,
    attempt: Annotated[
        int | None,
        typer.Option("--attempt", metavar="N", min=1, help="Of this attempt only; default: of all."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is printed, until the run has ended or Ctrl-C.")
    ] = False,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> DocumentVerdict:
    """Show what the functions of a run have printed and logged, and the errors that have ended them.

    Workers keep it about 2 s after it was printed: at most 4 MiB of an attempt, and the end of what is longer. A part
    that is lost or damaged is named, and the rest is shown all the same. Exit code: 0, 2 there is no such run or task,
    3 a part is lost or damaged, or with --follow the run has failed or was cancelled.
    """
    check_run(run_id)
    with Api(api, token, wait_s=wait) as surface:
        seen = _Seen(surface, run_id, None if task is None else meant_task_key(task), attempt)
        if not follow:
            lines = seen.new(surface.call("GET", run_id, root=RUNS).body)
            document = {"run_id": run_id, "lines": lines, "damaged": seen.damaged}
            rows = [[one["task_key"], one["attempt"], one["at"], one["text"]] for one in lines]
            listing = Listing(lambda: document, ["task", "attempt", "at", "line"], rows, text=lambda: _text(lines))
            return DocumentVerdict(listing, EXIT_CONFLICT if seen.damaged else EXIT_DONE)
        return DocumentVerdict(*_followed(surface, run_id, seen, time.sleep))


def _followed(surface: Api, run_id: str, seen: _Seen, pause: Callable[[float], object]) -> tuple[Listing, int]:
    """Write lines as they come, until the run has ended."""
    for_people = session().form_here() is Format.TABLE
    try:
        while True:
            found = surface.call("GET", run_id, root=RUNS).body
            lines = seen.new(found)
            for one in lines:
                sys.stdout.write(_line(one) if for_people else _json_line(one))
            sys.stdout.flush()
            state = found["run"]["state"]
            if state in OVER:
                break
            pause(_EVERY_SECONDS)
    except KeyboardInterrupt:
        hint(f"run {run_id} goes on; `springline run logs {run_id} --follow` shows it from its begin")
        raise
    hint(f"run {run_id} is {state}")
    is_well = state == "SUCCEEDED" and not seen.damaged
    return Listing(dict, [], [], text=str), EXIT_DONE if is_well else EXIT_CONFLICT


class _Seen:
    """What was shown of the attempts of a run; `task` and `attempt` as the command has them."""

    def __init__(self, surface: Api, run_id: str, task: str | None, attempt: int | None) -> None:
        self._surface = surface
        self._run_id = run_id
        self._task = task
        self._attempt = attempt
        self._next: dict[tuple[str, int], int] = {}
        self._over: set[tuple[str, int]] = set()
        self.damaged: list[Json] = []
        """The parts that cannot be read, each with its task, attempt and a message that names the object."""

    def new(self, found: Json) -> list[Json]:
        """Return the lines that were not shown yet, by the order of their instants; `found`: the run and its tasks."""
        lines: list[Json] = []
        for key, number in self._attempts(found):
            if (key, number) not in self._over:
                lines += self._of_attempt(key, number)
        return sorted(lines, key=lambda one: str(one["at"]))

    def _attempts(self, found: Json) -> list[tuple[str, int]]:
        tasks = {one["task_key"]: int(one["attempt"]) for one in found["tasks"]}
        if self._task is not None:
            if self._task not in tasks:
                raise refused(
                    Code.NOT_FOUND,
                    f"run {self._run_id} has no task {self._task!r}",
                    field="TASK",
                    value=self._task,
                    remedy=f"{meant(self._task, tasks)}`springline run show {self._run_id}` shows them.",
                )
            tasks = {self._task: tasks[self._task]}
        if self._attempt is not None:
            return [(key, self._attempt) for key in tasks]
        return [(key, number) for key, most in tasks.items() for number in range(1, most + 1)]

    def _of_attempt(self, key: str, number: int) -> list[Json]:
        lines: list[Json] = []
        while True:
            before = self._next.get((key, number), 0)
            body = self._behind(key, number, before)
            if body is None:
                self._next[(key, number)] = before + 1
                continue
            lines += [{"task_key": key, "attempt": number, **one} for one in body["lines"]]
            self._next[(key, number)] = body["next"]
            if not body["more"]:
                self._over.add((key, number))
            if not body["more"] or body["next"] == before:
                return lines

    def _behind(self, key: str, number: int, after: int) -> Json | None:
        """Return the next lines of an attempt, of one part alone if another is damaged; None: the next one is."""
        asked: dict[str, str | float | list[str]] = {"task_key": key, "attempt": number, "after": after}
        try:
            return self._surface.call("GET", self._run_id, "logs", root=RUNS, params=asked).body
        except Refused as error:
            if error.refusal.code is not Code.STORED_DAMAGED:
                raise
        try:
            return self._surface.call("GET", self._run_id, "logs", root=RUNS, params=asked | {"limit": 1}).body
        except Refused as error:
            if error.refusal.code is not Code.STORED_DAMAGED:
                raise
            message = error.refusal.message
            hint(f"{message}; {error.refusal.remedy}")
            self.damaged.append({"task_key": key, "attempt": number, "message": message})
            return None


def _text(lines: list[Json]) -> str:
    return "".join(map(_line, lines)) or "Nothing was printed, or it is not kept yet.\n"


def _line(one: Json) -> str:
    clock = str(one["at"])[11:19]
    return f"{clock} {one['task_key']}#{one['attempt']}  {steers_no_terminal(one['text'])}\n"


def _json_line(one: Json) -> str:
    import orjson  # noqa: PLC0415 - not for people

    return orjson.dumps(one).decode() + "\n"
