"""Declaring a function of a pipeline: what it needs, and how it is run. `@asset` and `@task` are such declarations.

A declaration never raises. What is wrong with it is kept, and told with everything else that is wrong when the file is
validated, deployed or run.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Final,
    Generic,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from springline.definitions.durations import duration_ms, problem_of_heartbeat
from springline.definitions.ids import meant, problem_of_id
from springline.definitions.limits import (
    MAX_CHECKS,
    MAX_CODE_VERSION,
    MAX_DEPENDENCIES,
    MAX_DESCRIPTION,
    MAX_OWNERS,
    MAX_PRIORITY,
    MAX_RETRIES,
    MAX_TAG,
    MAX_TAGS,
)
from springline.definitions.mappings import MappingKind, PartitionMapping
from springline.definitions.partitions import Partitions
from springline.definitions.sizes import memory_bytes
from springline.definitions.urls import problem_of_url
from springline.sdk.checks import Check
from springline.sdk.collecting import Declarations
from springline.sdk.config_models import problem_of_description
from springline.sdk.configs import problem_of_model, problems_of_defaults
from springline.sdk.errors import SourceProblem
from springline.sdk.pools import Pool

if TYPE_CHECKING:
    from springline.sdk.configs import ConfigModel

P = ParamSpec("P")
R = TypeVar("R")
N = TypeVar("N", bound="DeclaredNode[..., Any]")

CONTEXT: Final = "context"
_ONE_FOR_EACH: Final = "Write a function for each: a sensor's says which runs are asked for."


@dataclass(frozen=True, slots=True)
class External:
    """An asset that another code location deploys. `external` makes one."""

    key: str


@dataclass(frozen=True, slots=True)
class Dep:
    """A dependency with the mapping of its partitions. `dep` makes one."""

    target: Any
    mapping: Any = None


def external(key: str) -> External:
    """Name an asset of another code location, to depend on it.

    With `orders = external("shop.orders")`, a parameter `orders` takes its output.
    """
    return External(key)


def dep(target: DeclaredNode[..., Any] | External | str, partitions: PartitionMapping | None = None) -> Dep:
    """Name a dependency, and which of its partitions a partition needs, such as `dep(raw_flights, latest())`."""
    return Dep(target, partitions)


class DeclaredNode(Generic[P, R]):
    """A function of a pipeline, an asset's or a task's; calling it calls the function.

    Attributes:
        kind: what it is, for people.
        key: unique in the workspace.
        file, line: where it is declared.
        deps: what it depends on, as declared, without what its parameters name.
        arguments: parameters that take outputs of assets and tasks.
        context_argument: the parameter that takes the `Context`, None if there is none.
        pool_of: the pool that it names, by name or as it is declared.
        config_model: the Pydantic model of its `context.config`, None if it sees the run's config as it is.
        problems: what is wrong with the declaration by itself.
    """

    kind: ClassVar[str]
    __name__: str

    def __init__(
        self,
        function: Callable[P, R],
        options: Mapping[str, Any],
        frame: FrameType | None,
        known: Mapping[str, tuple[str, Callable[[Any], Any]]] | None = None,
    ) -> None:
        functools.update_wrapper(self, function, updated=())
        for name, value in getattr(function, "__dict__", {}).items():
            # What a decorator has noted at the function is found here, too, but names of a declaration stay its own.
            if not hasattr(type(self), name):
                self.__dict__[name] = value
        self.function = function
        self.file = "<unknown>" if frame is None else frame.f_code.co_filename
        self.line = None if frame is None else frame.f_lineno
        self.key: str = getattr(function, "__name__", type(function).__name__)
        self._problems: list[tuple[str, str]] = []
        self.deps: list[Dep] = []
        self.partitions: Partitions | None = None
        self.retries: int = 0
        self.retry_delay_ms: int | None = None
        self.timeout_ms: int | None = None
        self.heartbeat_ms: int | None = None
        self.memory_bytes: int | None = None
        self.freshness_ms: int | None = None
        self.queue: str | None = None
        self.pool_of: str | Pool | None = None
        self.url: str | None = None
        self.priority: int = 0
        self.code_version: str | None = None
        self.description: str | None = None
        self.tags: dict[str, str] = {}
        self.owners: list[str] = []
        self.checks: list[Check] = []
        self.config_model: type[ConfigModel] | None = None
        self._read_options(options, OPTIONS if known is None else known)
        self.arguments, self.context_argument = self._read_function(function)
        self._judge_config(function)
        DECLARED_NODES.add(self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, as if it had no decorator."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<{self.kind} {self.key}>"

    @property
    def pool(self) -> str | None:
        """The name of its pool, None if it has none."""
        return self.pool_of.name if isinstance(self.pool_of, Pool) else self.pool_of

    @property
    def problems(self) -> list[SourceProblem]:
        """What is wrong with the declaration by itself."""
        return [self.problem(message, remedy) for message, remedy in self._problems]

    def problem(self, message: str, remedy: str) -> SourceProblem:
        """Return a problem of this declaration, at its place."""
        return SourceProblem(self.file, self.line, message, remedy, asset=self.key, kind=self.kind)

    def _read_options(self, options: Mapping[str, Any], known: Mapping[str, tuple[str, Callable[[Any], Any]]]) -> None:
        for name, value in options.items():
            if name not in known:
                instead = _OTHER_NAMES.get(name)
                near = f"Did you mean {instead}? " if instead else meant(name, known)
                self._problems.append((f"has the unknown option {name}", f"{near}There are {', '.join(known)}."))
                continue
            if value is None:
                continue
            attribute, checked = known[name]
            try:
                setattr(self, attribute, checked(value))
            except _Wrong as wrong:
                subject = wrong.subject or f"{name} {_short(value)}, which"
                self._problems.append((f"has {subject} {wrong.message}", wrong.remedy))
        if "key" not in options:
            problem = problem_of_id(self.key)
            if problem is not None:
                self._problems.append(
                    (f"has a name that {problem[0]}", f"Give it a key: @{self.kind}(key='raw_flights').")
                )
        problem_of_time = problem_of_heartbeat(self.heartbeat_ms, self.timeout_ms)
        if problem_of_time is not None:
            self._problems.append(
                (f"has heartbeat {_short(options['heartbeat'])}, which {problem_of_time}", "Give another duration.")
            )
        if self.key == CONTEXT:
            self._problems.append(("has the name of a function's Context", "Choose another name or key."))
        if self.description is None:
            self.description = _first_paragraph(self.function)

    def _read_function(self, function: Any) -> tuple[list[str], str | None]:
        if isinstance(function, DeclaredNode):
            once = "Use @asset or @task once for each function."
            self._problems.append(("is declared twice", once))
            return [], None
        if hasattr(function, "sensor_id"):
            self._problems.append((f"is declared above the sensor {function.sensor_id}", _ONE_FOR_EACH))
            return [], None
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            self._problems.append(
                ("yields, and what it yields could be read once only", "Return a list or another value instead.")
            )
        try:
            parameters = _signature(function).parameters.values()
        except (TypeError, ValueError):
            self._problems.append(("is no function whose parameters can be read", "Write a function with def."))
            return [], None
        arguments: list[str] = []
        context: str | None = None
        for one in parameters:
            if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD, one.POSITIONAL_ONLY):
                stars = "*" if one.kind is one.VAR_POSITIONAL else "**" if one.kind is one.VAR_KEYWORD else ""
                what = "takes any number of arguments" if stars else "cannot be given by name"
                self._problems.append(
                    (f"has the parameter {stars}{one.name}, which {what}", "Name each asset that it takes.")
                )
            elif one.name == CONTEXT or _is_context(one.annotation, function):
                context = one.name
            elif one.default is one.empty:
                arguments.append(one.name)
        return arguments, context

    def _judge_config(self, function: Any) -> None:
        """Judge the config that is declared together with how the function takes it."""
        model = self.config_model
        said = None if self.context_argument is None else _config_said(function, self.context_argument)
        if model is None:
            if said is not None:
                name = said.__name__
                self._problems.append(
                    (
                        f"takes a Context[{name}] and declares no config",
                        f"Declare it, @{self.kind}(config={name}), or take a Context: without a model, context.config "
                        "is the run's config as it is.",
                    )
                )
            return
        problem = problem_of_model(model, self.kind)
        if problem is not None:
            self._problems.append((f"has config {_short(model)}, which {problem[0]}", problem[1]))
            return
        self._problems += problems_of_defaults(model)
        too_large = problem_of_description(model)
        if too_large is not None:
            self._problems.append((f"has config {model.__name__}, which {too_large[0]}", too_large[1]))
        if self.context_argument is None:
            self._problems.append(
                (
                    f"has config {model.__name__}, and no parameter that it could be read from",
                    f"Add the parameter context: Context[{model.__name__}], and read context.config; or leave it out.",
                )
            )
        elif said is not None and said is not model:
            self._problems.append(
                (f"has config {model.__name__}, and takes a Context[{said.__name__}]", "Name the same model in both.")
            )


class _Wrong(Exception):
    """A value that an option does not take; `message` goes on from it, or from `subject`."""

    def __init__(self, message: str, remedy: str, subject: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.subject = subject


def _id(value: Any) -> str:
    problem = problem_of_id(value)
    if problem is not None:
        raise _Wrong(*problem)
    return str(value)


def _pool(value: Any) -> str | Pool:
    return value if isinstance(value, Pool) else _id(value)


def checked_url(value: Any) -> str:
    """Return the value of the option `url`, if it may be one."""
    problem = problem_of_url(value)
    if problem is not None:
        raise _Wrong(*problem)
    return str(value)


def _duration(value: Any) -> int:
    try:
        return duration_ms(value)
    except ValueError as error:
        raise _Wrong(str(error), "Give a duration such as '10m'.") from None


def _memory(value: Any) -> int:
    try:
        return memory_bytes(value)
    except ValueError as error:
        raise _Wrong(str(error), "Give a size such as '512MiB'.") from None


def _whole(least: int, most: int) -> Callable[[Any], int]:
    def checked(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _Wrong("is no whole number", f"Give a number from {least} to {most}.")
        if not least <= value <= most:
            raise _Wrong("is out of range", f"Give a number from {least} to {most}.")
        return value

    return checked


def _text(most: int, *, lines: bool = False) -> Callable[[Any], str]:
    def checked(value: Any) -> str:
        if not isinstance(value, str) or not value:
            raise _Wrong("is no text", f"Give a text of at most {most} characters.")
        if len(value) > most:
            raise _Wrong(f"has {len(value)} characters", f"Give at most {most} characters.")
        printable = value.replace("\n", "").replace("\t", "") if lines else value
        if not printable.isprintable():
            raise _Wrong("holds a character that cannot be printed", "Leave it out.")
        return value

    return checked


def _partitions(value: Any) -> Partitions:
    if not isinstance(value, Partitions):
        call = " You wrote it without its parentheses." if callable(value) else ""
        raise _Wrong("are no partitions", f"Give for example daily(start='2024-01-01').{call}")
    for one in value.dimensions or ():
        if not isinstance(one.partitions, Partitions):
            call = " You wrote it without its parentheses." if callable(one.partitions) else ""
            raise _Wrong(
                f"the dimension {one.name} is {_short(one.partitions)}",
                f"Give for example daily(start='2024-01-01').{call}",
                "partitions that cannot be:",
            )
    for problem in value.problems():
        raise _Wrong(problem.message, problem.remedy, "partitions that cannot be:")
    return value


def _deps(value: Any) -> list[Dep]:
    remedy = "Give a list of assets or names: deps=[raw_flights, 'airports']."
    if isinstance(value, str | DeclaredNode | External | Dep) or not isinstance(value, Iterable):
        raise _Wrong("is no list", remedy)
    found: list[Dep] = []
    for one in value:
        declared = one if isinstance(one, Dep) else Dep(one)
        target = declared.target
        if not isinstance(target, DeclaredNode | External | str):
            name = getattr(target, "__name__", None) if callable(target) else None
            if name is not None:
                raise _Wrong(f"holds the function {name}, which is no asset", f"Put @asset above {name}.")
            raise _Wrong(f"holds {_short(target)}, which is no asset", remedy)
        key = target if isinstance(target, str) else target.key
        problem = problem_of_id(key)
        if problem is not None and not isinstance(target, DeclaredNode):
            raise _Wrong(f"holds {key!r}, which {problem[0]}", problem[1])
        mapping = declared.mapping
        if mapping is not None and not isinstance(mapping, PartitionMapping):
            raise _Wrong(
                f"maps {key} by {_short(mapping)}, which is no mapping",
                f"Use one of identity(), {', '.join(_MAPPINGS)}, such as dep({key}, latest()).",
            )
        wrong = None if mapping is None else mapping.problem()
        if wrong is not None:
            raise _Wrong(wrong.message, wrong.remedy, f"deps that map {key} to what cannot be:")
        found.append(declared)
    if len(found) > MAX_DEPENDENCIES:
        raise _Wrong(f"are {len(found)}", f"Give at most {MAX_DEPENDENCIES}.", "deps that")
    return found


def _tags(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or len(value) > MAX_TAGS:
        raise _Wrong("is no dict of texts", f"Give at most {MAX_TAGS} tags: tags={{'team': 'flights'}}.")
    checked = _text(MAX_TAG)
    return {checked(name): checked(one) for name, one in value.items()}


def _owners(value: Any) -> list[str]:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) > MAX_OWNERS:
        raise _Wrong("is no list of texts", f"Give at most {MAX_OWNERS} owners: owners=['ada@example.com'].")
    return [_text(MAX_TAG)(one) for one in value]


def _checks(value: Any) -> list[Check]:
    remedy = "Give a list: checks=[checks.row_count(), checks.not_null('flight')]."
    if isinstance(value, str | Check) or not isinstance(value, Iterable):
        raise _Wrong("is no list", remedy)
    found: dict[str, Check] = {}
    for one in value:
        if not isinstance(one, Check):
            name = getattr(one, "__name__", None) if callable(one) else None
            if name is None:
                raise _Wrong(f"holds {_short(one)}, which is no check", remedy)
            is_ours = getattr(one, "__module__", None) == Check.__module__
            how = f"Call it: checks.{name}(...)." if is_ours else f"Write checks.custom({name})."
            raise _Wrong(f"holds the function {name}, which is no check", how)
        for message, how in one.problems:
            raise _Wrong(message, how, f"the check {one.name} with")
        if one.name in found:
            raise _Wrong(f"{one.name}", "Give each a name of its own: name='...'.", "two checks of the name")
        found[one.name] = one
    if len(found) > MAX_CHECKS:
        raise _Wrong(f"are {len(found)}", f"Give at most {MAX_CHECKS}.", "checks that")
    return list(found.values())


def _config(value: Any) -> Any:
    # Judged with the function, which has to take it.
    return value


OPTIONS: Final[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    "key": ("key", _id),
    "deps": ("deps", _deps),
    "partitions": ("partitions", _partitions),
    "retries": ("retries", _whole(0, MAX_RETRIES)),
    "retry_delay": ("retry_delay_ms", _duration),
    "timeout": ("timeout_ms", _duration),
    "heartbeat": ("heartbeat_ms", _duration),
    "memory": ("memory_bytes", _memory),
    "freshness": ("freshness_ms", _duration),
    "queue": ("queue", _id),
    "pool": ("pool_of", _pool),
    "priority": ("priority", _whole(-MAX_PRIORITY, MAX_PRIORITY)),
    "code_version": ("code_version", _text(MAX_CODE_VERSION)),
    "description": ("description", _text(MAX_DESCRIPTION, lines=True)),
    "tags": ("tags", _tags),
    "owners": ("owners", _owners),
    "checks": ("checks", _checks),
    "config": ("config_model", _config),
}
"""By option: the attribute that it sets, and what checks its value."""

_OTHER_NAMES: Final = {
    "name": "key",
    "depends_on": "deps",
    "upstream": "deps",
    "inputs": "deps",
    "partitions_def": "partitions",
    "max_retries": "retries",
    "retry": "retries",
    "retry_policy": "retries",
    "delay": "retry_delay",
    "retry_delay_seconds": "retry_delay",
    "timeout_seconds": "timeout",
    "memory_limit": "memory",
    "memory_mib": "memory",
    "max_memory": "memory",
    "version": "code_version",
    "owner": "owners",
    "check": "checks",
    "check_specs": "checks",
    "tests": "checks",
    "config_schema": "config",
    "config_model": "config",
    "params": "config",
    "settings": "config",
}
"""What other tools call it."""
_MAPPINGS: Final = tuple(f"{name}()" for name in ("all_partitions", "latest", "window"))
assert len(_MAPPINGS) + 1 == len(MappingKind)

DECLARED_NODES: Final[Declarations[DeclaredNode[..., Any]]] = Declarations()


def _signature(function: Any) -> inspect.Signature:
    if sys.version_info >= (3, 14):
        # Names of annotations that only type checkers know are not looked up.
        from annotationlib import Format  # noqa: PLC0415 - from that version on

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)


def _is_context(annotation: Any, function: Any) -> bool:
    """Say whether a parameter is annotated as a Context, by whatever name it is imported, or as one or None."""
    annotation = getattr(annotation, "__forward_arg__", annotation)
    if isinstance(annotation, str):
        names = getattr(inspect.unwrap(function), "__globals__", {})
        parts = [one.strip().rpartition("Optional[")[2].removesuffix("]") for one in annotation.split("|")]
        # Of `Context[Settings]` what stands before the bracket.
        parts = [part.partition("[")[0] for part in parts]
        return any(part.rpartition(".")[2] == "Context" or _is_own_context(names.get(part)) for part in parts)
    if isinstance(annotation, UnionType) or get_origin(annotation) in (Union, Annotated):
        return any(_is_context(one, function) for one in get_args(annotation))
    return _is_own_context(get_origin(annotation) or annotation)


def _is_own_context(kind: Any) -> bool:
    return getattr(kind, "__name__", None) == "Context" and str(kind.__module__).startswith("springline.")


def _config_said(function: Any, parameter: str) -> type | None:
    """Return the model in a parameter's annotation `Context[Settings]`; None if it names none that is known here."""
    annotation = _signature(function).parameters[parameter].annotation
    found: Any = None
    if isinstance(annotation, str):
        said = re.fullmatch(r"(?:\w+\.)*Context\[(\w+)\]", annotation)
        found = None if said is None else getattr(inspect.unwrap(function), "__globals__", {}).get(said[1])
    elif get_origin(annotation) is not None and _is_own_context(get_origin(annotation)):
        (found,) = get_args(annotation)
    return found if isinstance(found, type) and hasattr(found, "model_fields") else None


def _first_paragraph(function: Any) -> str | None:
    said = inspect.getdoc(function) if inspect.isfunction(function) else None
    first = " ".join((said or "").split("\n\n")[0].split())
    first = "".join(one if one.isprintable() else " " for one in first)
    return first[:MAX_DESCRIPTION] or None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def declared_by(kind: type[N], function: Any, options: Mapping[str, Any], frame: FrameType) -> Any:
    """Return what a decorator returns that was called with a function, with options, or with what it does not take."""
    if isinstance(function, str):
        # @asset("raw_flights"): what is meant is clear, and told with everything else.
        return functools.partial(_declared, kind, {**options, "key": options.get("key", function)}, True)
    if isinstance(function, classmethod | property):
        no_function: Any = function
        return kind(no_function, options, frame)
    if function is None or not callable(function):
        return functools.partial(_declared, kind, options, function is not None)
    return kind(function, options, frame)


def _declared(kind: type[N], options: Mapping[str, Any], positional: bool, function: Any) -> N:
    made = kind(function, options, sys._getframe(1))
    if positional:
        made._problems.append(
            ("has an option without a name", f"Give options by name: @{kind.kind}(key='raw_flights').")
        )
    return made
