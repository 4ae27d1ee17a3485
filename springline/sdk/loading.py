"""Loading a pipeline file or module: what it declares, and everything that is wrong with it, at once.

A file is imported as Python imports a script: its own folder is on the path, and the current one behind it. Whatever it
does while it is imported happens in this process; the command line does it in a process of its own
(`springline.sdk.describing`).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Final

from springline.definitions.ids import meant, problem_of_id
from springline.sdk.declaring import DECLARED_NODES
from springline.sdk.errors import InvalidDefinitions, SourceProblem
from springline.sdk.pools import DECLARED_POOLS, Pool, judged
from springline.sdk.resolving import AnyNode, Pipeline, assets_of, resolve, schedules_of, sensors_of
from springline.sdk.schedules import DECLARED_SCHEDULES, Schedule
from springline.sdk.sensors import DECLARED_SENSORS, Sensor
from springline.sdk.traces import own_part, told

_STOOD_IN: Final = "springline_pipeline_"


@dataclass(frozen=True, slots=True)
class LoadedPipeline:
    """What a file or module declares. `location`: the default name of its code location, after the file."""

    file: str
    location: str
    pipeline: Pipeline
    module: ModuleType | None

    @property
    def problems(self) -> list[SourceProblem]:
        """Everything that is wrong."""
        return self.pipeline.problems


def load(target: str | Path) -> LoadedPipeline:
    """Load a pipeline file, or a module by its dotted name; raises `InvalidDefinitions` if anything is wrong."""
    loaded = examine(target)
    if loaded.problems:
        raise InvalidDefinitions(loaded.problems)
    return loaded


def examine(target: str | Path) -> LoadedPipeline:
    """Load a pipeline file, or a module by its dotted name, and say what is wrong with it; raises nothing."""
    text = os.fspath(target)
    path = Path(text)
    is_module = not path.exists() and "/" not in text and not text.endswith(".py")
    location = text.rpartition(".")[2] if is_module else path.stem
    problem = None if is_module else _problem_of_path(path)
    if problem is not None:
        return LoadedPipeline(text, location, Pipeline({}, [problem]), None)
    imported, found_in, raised = _imported(text if is_module else path.resolve())
    declared, due, pools, watching = found_in.assets, found_in.schedules, found_in.pools, found_in.sensors
    file = str(getattr(imported, "__file__", None) or (text if is_module else path.resolve()))
    if raised is not None:
        return LoadedPipeline(file, location, Pipeline({}, [_problem_of_import(raised, file, text)]), None)
    assert imported is not None
    # What the file itself declares counts even if a later name has taken its place.
    own = [one for one in declared if one.file == file]
    found = {id(one): one for one in (*own, *assets_of(imported))}
    ordered = sorted(found.values(), key=lambda one: (one.file != file, one.line or 0))
    schedules = {id(one): one for one in (*(one for one in due if one.file == file), *schedules_of(imported))}
    ordered_due = sorted(schedules.values(), key=lambda one: (one.file != file, one.line or 0))
    sensors = {id(one): one for one in (*(one for one in watching if one.file == file), *sensors_of(imported))}
    ordered_sensors = sorted(sensors.values(), key=lambda one: (one.file != file, one.line or 0))
    pipeline = _with_pools(resolve(ordered, ordered_due, ordered_sensors), imported, pools)
    if not ordered:
        pipeline.problems.append(
            SourceProblem(
                file,
                None,
                "declares no asset and no task",
                "Put @asset above a function, or import assets by name: from assets import raw_flights.",
            )
        )
    return LoadedPipeline(file, location, pipeline, imported)


def _with_pools(pipeline: Pipeline, module: ModuleType, declared: list[Pool]) -> Pipeline:
    """Return a pipeline with the pools that were declared, that names in the module mean, or that assets name."""
    assets = [one.declared for one in pipeline.nodes.values()]
    of_names = [one for one in vars(module).values() if isinstance(one, Pool)]
    of_assets = [one.pool_of for one in assets if isinstance(one.pool_of, Pool)]
    pools = {id(one): one for one in (*declared, *of_names, *of_assets)}
    slots, problems = judged(pools.values(), [(one, one.pool) for one in assets if one.pool is not None])
    found = sorted([*pipeline.problems, *problems], key=lambda one: (one.file, one.line or 0))
    return replace(pipeline, problems=found, pools=slots)


def stay_on_path(target: str) -> None:
    """Have functions of a file find what they import when they are called where its own imports were found.

    For a process that loads one file, and then calls its functions.
    """
    path = Path(target)
    folders = [str(path.resolve().parent)] if path.exists() else []
    sys.path[:0] = [one for one in [*folders, os.getcwd()] if one not in sys.path]  # noqa: PTH109


def problem_of_location(file: str, location: str) -> SourceProblem | None:
    """Return what is wrong with the name of a code location; None if nothing is."""
    problem = problem_of_id(location)
    if problem is None:
        return None
    return SourceProblem(
        file, None, f"the name of the code location, {location!r}, {problem[0]}", f"{problem[1]} Give --location NAME."
    )


def _problem_of_path(path: Path) -> SourceProblem | None:
    name = os.fspath(path)
    if path.is_dir():
        inside = sorted(one.name for one in path.glob("*.py"))[:5]
        files = f" such as {name.rstrip('/')}/{inside[0]}" if inside else ""
        return SourceProblem(name, None, "is a folder", f"Name the pipeline file in it{files}.")
    if not path.exists():
        beside = [one.name for one in path.parent.glob("*.py")] if path.parent.is_dir() else []
        return SourceProblem(
            name, None, "there is no such file", f"{meant(path.name, beside)}Give the path of a pipeline file."
        )
    if path.suffix != ".py":
        return SourceProblem(name, None, "is no Python file", "Name a file that ends in .py, or a module.")
    return None


@dataclass(frozen=True, slots=True)
class _Declared:
    """What was declared while a file was imported."""

    assets: list[AnyNode]
    schedules: list[Schedule]
    pools: list[Pool]
    sensors: list[Sensor]


def _imported(target: str | Path) -> tuple[ModuleType | None, _Declared, BaseException | None]:
    """Import a file or module; return it, what was declared meanwhile, and what it raised instead."""
    folders = [os.getcwd()] if isinstance(target, str) else [str(target.parent), os.getcwd()]  # noqa: PTH109
    with (
        _on_path(folders),
        DECLARED_NODES.collected() as declared,
        DECLARED_SCHEDULES.collected() as due,
        DECLARED_POOLS.collected() as pools,
        DECLARED_SENSORS.collected() as watching,
    ):
        found = _Declared(declared, due, pools, watching)
        try:
            module = importlib.import_module(target) if isinstance(target, str) else _import_file(target)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return None, found, error
    return module, found, None


class _FromSource(SourceFileLoader):
    """Compiles a file each time: byte code counts as current by the second and the length of its source.

    A file that is saved twice within a second, with another digit, would be what it was.
    """

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the file as it is now."""
        return self.source_to_code(self.get_data(self.path), self.path)


