"""`springline token`, `springline version` and `springline completion`."""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from springline.cli.documents import Document, hint
from springline.cli.lazy import COMPLETE_VARIABLE
from springline.cli.stores import TenantOption, WorkspaceOption
from springline.cli.tables import parse_list
from springline.config import MIN_SECRET_BYTES, PREFIX
from springline.errors import Code, refused
from springline.paths import Scope

SECRET_VARIABLE = f"{PREFIX}JWT_SECRET"
AUDIENCE_VARIABLE = f"{PREFIX}JWT_AUDIENCE"
ISSUER_VARIABLE = f"{PREFIX}JWT_ISSUER"
DAY_SECONDS = 24 * 3600
LONGEST_LIFE_SECONDS = 366 * DAY_SECONDS


def token(
    *,
    tenant: TenantOption,
    workspace: WorkspaceOption,
    scopes: Annotated[
        list[str] | None,
        typer.Option("--scope", metavar="A,B", help="read, write, operate; may be repeated. Default: all three."),
    ] = None,
    subject: Annotated[str, typer.Option("--subject", help="Who the bearer is, for the logs.")] = "cli",
    ttl: Annotated[
        int,
        typer.Option("--ttl", metavar="SECONDS", min=1, max=LONGEST_LIFE_SECONDS, help="How long it is valid."),
    ] = DAY_SECONDS,
) -> Document:
    """Make a bearer token with the secret in SPRINGLINE_JWT_SECRET. In a shell: `--field token`."""
    from springline.api.tokens import SCOPES, make_token, problem_of_subject  # noqa: PLC0415 - loads the cryptography library

    scope = Scope(tenant, workspace)
    granted = parse_list("--scope", scopes or []) or list(SCOPES)
    unknown = [one for one in granted if one not in SCOPES]
    if unknown:
        raise refused(
            Code.INVALID_REQUEST,
            f"unknown scope {', '.join(unknown)}",
            field="--scope",
            value=unknown,
            remedy=f"Choose from {', '.join(SCOPES)}.",
        )
    problem = problem_of_subject(subject)
    if problem is not None:
        raise refused(
            Code.INVALID_REQUEST,
            f"the subject {problem[0]}",
            field="--subject",
            value=subject[:100],
            remedy=problem[1],
        )
    now_s = time.time()
    made = make_token(
        jwt_secret(),
        scope,
        subject=subject,
        scopes=granted,
        ttl_s=ttl,
        audience=os.environ.get(AUDIENCE_VARIABLE) or "springline",
        issuer=os.environ.get(ISSUER_VARIABLE) or None,
        now_s=now_s,
    )
    return {
        "token": made,
        "tenant": tenant,
        "workspace": workspace,
        "subject": subject,
        "scope": " ".join(granted),
        "expires_at": datetime.fromtimestamp(int(now_s) + ttl, UTC).isoformat(),
    }


def jwt_secret() -> str:
    """Return the secret that signs tokens; raises `Refused` (INVALID_REQUEST), never showing its value."""
    secret = os.environ.get(SECRET_VARIABLE, "")
    size = len(secret.encode())
    if size < MIN_SECRET_BYTES:
        problem = f"has {size} bytes, fewer than {MIN_SECRET_BYTES}" if secret else "is not set"
        raise refused(
            Code.INVALID_REQUEST,
            f"{SECRET_VARIABLE} {problem}",
            field=SECRET_VARIABLE,
            remedy="Set it to the secret that the API verifies tokens with; for a new one: openssl rand -base64 48.",
        )
    return secret


def show_version() -> Document:
    """Show what is installed."""
    return {"name": "springline", "version": installed_version()}


def installed_version() -> str:
    """Return the version of the installed package."""
    try:
        return version("springline")
    except PackageNotFoundError:
        return "unknown"


class Shell(StrEnum):
    """Shells that can complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


_INTO = {
    Shell.BASH: "springline completion bash > ~/.local/share/bash-completion/completions/springline",
    Shell.ZSH: "springline completion zsh > a file named _springline in a folder of $fpath",
    Shell.FISH: "springline completion fish > ~/.config/fish/completions/springline.fish",
}


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="The shell that is to complete.")],
) -> None:
    """Print what makes a shell complete commands and options.

    In bash, for this shell alone: `eval "$(springline completion bash)"`.
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # noqa: PLC0415

    typer.echo(get_completion_script(prog_name="springline", complete_var=COMPLETE_VARIABLE, shell=shell.value))
    if sys.stdout.isatty():
        hint(f"to have it in every new shell: {_INTO[shell]}")
