"""Groups of commands that show help without importing the commands: a command's module is imported when it is run."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import typer
from typer.core import CompletionItem, TyperGroup  # type: ignore[attr-defined]
from typer.main import get_command

_ROOM = "springline.cli"
COMPLETE_VARIABLE = "_SPRINGLINE_COMPLETE"
"""The variable by which a shell asks for completions."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One command: its function (`module:function` of this room, or a callable that returns it), and its help line.

    The line is the first sentence of the function's docstring, with its full stop.
    """

    target: str | Callable[[], Callable[..., Any]]
    help: str
    with_profile: bool = True
    """Whether the profile gives the settings that neither an option nor a variable gives."""

    def function(self) -> Callable[..., Any]:
        """Load the command's module and return its function."""
        if not isinstance(self.target, str):
            return self.target()
        module, _, name = self.target.partition(":")
        found: Callable[..., Any] = getattr(importlib.import_module(f"{_ROOM}.{module}"), name)
        return found


class _Loading(dict[str, Any]):
    """Commands by name, each loaded when it is looked up; `entries` are those that are not loaded yet."""

    def __init__(self, entries: Mapping[str, Entry], loaded: Mapping[str, Any]) -> None:
        super().__init__(loaded)
        self._entries = entries

    def get(self, name: str, default: Any = None) -> Any:
        if name not in self and name in self._entries:
            self[name] = _command(name, self._entries[name])
        return super().get(name, default)

    def keys(self) -> Any:
        return dict.fromkeys([*self._entries, *super().keys()]).keys()


class LazyGroup(TyperGroup):
    """A group of the commands in `entries`, beside groups that were added to it; a bare call shows its help.

    `order`: the names as help lists them.
    """

    entries: ClassVar[Mapping[str, Entry]] = {}

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Loading(self.entries, self.commands)

    def get_help_option(self, ctx: Any) -> Any:
        """Return the option --help with the default off: without a default, Typer would import Pydantic."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False
        return option

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands, groups first."""
        return [*sorted(set(self.commands) - set(self.entries), key=list(self.commands).index), *self.entries]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Show the help for a call without a command, as for --help."""
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            ctx.exit(0)
        return super().parse_args(ctx, args)

    def lines(self, ctx: Any) -> Iterator[tuple[str, str]]:
        """Yield each command's name and line of help. No command is loaded."""
        for name in self.list_commands(ctx):
            if name in self.entries:
                yield name, self.entries[name].help
            else:
                yield name, self.commands[name].help or ""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands. No command is loaded."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.lines(ctx)))

    def shell_complete(self, ctx: Any, incomplete: str) -> list[CompletionItem]:
        """Return the commands and options that begin with `incomplete`. No command is loaded."""
        named = [CompletionItem(name, help=line) for name, line in self.lines(ctx) if name.startswith(incomplete)]
        return [*named, *super(TyperGroup, self).shell_complete(ctx, incomplete)]


def group_of(entries: Mapping[str, Entry], base: type[LazyGroup] = LazyGroup) -> type[LazyGroup]:
    """Return a class of group that holds these commands."""
    return type(base.__name__, (base,), {"entries": entries})


def _command(name: str, entry: Entry) -> Any:
    from springline.cli.common import prepared  # noqa: PLC0415 - comes with the command

    single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    single.command(name)(prepared(entry.function(), with_profile=entry.with_profile))
    return get_command(single)
