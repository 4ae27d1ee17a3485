"""The command line as a whole: its commands, and what is common to them.

This module imports nothing that a command needs, so that help is quick; a command's module is imported when it is run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from springline.cli.lazy import COMPLETE_VARIABLE, Entry, LazyGroup, group_of
from springline.cli.session import begin, session
from springline.exits import EXIT_INTERRUPTED, was_interrupted

if TYPE_CHECKING:
    from springline.cli.doctor import TemporalFindings

HELP = """\
Commit to Delta tables through durable workflows, deploy pipelines, keep their ledger, and look after all of it.

On a terminal every command prints a table or names and values, elsewhere one JSON document on standard output
(`ledger tail` one per event); -o json|table|csv chooses. A command that cannot do its work says so on standard error:
code, message, field, value, remedy, on a terminal in one line. Lines that begin with "springline:" are hints for
people.

Exit codes: 0 done, 2 bad input, 3 conflict, 4 try again, 130 ended by Ctrl-C.

API, token, store, tenant and workspace come from --api, --token or --token-file, --store, --tenant and --workspace;
else from SPRINGLINE_API_URL, SPRINGLINE_TOKEN or SPRINGLINE_TOKEN_FILE, SPRINGLINE_STORE_URL, SPRINGLINE_TENANT and
SPRINGLINE_WORKSPACE; else from the profile (`springline profile`).
"""

_OF_TABLES = {
    "create": Entry("tables:create", "Create a Delta table (version 0) and register it."),
    "adopt": Entry("tables:adopt", "Register a Delta table that another engine wrote into a folder of the workspace."),
    "status": Entry("tables:status", "Show a table as it is stored, and what its sequencer is doing."),
    "list": Entry("tables:list_tables", "List the tables of the workspace, in the order of their creation."),
    "history": Entry(
        "tables:history",
        "Show the versions of a table, newest first: when, by which operation, under which keys, with how many rows.",
    ),
    "recover": Entry("stores:recover", "Complete or abandon whatever a table has in flight, from storage alone."),
    "verify": Entry(
        "stores:verify", "Look whether a table's registry, coordinator, log and markers agree, from storage alone."
    ),
    "clean-staging": Entry(
        "stores:clean_staging", "Remove staged payloads that are older than 7 days and that no reservation names."
    ),
}
_OF_ASSETS = {
    "list": Entry(
        "assets:list_assets",
        "List the assets that are deployed, by key, with how many of their latest partitions are stale.",
    ),
    "show": Entry(
        "assets:show",
        "Show an asset: how it is made, what it depends on, what depends on it, and how its partitions stand.",
    ),
    "lineage": Entry(
        "lineage:lineage",
        "Show how an asset was made each time: the run, its code, the versions it wrote, and those it was made from.",
    ),
}
_OF_RUNS = {
    "start": Entry(
        "runs:start", "Start a run of assets, once for each key; with --stale, of what is stale among them."
    ),
    "list": Entry("runs:list_runs", "List the runs of the workspace, in the order of their ids."),
    "show": Entry("runs:show", "Show a run and its tasks: states, attempts, durations, errors."),
    "logs": Entry(
        "run_logs:logs",
        "Show what the functions of a run have printed and logged, and the errors that have ended them.",
    ),
    "cancel": Entry(
        "runs:cancel", "Cancel a run: no task of it begins any more, and attempts under way are told to end."
    ),
    "rerun": Entry(
        "runs:rerun",
        "Make tasks of a run that has ended again, in a run of their own: what failed, or the tasks named.",
    ),
}
_OF_SCHEDULES = {
    "list": Entry(
        "schedules:list_schedules",
        "List the schedules of the workspace: when each is due, whether it is on, its next and its last instant.",
    ),
    "show": Entry(
        "schedules:show", "Show a schedule: its definition, its next instants, and what became of the last ones."
    ),
    "preview": Entry(
        "schedules:preview",
        "Show the next instants of a schedule in UTC and in its zone, and which partitions its runs would make.",
    ),
    "history": Entry(
        "schedules:history",
        "Show what became of a schedule's instants: run, skipped and why, and how late that was decided.",
    ),
    "pause": Entry(
        "schedules:pause", "Let a schedule ask for no run any more, until it is resumed; runs under way go on."
    ),
    "resume": Entry(
        "schedules:resume",
        "Let a schedule ask for runs again, from now on; the instants of the pause are on record as skipped.",
    ),
    "trigger": Entry("schedules:trigger", "Ask for a run of a schedule now, paused or not."),
    "delete": Entry("schedules:delete", "Delete a schedule that no pipeline file declares; its ticks stay on record."),
}
_OF_BACKFILLS = {
    "create": Entry(
        "backfills:create", "Start a backfill: make partitions of assets, some in each run, until all are done."
    ),
    "list": Entry("backfills:list_backfills", "List the backfills of the workspace, and how far each is."),
    "show": Entry("backfills:show", "Show a backfill: how far it is, what is left, and which chunks run or failed."),
    "watch": Entry("backfills:watch", "Show how far a backfill is until it has ended."),
    "pause": Entry("backfills:pause", "Let a backfill ask for no more runs; those under way go on."),
    "resume": Entry("backfills:resume", "Let a paused backfill go on from where it stands."),
    "cancel": Entry("backfills:cancel", "End a backfill, and cancel its runs."),
    "retry-failed": Entry(
        "backfills:retry_failed",
        "Start a backfill of exactly the partitions of another one that failed or were skipped.",
    ),
}
_OF_POOLS = {
    "list": Entry("pools:list_pools", "List the pools of the workspace: sizes, slots taken, runs that wait."),
    "show": Entry("pools:show", "Show a pool: who has its slots, since when, and which runs wait."),
    "set": Entry("pools:set_size", "Set how many attempts of a pool run at once, whatever pipeline files declare."),
}
_OF_HOLD = {
    "show": Entry("hold:show", "Show whether the workspace is held, who said so, when and why."),
    "set": Entry(
        "hold:set_hold", "Let nothing new begin in the workspace until the hold is taken off; what runs goes on."
    ),
    "release": Entry("hold:release", "Let the workspace go on; what has waited begins within seconds."),
}
_OF_LEDGER = {
    "append": Entry("ledger:append", "Append events, all or none or each by itself, exactly once."),
    "ingest": Entry("ledger:ingest", "Take in events that lie in the ledger though the sequencer did not write them."),
    "restore": Entry(
        "ledger:restore",
        "Write objects of accepted events anew, byte for byte, from the segments and round records that hold them too.",
    ),
    "tail": Entry("tail:tail", "Print accepted events in the order of their ids, one JSON object per line."),
}
_OF_STATE = {
    "show": Entry("state:show", "Show where the published state stands: revision, watermarks, rows by table, digest."),
    "dump": Entry(
        "state:dump",
        "Write the published state to a file that anybody can compare: `springline state diff`, or any JSON tool.",
    ),
    "digest": Entry("state:digest", "Show the digest of the published state and of its tables."),
    "diff": Entry("state:diff", "Compare two states, by table, key and column."),
    "fold": Entry("fold:fold", "Fold events at explicit paths without Temporal."),
}
_OF_SENSORS = {
    "list": Entry(
        "sensors:list_sensors",
        "List the sensors of the workspace: what each watches, whether it is paused, its cursor, messages that wait.",
    ),
    "show": Entry(
        "sensors:show", "Show a sensor: its cursor, its backlog and lag, what it is doing, and its last decisions."
    ),
    "history": Entry(
        "sensors:history",
        "Show what a sensor's evaluations came to.",
    ),
    "pause": Entry(
        "sensors:pause",
        "Let a sensor be evaluated no more, until it is resumed; messages wait, runs under way go on.",
    ),
    "resume": Entry(
        "sensors:resume", "Let a sensor be evaluated again, from its cursor; messages that waited come first."
    ),
    "reset": Entry(
        "sensors:reset",
        "Let a sensor begin without a cursor; runs that it has asked for under a run key are not made again.",
    ),
    "set-cursor": Entry(
        "sensors:set_cursor",
        "Let a sensor go on from another cursor; an evaluation that is under way is not recorded.",
    ),
    "evaluate": Entry(
        "sensors:evaluate", "Evaluate a sensor now, without waiting for its interval, and show what that came to."
    ),
    "dry-run": Entry(
        "sensors:dry_run",
        "Show what an evaluation of a sensor would ask for, also of a paused one; nothing is recorded.",
    ),
    "push": Entry("sensors:push", "Push a message to a sensor; it is in the ledger when this returns."),
}
_OF_REBUILD = {
    "plan": Entry("rebuild_plan:plan", "Write the list of events that a rebuild is to read."),
    "start": Entry("rebuild:start", "Start a rebuild and watch it."),
    "watch": Entry(
        "rebuild:watch", "Watch a rebuild until its end and print what came of it, at once if it has ended."
    ),
    "verify": Entry(
        "rebuild:verify",
        "Prove that the published state is what its events say: fold them anew, publish nothing, report differences.",
    ),
    "explain": Entry(
        "rebuild:explain",
        "Tell what a rebuild has done, what it found missing, damaged or different, and what to do next.",
    ),
    "cancel": Entry("rebuild:cancel", "Cancel the rebuild that runs."),
}
_OF_REPAIR = {
    "run": Entry("repair:run", "Look now for what stands still in the workspace, and repair it."),
    "show": Entry("repair:show", "Show what the last look found and did, and how often what was repaired."),
}
_OF_EXPLAIN = {
    "schedule": Entry(
        "explain:schedule", "Tell why a schedule did or did not run at an instant, or what it waits for now."
    ),
    "run": Entry("explain:run", "Tell why a run has not begun, what it waits for, or how it ended."),
    "task": Entry("explain:task", "Tell why a task of a run has not begun, what it waits for, or how it ended."),
    "attempt": Entry("explain:attempt", "Tell why there was an attempt of a task, who made it, and how it ended."),
    "sensor": Entry("explain:sensor", "Tell why a sensor asks for nothing, what it waits for, and who paused it."),
    "evaluation": Entry(
        "explain:evaluation", "Tell which runs an evaluation of a sensor asked for, or why it asked for none."
    ),
    "backfill": Entry(
        "explain:backfill", "Tell what a backfill waits for, which partitions are not done, and who halted it."
    ),
    "chunk": Entry(
        "explain:chunk", "Tell why a chunk of a backfill is not planned, what it waits for, or how it ended."
    ),
    "partition": Entry("explain:partition", "Tell why a partition is not there or is stale, and who makes it now."),
    "commit": Entry(
        "commits:explain",
        "Tell what became of an idempotency key: committed, in flight, or (exit code 2) not known to the table.",
    ),
}
_OF_PROFILES = {
    "set": Entry(
        "profiles:set_profile", "Keep settings under a name; those that are not given stay.", with_profile=False
    ),
    "list": Entry("profiles:list_profiles", "List the profiles; tokens are shortened.", with_profile=False),
    "show": Entry("profiles:show_profile", "Show a profile, by default the one that is used.", with_profile=False),
    "use": Entry(
        "profiles:use_profile", "Use a profile from now on, where --profile names no other.", with_profile=False
    ),
    "remove": Entry("profiles:remove_profile", "Forget a profile.", with_profile=False),
}
_OTHERS = {
    "validate": Entry(
        "pipelines:validate",
        "Say everything that is wrong with a pipeline file, each with its line, asset and remedy.",
        with_profile=False,
    ),
    "materialize": Entry(
        "materialize:materialize",
        "Make assets of a pipeline file once, in a process on this machine, without any server.",
        with_profile=False,
    ),
    "deploy": Entry(
        "pipelines:deploy",
        "Let a workspace know the assets, tasks and schedules of a file, in the place of those of this code location.",
    ),
    "work": Entry(
        "work:work",
        "Take the attempts of a pipeline file's assets from Temporal and make them on this machine, until Ctrl-C.",
    ),
    "commit": Entry("commits:commit", "Stage a payload and commit it exactly once."),
    "stage": Entry(
        "commits:stage", "Stage a payload and print the request that commits it, for the Temporal CLI's `--input`."
    ),
    "report": Entry("report:report", "Write what happened in the workspace and what is wrong now as one HTML file."),
    "query": Entry("query:query", "Ask the published state in SQL (DuckDB)."),
    "token": Entry("service:token", "Make a bearer token with the secret in SPRINGLINE_JWT_SECRET."),
    "dev": Entry(
        "dev:dev", "Run Temporal, workers and the API on this machine until Ctrl-C, with a token.", with_profile=False
    ),
    "completion": Entry(
        "service:completion", "Print what makes a shell complete commands and options.", with_profile=False
    ),
    "version": Entry("service:show_version", "Show what is installed.", with_profile=False),
}
_DOCTOR = "Look at configuration, store, clock, API and Temporal, and say what to run where something is wrong."
GROUPS: Mapping[str, tuple[str, Mapping[str, Entry]]] = {
    "table": ("Create, adopt, look at and recover tables.", _OF_TABLES),
    "asset": ("Look at the assets that are deployed.", _OF_ASSETS),
    "run": ("Start, watch, cancel and repeat runs.", _OF_RUNS),
    "pool": ("Look at pools, and set how many attempts run at once.", _OF_POOLS),
    "hold": ("Let nothing new begin in the workspace, and let it go on.", _OF_HOLD),
    "schedule": ("Look at schedules, pause and resume them, trigger them now.", _OF_SCHEDULES),
    "sensor": ("Look at sensors, push to them, pause, resume and evaluate them.", _OF_SENSORS),
    "backfill": ("Make many partitions, watch, pause, resume, cancel that, and repeat what failed.", _OF_BACKFILLS),
    "ledger": ("Append events, take in foreign ones, read them, and restore their objects.", _OF_LEDGER),
    "state": ("Look at the published state, compare states, fold events offline.", _OF_STATE),
    "rebuild": ("Rebuild the published state from its events, and prove it.", _OF_REBUILD),
    "explain": ("Tell why something ran, did not run, or waits; who decided what and when.", _OF_EXPLAIN),
    "repair": ("Find what stands still though it should go on, and repair it.", _OF_REPAIR),
    "profile": ("Keep API, token, store, tenant and workspace under names.", _OF_PROFILES),
}


class Commands(LazyGroup):
    """All commands; a failure is printed as a document, or as a line for people."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and exit with its code; with `standalone_mode` off, return it."""
        begin()
        if COMPLETE_VARIABLE in os.environ:
            # Typer's own reader of completion requests, behind an option that this command line does not have.
            from typer.completion import completion_init  # type: ignore[attr-defined]  # noqa: PLC0415

            completion_init()
        code = 0
        try:
            _check_texts(sys.argv[1:] if args is None else args)
            result = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
            if isinstance(result, int):
                code = result
        except (typer.Abort, KeyboardInterrupt):
            code = EXIT_INTERRUPTED
        except Exception as error:
            from springline.cli.failures import failed  # noqa: PLC0415 - comes with the first failure

            known = EXIT_INTERRUPTED if was_interrupted() else failed(error)
            if known is None:
                raise
            code = known
        if standalone_mode:
            sys.exit(code)
        return code


