"""`springline profile set | list | show | use | remove`: settings under names, in the user's configuration folder.

Only the user can read the file (mode 0600), because it may hold tokens; they are shown shortened.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated, Any

import platformdirs
import tomli_w
import typer

from springline.cli.documents import Document, Listing, hint
from springline.errors import Code, Refused, refused

FILE_NAME = "profiles.toml"
SETTINGS = ("api", "token", "token_file", "store", "tenant", "workspace")
"""The settings of a profile, by the names of the options that they replace."""

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SHOWN_OF_TOKEN = 6

Profile = dict[str, str]

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the profile.")]
OptionalName = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="Name of the profile; default: the one that is used.")
]


def set_profile(
    name: NameArgument,
    *,
    api: Annotated[str | None, typer.Option("--api", metavar="URL", help="Address of the HTTP API.")] = None,
    token: Annotated[
        str | None, typer.Option("--token", metavar="JWT|-", help="Bearer token; - reads it from standard input.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", metavar="FILE", help="File that holds the bearer token.")
    ] = None,
    store: Annotated[str | None, typer.Option("--store", metavar="URL", help="Where the tables are.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", metavar="T", help="The tenant.")] = None,
    workspace: Annotated[str | None, typer.Option("--workspace", metavar="W", help="The tenant's workspace.")] = None,
) -> Document:
    """Keep settings under a name; those that are not given stay. An empty value takes one out.

    The first profile is used from then on; `springline profile use` chooses another.
    """
    if not _NAME.fullmatch(name):
        raise refused(
            Code.INVALID_REQUEST,
            f"{name!r} is not a name of a profile",
            field="NAME",
            value=name,
            remedy="Give 1 to 64 letters, digits, ., _ or -.",
        )
    if token == "-":
        token = sys.stdin.readline().strip()
    if token and token_file is not None:
        raise refused(
            Code.INVALID_REQUEST,
            "--token and --token-file exclude each other",
            field="--token-file",
            value=str(token_file),
            remedy="Give one of them.",
        )
    given = {
        "api": api,
        "token": token,
        "token_file": None if token_file is None else str(token_file.expanduser().absolute()),
        "store": store,
        "tenant": tenant,
        "workspace": workspace,
    }
    current, profiles = _read()
    profile = profiles.setdefault(name, {})
    if token:
        profile.pop("token_file", None)
    if token_file is not None:
        profile.pop("token", None)
    for setting, value in given.items():
        if value:
            profile[setting] = value
        elif value is not None:
            profile.pop(setting, None)
    _write(current or name, profiles)
    return _described(name, profiles[name], current or name)


def list_profiles() -> Listing:
    """List the profiles; tokens are shortened. The one that is used is marked."""
    current, profiles = _read()
    used = os.environ.get("SPRINGLINE_PROFILE") or current
    names = ["name", "used", *SETTINGS]
    rows = [
        [name, name == used, *(_shown(profile).get(setting) for setting in SETTINGS)]
        for name, profile in profiles.items()
    ]
    return Listing(
        lambda: {
            "file": str(profile_file()),
            "used": used if used in profiles else None,
            "profiles": [{"name": name, **_shown(profile)} for name, profile in profiles.items()],
        },
        names,
        rows,
    )


def show_profile(name: OptionalName = None) -> Document:
    """Show a profile, by default the one that is used. Its token is shortened."""
    current, profiles = _read()
    chosen = name or os.environ.get("SPRINGLINE_PROFILE") or current
    if chosen is None:
        raise refused(
            Code.NOT_FOUND,
            "no profile is used",
            field="NAME",
            remedy="Make one: `springline profile set NAME --api URL --token-file FILE --tenant T --workspace W`.",
        )
    return _described(chosen, _of(profiles, chosen, "NAME"), current)


def use_profile(name: NameArgument) -> Document:
    """Use a profile from now on, where --profile names no other."""
    _, profiles = _read()
    profile = _of(profiles, name, "NAME")
    _write(name, profiles)
    if os.environ.get("SPRINGLINE_PROFILE", name) != name:
        hint(f"SPRINGLINE_PROFILE is set to {os.environ['SPRINGLINE_PROFILE']}, which comes first")
    return _described(name, profile, name)


def remove_profile(name: NameArgument) -> Document:
    """Forget a profile."""
    current, profiles = _read()
    _of(profiles, name, "NAME")
    del profiles[name]
    _write(None if current == name else current, profiles)
    if current == name:
        hint("no profile is used now; `springline profile use NAME` chooses one")
    return {"removed": name, "profiles": list(profiles)}


def chosen_settings(name: str | None) -> Mapping[str, str]:
    """Return the settings of the profile with this name, else of the one that is used; none if there is no profile.

    Raises `Refused` for a name that no profile has, and for a file that cannot be read.
    """
    if name is None and not profile_file().exists():
        return {}
    current, profiles = _read()
    if name is not None:
        return _of(profiles, name, "--profile")
    return profiles.get(current, {}) if current is not None else {}


def profile_file() -> Path:
    """Return the path of the profiles' file."""
    return platformdirs.user_config_path("springline", appauthor=False) / FILE_NAME


