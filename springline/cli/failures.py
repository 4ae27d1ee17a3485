"""The end of a command that fails: the reason on standard error, and an exit code.

A person at a terminal gets one line; a program gets one JSON document.

The document is the body that the HTTP API answers with: `code, message, field, value, remedy`, on version
conflicts `latest_version` and `commits_since`, and `requestId` if the API gave one. Exit codes
(docs/formats.md#exit-codes): 0 done, 2 bad input, 3 conflict, 4 try again.
"""

from __future__ import annotations

import sys

from springline.cli.documents import rendered
from springline.cli.http import ApiRefused
from springline.cli.session import session
from springline.config import ConfigurationError
from springline.errors import Code, InvariantViolated, Refusal, Refused, refused
from springline.paths import InvalidPath
from springline.storage.damage import DamagedObject
from springline.storage.port import StoreError, StoreMisconfigured


def failed(error: Exception) -> int | None:
    """Print why a command failed and return its exit code; None if the error is a fault of the program."""
    refusal = refusal_of(error)
    if refusal is None:
        return None
    return fail(refusal, request_id=error.request_id if isinstance(error, ApiRefused) else None)


def fail(refusal: Refusal, *, request_id: str | None = None) -> int:
    """Print why a command failed; return its exit code."""
    body = refusal.model_dump(mode="json")
    for name in ("latest_version", "commits_since"):
        if body[name] is None:
            del body[name]
    if request_id is not None:
        body["requestId"] = request_id
    sys.stdout.flush()
    if session().speaks_to_a_person():
        from springline.cli.present import error_text  # noqa: PLC0415 - for people only

        print(error_text(body), end="", file=sys.stderr, flush=True)
    else:
        print(rendered(body), file=sys.stderr, flush=True)
    return refusal.exit_code


def refusal_of(error: Exception) -> Refusal | None:
    """Return the refusal for an expected error; None if the error is a fault of the program."""
    if isinstance(error, Refused):
        return error.refusal
    if isinstance(error, InvalidPath):
        return refused(Code.INVALID_PATH, str(error), field=error.field, value=error.value, remedy=error.remedy).refusal
    if isinstance(error, ConfigurationError):
        return Refusal(
            code=Code.INVALID_REQUEST,
            message=str(error),
            field=error.problems[0].variable,
            value=[problem.variable for problem in error.problems],
            remedy=" ".join(problem.remedy for problem in error.problems),
        )
    if isinstance(error, DamagedObject):
        return error.refusal
    if isinstance(error, InvariantViolated):
        return Refusal(
            code=Code.STORED_DAMAGED,
            message=f"stored state contradicts the protocol: {error}",
            field="store",
            remedy="Nothing more was changed. Keep the object named here as it is and call an operator.",
        )
    if isinstance(error, StoreError):
        return store_refusal(error)
    return _usage(error)


def store_refusal(error: StoreError, url: str | None = None) -> Refusal:
    """Return the refusal for a fault of the store; `url` is the store's, if known."""
    shown = url or "URL"
    if isinstance(error, StoreMisconfigured):
        return Refusal(
            code=Code.INVALID_REQUEST,
            message=str(error),
            field="store",
            value=url,
            remedy=f"Correct the store's URL or permissions; `springline doctor --store {shown}` looks at each.",
        )
    return Refusal(
        code=Code.UNAVAILABLE,
        message=f"the store gives no clear answer: {error}",
        field="store",
        value=url,
        remedy=f"Run the same command again; if it lasts, run `springline doctor --store {shown}`.",
    )


def _usage(error: Exception) -> Refusal | None:
    """Return the refusal of a command line that cannot be parsed.

    Typer does not export the class of these errors; their methods are part of its interface.
    """
    format_message = getattr(error, "format_message", None)
    if format_message is None:
        return None
    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    command = context.command_path if context is not None else "springline"
    field = max(parameter.opts, key=len) if parameter is not None else getattr(error, "option_name", None)
    remedy = f"Run `{command} --help` to see what it takes."
    variable = getattr(parameter, "envvar", None)
    if variable and "Missing" in format_message():
        remedy = f"Give {field}, set {variable}, or keep it in a profile (`springline profile set`). {remedy}"
    if "No such command" in format_message() and command.endswith(" run") and ".py" in format_message():
        remedy = f"`springline materialize FILE ASSET` makes assets of a file once, without a server. {remedy}"
    return Refusal(code=Code.INVALID_REQUEST, message=format_message(), field=field or "command", remedy=remedy)