def _check_texts(arguments: Sequence[str]) -> None:
    """Refuse bytes that are no UTF-8: neither a request nor an answer in JSON could hold them."""
    for number, argument in enumerate(arguments, 1):
        try:
            argument.encode()
        except UnicodeEncodeError:
            from springline.errors import Code, refused  # noqa: PLC0415 - comes with a failure

            raise refused(
                Code.INVALID_REQUEST,
                f"argument {number} holds bytes that are no UTF-8",
                field="command",
                value=ascii(argument),
                remedy="Write it in UTF-8; rename a file whose name is in another encoding.",
            ) from None


def build_app(temporal: TemporalFindings | None = None) -> typer.Typer:
    """Return the command line; `temporal` looks at Temporal for `springline doctor`, None: the real one."""

    def doctor() -> Callable[..., Any]:
        from springline.cli.doctor import temporal_findings  # noqa: PLC0415 - when it is run
        from springline.cli.doctor_command import doctor_command  # noqa: PLC0415

        return doctor_command(temporal or temporal_findings)

    others = {**_OTHERS, "doctor": Entry(doctor, _DOCTOR)}
    app = typer.Typer(
        name="springline",
        cls=group_of(others, Commands),
        help=HELP,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name, (line, entries) in GROUPS.items():
        app.add_typer(typer.Typer(help=line, cls=group_of(entries), rich_markup_mode=None), name=name)
    app.callback()(_common)
    return app


def _show_version(*, asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # noqa: PLC0415 - reads what is installed

        typer.echo(f"springline {version('springline')}")
        raise typer.Exit(0)


# Only flags: for options with values Typer imports Pydantic, which takes longer than the rest of a call for help.
def _common(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=lambda asked: _show_version(asked=asked), help="Show the version."
        ),
    ] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show log lines. Also behind a command.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Show no hints. Also behind a command.")] = False,
) -> None:
    session().level = int(verbose) - int(quiet)
