"""Options of every command: the output format, the verbosity, the profile."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from springline.cli.documents import DocumentVerdict, emit_verdict
from springline.cli.grid import Format
from springline.cli.session import session
from springline.errors import Code, refused
from springline.exits import EXIT_DONE

PROFILE_VARIABLE = "SPRINGLINE_PROFILE"
TOKEN_FILE_VARIABLE = "SPRINGLINE_TOKEN_FILE"
_RANKS = ("COMMANDLINE", "ENVIRONMENT", "DEFAULT_MAP")

FormOption = Annotated[
    Format | None,
    typer.Option("-o", "--format", "--output", help="By default a table on a terminal, and json elsewhere."),
]
CompactOption = Annotated[bool, typer.Option("--compact", help="Print the JSON document on one line.")]
FieldOption = Annotated[
    str | None,
    typer.Option(
        "--field", metavar="A.B.C", help="Print only this field of the document; text without quotes, for scripts."
    ),
]
VerboseOption = Annotated[int, typer.Option("-v", "--verbose", count=True, help="Show log lines; -vv all of them.")]
QuietOption = Annotated[int, typer.Option("-q", "--quiet", count=True, help="Show no hints, only what is asked for.")]
TokenFileOption = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", envvar=TOKEN_FILE_VARIABLE, help="File that holds the bearer token."),
]


def _use_profile(ctx: typer.Context, name: str | None) -> str | None:
    """Take the settings that neither an option nor a variable gives from the profile."""
    if not ctx.resilient_parsing:
        from springline.cli.profiles import chosen_settings  # noqa: PLC0415 - most calls have no profile to read

        ctx.default_map = dict(chosen_settings(name))
    return name


ProfileOption = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="NAME",
        envvar=PROFILE_VARIABLE,
        is_eager=True,
        callback=_use_profile,
        help="Whose settings are used where neither option nor variable gives one: `springline profile list`.",
    ),
]


def prepared(command: Callable[..., Any], *, with_profile: bool = True) -> Callable[..., None]:
    """Make a command print its result, with the format and verbosity of the options that this adds.

    The added options are `-o`, `--compact`, `--field`, `-v`, `-q`, `--profile`, and `--token-file` beside `--token`;
    Typer finds them in the signature.
    """
    signature = inspect.signature(command, eval_str=True)
    own = signature.parameters
    takes_token = "token" in own and "api" in own

    @functools.wraps(command)
    def run(
        *,
        ctx: typer.Context,
        output_form: Format | None,
        compact: bool,
        field: str | None,
        verbose: int,
        quiet: int,
        profile: str | None = None,
        token_file: Path | None = None,
        **arguments: Any,
    ) -> None:
        here = session()
        here.form, here.compact, here.field = output_form, compact, field
        here.level += verbose - quiet
        if here.level:
            here.log()
        if takes_token:
            arguments["token"] = _token(ctx, arguments["token"], token_file)
        said = command(**arguments)
        if said is None:
            return
        verdict = said if isinstance(said, DocumentVerdict) else DocumentVerdict(said, EXIT_DONE)
        emit_verdict(verdict)
        if verdict.code != EXIT_DONE:
            raise typer.Exit(verdict.code)

    added: Mapping[str, tuple[Any, Any]] = {
        "output_form": (FormOption, None),
        "compact": (CompactOption, False),
        "field": (FieldOption, None),
        "verbose": (VerboseOption, 0),
        "quiet": (QuietOption, 0),
        **({"profile": (ProfileOption, None)} if with_profile else {}),
        **({"token_file": (TokenFileOption, None)} if takes_token and with_profile else {}),
    }
    keyword_only = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        *own.values(),
        inspect.Parameter("ctx", keyword_only, annotation=typer.Context),
        *(inspect.Parameter(name, keyword_only, default=to, annotation=kind) for name, (kind, to) in added.items()),
    ]
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=parameters, return_annotation=None
    )
    return run


def _token(ctx: typer.Context, token: str | None, file: Path | None) -> str | None:
    """Return the token, or the one in the file, by the precedence option, variable, profile."""
    if file is None:
        return token
    ranks = {name: _rank(ctx, name) for name in ("token", "token_file")}
    if token is not None and ranks["token"] == ranks["token_file"] == 0:
        raise refused(
            Code.INVALID_REQUEST,
            "--token and --token-file exclude each other",
            field="--token-file",
            value=str(file),
            remedy="Give one of them.",
        )
    if token is not None and ranks["token"] <= ranks["token_file"]:
        return token
    try:
        found = file.expanduser().read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise _no_token(file, f"cannot be read: {said}") from None
    if not found:
        raise _no_token(file, "is empty")
    return found


def _rank(ctx: typer.Context, name: str) -> int:
    source = ctx.get_parameter_source(name)
    return _RANKS.index(source.name) if source is not None and source.name in _RANKS else len(_RANKS)


def _no_token(file: Path, said: str) -> Exception:
    return refused(
        Code.MISSING_TOKEN,
        f"the file {str(file)!r} of the bearer token {said}",
        field="--token-file",
        value=str(file),
        remedy=f"Put the token alone into a file, and name it by --token-file, {TOKEN_FILE_VARIABLE} or a profile.",
    )