def _import_file(path: Path) -> ModuleType:
    name = path.stem
    there = sys.modules.get(name)
    if not name.isidentifier() or (there is not None and getattr(there, "__file__", None) != str(path)):
        # A file may be called like a module of Python or of ours: it must not take its place.
        name = f"{_STOOD_IN}{''.join(one if one.isalnum() else '_' for one in name)}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_FromSource(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Here before it runs, as for every import: dataclasses and pickles look for the module by its name.
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise
    return module


@contextmanager
def _on_path(folders: list[str]) -> Iterator[None]:
    before = list(sys.path)
    sys.path[:0] = folders
    try:
        yield
    finally:
        sys.path[:] = before


def _problem_of_import(error: BaseException, file: str, target: str) -> SourceProblem:
    own = own_part(error.__traceback__)
    if own is not None and file == target:
        # A module that was asked for by its name: where its file lies is not known otherwise.
        file = own.tb_frame.f_code.co_filename
    line = _line_in(own, file)
    if isinstance(error, SyntaxError) and error.filename is not None:
        return SourceProblem(
            error.filename,
            error.lineno,
            f"is no Python: {error.msg}",
            "Correct the line.",
            traceback="".join(traceback.format_exception_only(error)),
        )
    trace = told(error, own) if own is not None else None
    if isinstance(error, SystemExit):
        return SourceProblem(
            file,
            line,
            f"calls sys.exit({error.code!r}) while it is imported",
            "Leave that to functions, or put it below if __name__ == '__main__'.",
            traceback=trace,
        )
    if isinstance(error, ModuleNotFoundError) and own is None:
        return SourceProblem(
            target, None, f"there is no file and no module {error.name}", "Give the path of a pipeline file."
        )
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    remedy = "Correct it; nothing of the file was read further."
    if isinstance(error, ImportError) and "relative import" in str(error):
        remedy = (
            "A file is no part of a package: give its dotted name instead, such as flows.daily for flows/daily.py, in "
            "the folder that holds the package; or import by the whole name."
        )
    if isinstance(error, ModuleNotFoundError):
        remedy = (
            f"Install what provides {error.name} beside springline, in the same environment; a module of your own lies "
            "beside the file or in the current folder."
        )
    return SourceProblem(file, line, f"raises {what}", remedy, traceback=trace)


def _line_in(trace: TracebackType | None, file: str) -> int | None:
    """Return the line of the file that the traceback comes to last."""
    line = None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