def _read() -> tuple[str | None, dict[str, Profile]]:
    """Return the name of the profile that is used, and all profiles."""
    file = profile_file()
    try:
        mode = file.stat().st_mode
        document = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return None, {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise _unusable(file, f"cannot be read: {said}") from None
    if stat.S_IMODE(mode) & 0o077:
        hint(f"{file} may hold tokens, and others can read it: `chmod 600 {file}`")
    found = document.get("profiles", {})
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise _unusable(file, "holds no profiles")
    profiles = {
        name: {setting: value for setting, value in one.items() if setting in SETTINGS and isinstance(value, str)}
        for name, one in found.items()
    }
    current = document.get("used")
    return (current if current in profiles else None), profiles


def _write(current: str | None, profiles: Mapping[str, Profile]) -> None:
    """Replace the file atomically; only its owner can read it from the first byte on."""
    file = profile_file()
    document: dict[str, Any] = {} if current is None else {"used": current}
    document["profiles"] = dict(profiles)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # It is created with mode 0600.
        with NamedTemporaryFile("wb", dir=file.parent, prefix=f".{FILE_NAME}.", delete=False) as draft:
            try:
                tomli_w.dump(document, draft)
                draft.flush()
                Path(draft.name).replace(file)
            except BaseException:
                with contextlib.suppress(OSError):
                    Path(draft.name).unlink()
                raise
    except OSError as error:
        raise _unusable(file, f"cannot be written: {error.strerror}") from None


def _of(profiles: Mapping[str, Profile], name: str, field: str) -> Profile:
    if name not in profiles:
        known = ", ".join(profiles) or "none"
        raise refused(
            Code.NOT_FOUND,
            f"there is no profile {name!r}",
            field=field,
            value=name,
            remedy=f"Choose one of: {known}; or make it with `springline profile set {name}`.",
        )
    return profiles[name]


def _described(name: str, profile: Profile, current: str | None) -> Document:
    return {"name": name, "used": name == current, **_shown(profile), "file": str(profile_file())}


def _shown(profile: Profile) -> dict[str, str | None]:
    shown: dict[str, str | None] = {setting: profile.get(setting) for setting in SETTINGS}
    token = shown["token"]
    if token is not None:
        shown["token"] = f"...{token[-_SHOWN_OF_TOKEN:]}" if len(token) > 4 * _SHOWN_OF_TOKEN else "(hidden)"
    return shown


def _unusable(file: Path, said: str) -> Refused:
    return refused(
        Code.INVALID_REQUEST,
        f"the profiles in {str(file)!r} {said}" if said.startswith("cannot") else f"{str(file)!r} {said}",
        field="profile",
        value=str(file),
        remedy="Correct or remove the file.",
    )
