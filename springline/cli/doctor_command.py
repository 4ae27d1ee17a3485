"""`springline doctor`: runs the checks and prints the findings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

import typer
import uuid_utils

from springline.cli.doctor import TemporalFindings, examine
from springline.cli.doctor_page import page
from springline.cli.documents import DocumentVerdict, Listing, hint
from springline.cli.findings import exit_code
from springline.cli.grid import Format
from springline.cli.http import ApiOption, TokenOption
from springline.cli.session import session
from springline.cli.stores import OptionalTenant, OptionalWorkspace, StoreOption
from springline.errors import Code, refused
from springline.paths import Scope

DeepOption = Annotated[
    bool, typer.Option("--deep", help="Read all that was accepted and committed, and list ledger and markers: slow.")
]


def doctor_command(temporal: TemporalFindings) -> Callable[..., DocumentVerdict]:
    """Return the command; `temporal` checks Temporal."""

    def doctor(
        *,
        store: StoreOption = None,
        tenant: OptionalTenant = None,
        workspace: OptionalWorkspace = None,
        deep: DeepOption = False,
        api: ApiOption = None,
        token: TokenOption = None,
    ) -> DocumentVerdict:
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
        findings = asyncio.run(
            examine(store, api, temporal, new_name=lambda: str(uuid_utils.uuid4()), scope=scope, deep=deep, token=token)
        )
        code = exit_code(findings)
        if session().form_here() is not Format.TABLE:
            for finding in findings:
                if finding.ok is False:
                    hint(f"{finding.name}: {finding.what}. {finding.remedy or ''}")
        return DocumentVerdict(
            Listing(
                lambda: {"ok": code == 0, "findings": [finding.as_json() for finding in findings]},
                ["name", "state", "what", "remedy"],
                [[one.name, one.state.value, one.what, one.remedy] for one in findings],
                text=lambda: page(findings),
            ),
            code,
        )

    return doctor
