"""The command line as a whole: which commands there are, and what is common to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

import typer
import uuid_utils

from springline.cli import commits, fold, ledger, query, rebuild, rebuild_plan, service, state, stores, tables, tail
from springline.cli.dev import dev
from springline.cli.doctor import TemporalFindings, examine
from springline.cli.documents import Command, CompactOption, FieldOption, emit, hint, printing
from springline.cli.failures import Commands
from springline.cli.findings import exit_code
from springline.cli.http import api_from_environment
from springline.cli.stores import StoreOption
from springline.errors import Code, refused
from springline.paths import Scope

TenantOption = Annotated[str | None, typer.Option("--tenant", metavar="T", help="The tenant of a workspace.")]
WorkspaceOption = Annotated[str | None, typer.Option("--workspace", metavar="W", help="A workspace to look at.")]
DeepOption = Annotated[
    bool, typer.Option("--deep", help="Read all that was accepted and committed, and list ledger and markers: slow.")
]

HELP = """\
Commit to Delta tables through durable workflows, keep the ledger of pipelines, and look after both.

Every command prints one JSON document on standard output (`ledger tail` one per event). A command that cannot do
its work prints one JSON document on standard error instead: code, message, field, value, remedy. Lines that begin
with "springline:" are hints for people.

Exit codes: 0 done, 2 bad input, 3 conflict, 4 try again.

The API and its token come from --api and --token or from SPRINGLINE_API_URL and SPRINGLINE_TOKEN.
"""


def build_app(temporal: TemporalFindings) -> typer.Typer:
    """Return the command line; `temporal` is what `springline doctor` asks about Temporal."""
    app = typer.Typer(
        name="springline",
        cls=Commands,
        help=HELP,
        add_completion=False,
        no_args_is_help=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    table = typer.Typer(help="Create, adopt, look at and recover tables.", rich_markup_mode=None)
    events = typer.Typer(
        help="Append events, take in foreign ones, read them, and restore their objects.", rich_markup_mode=None
    )
    states = typer.Typer(
        help="Look at the published state, compare states, fold events offline.", rich_markup_mode=None
    )
    rebuilds = typer.Typer(help="Rebuild the published state from its events, and prove it.", rich_markup_mode=None)
    for name, group in (("table", table), ("ledger", events), ("state", states), ("rebuild", rebuilds)):
        app.add_typer(group, name=name)
    of_tables: dict[str, Command] = {
        "create": tables.create,
        "adopt": tables.adopt,
        "status": tables.status,
        "recover": stores.recover,
        "verify": stores.verify,
        "clean-staging": stores.clean_staging,
    }
    of_ledger: dict[str, Command] = {
        "append": ledger.append,
        "ingest": ledger.ingest,
        "restore": ledger.restore,
    }
    of_state: dict[str, Command] = {
        "show": state.show,
        "dump": state.dump,
        "digest": state.digest,
        "diff": state.diff,
        "fold": fold.fold,
    }
    of_rebuild: dict[str, Command] = {
        "plan": rebuild_plan.plan,
        "start": rebuild.start,
        "watch": rebuild.watch,
        "verify": rebuild.verify,
        "explain": rebuild.explain,
        "cancel": rebuild.cancel,
    }
    others: dict[str, Command] = {
        "commit": commits.commit,
        "stage": commits.stage,
        "explain": commits.explain,
        "token": service.token,
        "version": service.show_version,
    }
    groups = ((table, of_tables), (events, of_ledger), (states, of_state), (rebuilds, of_rebuild), (app, others))
    for group, group_commands in groups:
        for name, command in group_commands.items():
            group.command(name)(printing(command))
    table.command("list")(tables.list_tables)
    table.command("history")(tables.history)
    events.command("tail")(tail.tail)
    app.command("query")(query.query)
    app.command("dev")(dev)
    app.command("doctor")(_doctor(temporal))
    return app


def _doctor(temporal: TemporalFindings) -> Callable[..., None]:
    def doctor(
        *,
        store: StoreOption = None,
        tenant: TenantOption = None,
        workspace: WorkspaceOption = None,
        deep: DeepOption = False,
        compact: CompactOption = False,
        field: FieldOption = None,
    ) -> None:
        """Look at configuration, store, clock, API and Temporal, and say what to run where something is wrong.

        Also at all workspaces of the store, or at that of --tenant and --workspace: whether what is published is there,
        all that was accepted, and the tables. Exit code: 0 all is well, 2 something has to be corrected, 4 something is
        out of reach.
        """
        if (tenant is None) != (workspace is None):
            option = "--tenant" if tenant is None else "--workspace"
            raise refused(
                Code.INVALID_REQUEST,
                "a workspace is named by its tenant and its name",
                field=option,
                remedy=f"Give {option} as well.",
            )
        scope = None if tenant is None or workspace is None else Scope(tenant, workspace)
        api, name = api_from_environment(), lambda: str(uuid_utils.uuid4())
        findings = asyncio.run(examine(store, api, temporal, new_name=name, scope=scope, deep=deep))
        code = exit_code(findings)
        emit({"ok": code == 0, "findings": [finding.as_json() for finding in findings]}, compact=compact, field=field)
        for finding in findings:
            if finding.ok is False:
                hint(f"{finding.name}: {finding.what}. {finding.remedy or ''}")
        raise typer.Exit(code)

    return doctor
