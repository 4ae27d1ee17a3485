"""`python -m springline.work.child`: a process that makes attempts for the worker that has started it, one by one.

It loads the pipeline once. Worker and process speak over a socket of their own, so that user code may print what it
likes. The process ends with its worker, however that ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import logging
import os
import queue
import resource
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, Final

from springline.local.processes import peak_memory_bytes
from springline.sdk.attempting import Attempted, Attempts
from springline.sdk.checking import CheckFailed
from springline.sdk.context import Context, problem_of_metadata
from springline.sdk.describing import described
from springline.sdk.errors import ConfigRefused, NonRetryable
from springline.sdk.evaluating import BadResult, called, plain_result
from springline.sdk.loading import LoadedPipeline, examine, stay_on_path
from springline.sdk.outputs import NotReadable, NotStorable, decoded, encoded, not_storable
from springline.sdk.sensors import PushedMessage, SensorContext, at_instant
from springline.sdk.traces import own_part, told
from springline.work.frames import (
    Evaluation,
    Job,
    Json,
    Made,
    Say,
    ValueForm,
    evaluation_of,
    frame,
    head_of_made,
    job_of,
    receive,
)
from springline.work.writes import AttemptTables, Lake, is_passing

_PR_SET_PDEATHSIG: Final = 1
_LOOKS_S: Final = 0.5
"""How often progress is looked at."""
_MOST_MESSAGE: Final = 4_000
_MOST_TRACE: Final = 32_000


class _Refused(Exception):
    """Why an attempt fails without user code being to blame."""

    def __init__(self, message: str, reason_code: str) -> None:
        super().__init__(message)
        self.reason_code = reason_code


class _Process:
    """This process: the main thread makes attempts, one thread listens to the worker, one tells of progress."""

    def __init__(self, connection: socket.socket, mark: str, loaded: LoadedPipeline) -> None:
        self._connection = connection
        self._mark = f"{mark}\n".encode()
        self._loaded = loaded
        self._sending = threading.Lock()
        self._jobs: queue.SimpleQueue[tuple[Json, list[bytes]]] = queue.SimpleQueue()
        self._attempts = Attempts()
        self._folder = Path.cwd()
        self._context: Context | None = None
        self._number = 0
        """The attempt that is under way, 0 for none."""
        self._to_stop = 0
        """The last attempt that was to stop."""
        self._lake = Lake()
        self._staged: AttemptTables | None = None
        """What the last attempt has staged, until it is known whether that is sealed."""

    def say(self, head: Json, bodies: Sequence[bytes] = ()) -> None:
        """Send a frame. Never called within user code, whose interruption would cut it in half."""
        with self._sending:
            for part in frame(head, bodies):
                self._connection.sendall(part)

    def serve(self) -> None:
        """Make what the worker asks for, for ever: the process ends when the worker hangs up."""
        threading.Thread(target=self._listen, name="springline-worker", daemon=True).start()
        threading.Thread(target=self._watch, name="springline-progress", daemon=True).start()
        while True:
            head, bodies = self._jobs.get()
            # User code of an earlier attempt may have changed both.
            signal.signal(signal.SIGTERM, self._on_signal)
            os.chdir(self._folder)
            if head["say"] == Say.SETTLE:
                self._settle(head)
            elif head["say"] == Say.EVALUATE:
                self._evaluate(evaluation_of(head))
            else:
                self._make(job_of(head), bodies)

    def _make(self, job: Job, bodies: list[bytes]) -> None:
        _forget_peak_memory()
        began = _cpu_s()
        form: ValueForm | None = None
        output: list[bytes] = []
        error: Json = {}
        metadata: Json = {}
        checks: list[Json] = []
        interrupted = False
        # Not discarded: whether the attempt before was sealed is the worker's to say, and it has not said so.
        self._staged = None
        tables = AttemptTables(self._lake, job.scope, job.task_key)
        try:
            asset, context, arguments = self._prepared(job, bodies, tables)
            self._context, self._number = context, job.number
            if self._to_stop == job.number:
                interrupted = True
                error = {"category": "CANCELLED", "message": "it was to stop before its function was called"}
            else:
                made = self._called(asset, context, arguments)
                interrupted = made.interrupted
                checks = [asdict(one) for one in made.checks]
                if made.error is not None:
                    error = _error_of(made.error)
                elif job.keeps_output:
                    form, data = _output(job, made.value)
                    output = [data]
            metadata = _metadata_of(job, context)
        except _Refused as refusal:
            form, output = None, []
            # What the function has raised says more.
            error = error or {
                "category": "CONFIGURATION",
                "message": _shortened(str(refusal), _MOST_MESSAGE),
                "retryable": False,
                "reason_code": refusal.reason_code,
            }
        finally:
            self._number, self._context = 0, None
        writes = tables.ended()
        if error:
            tables.discard()
            writes = []
        self._staged = tables
        end = Made(
            job.number,
            interrupted=interrupted,
            metadata=metadata,
            cpu_time_ms=round((_cpu_s() - began) * 1_000),
            peak_memory_bytes=peak_memory_bytes(),
            form=form,
            writes=writes,
            at_once=tables.at_once,
            checks=checks,
            **error,
        )
        self._end_of_lines()
        self.say(head_of_made(end), output)

    def _evaluate(self, asked: Evaluation) -> None:
        """Call a sensor's function, and tell its result as JSON."""
        began, self._staged = _cpu_s(), None
        error: Json = {}
        output: list[bytes] = []
        interrupted = False
        sensors = {one.sensor_id: one for one in self._loaded.pipeline.sensors}
        try:
            self._number = asked.number
            if self._to_stop == asked.number:
                interrupted, error = True, {"category": "CANCELLED", "message": "it was to stop before it was called"}
            else:
                one = sensors[asked.sensor_id]
                context = _sensor_context(asked)
                made = self._attempts.call(lambda: called(one, context))
                interrupted = made.interrupted
                if made.error is not None:
                    error = _error_of(made.error)
                else:
                    output = [json.dumps(plain_result(made.value, asked.sensor_id)).encode()]
        except KeyboardInterrupt as raised:
            error = _error_of(raised)
        except BadResult as bad:
            error = {
                "category": "USER_CODE",
                "message": _shortened(str(bad), _MOST_MESSAGE),
                "reason_code": bad.reason_code,
            }
        finally:
            self._number = 0
        cpu_ms = round((_cpu_s() - began) * 1_000)
        form = ValueForm("json") if output else None
        end = Made(asked.number, interrupted=interrupted, cpu_time_ms=cpu_ms, form=form, **error)
        self._end_of_lines()
        self.say(head_of_made(end), output)

    def _settle(self, head: Json) -> None:
        """Commit what a task has sealed; remove what the last attempt has staged in vain."""
        staged, self._staged = self._staged, None
        done: list[Json] = []
        error = self._lake.commit(head["writes"], done)
        if staged is not None and not head["ours"]:
            staged.discard()
        self._end_of_lines()
        self.say({"say": Say.SETTLED, "done": done, "error": error})

    def _prepared(self, job: Job, bodies: list[bytes], tables: AttemptTables) -> tuple[Any, Context, dict[str, Any]]:
        resolved = self._loaded.pipeline.nodes[job.asset_key]
        arguments: dict[str, Any] = {}
        waiting = iter(bodies)
        for one in job.inputs:
            values: dict[str | None, Any] = {}
            for key, form in zip(one.keys, one.forms, strict=True):
                try:
                    values[key] = decoded(form.format, form.library, next(waiting))
                except NotReadable as error:
                    raise _Refused(
                        f"the output for the parameter {one.argument} of {job.asset_key} cannot be read: {error}",
                        "input_unreadable",
                    ) from error
            arguments[one.argument] = values if one.many else values[one.keys[0]]
        context = Context(
            job.asset_key,
            partition_key=job.partition_key,
            partitions=resolved.partitions,
            run_id=job.run_id,
            attempt=job.attempt,
            config=job.config,
            tables=tables,
        )
        return resolved.declared, context, arguments

    def _called(self, asset: Any, context: Context, arguments: dict[str, Any]) -> Attempted:
        try:
            return self._attempts.make(asset, context, arguments)
        except KeyboardInterrupt as error:
            return Attempted(error=error)

    def _end_of_lines(self) -> None:
        """Write out what user code has printed, and a mark behind it: what follows belongs to another attempt."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        with contextlib.suppress(OSError):
            os.write(1, self._mark)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        # One that comes from elsewhere, as from a service manager that tells all processes, is the worker's affair.
        if self._number and self._to_stop == self._number:
            self._attempts.interrupt()

    def _listen(self) -> None:
        try:
            while True:
                head, bodies = receive(self._connection)
                if head["say"] in (Say.MAKE, Say.SETTLE, Say.EVALUATE):
                    self._jobs.put((head, bodies))
                elif head["say"] == Say.STOP:
                    self._to_stop = head["number"]
                    self._interrupt()
        except EOFError:
            _end_all()
        except OSError as error:
            _end_after(error)

    def _interrupt(self) -> None:
        ident = threading.main_thread().ident
        assert ident is not None
        signal.pthread_kill(ident, signal.SIGTERM)

    def _watch(self) -> None:
        said: tuple[int, tuple[float, str | None] | None] = (0, None)
        pause = threading.Event()
        while not pause.wait(_LOOKS_S):
            number, context = self._number, self._context
            if not number or context is None:
                continue
            if self._to_stop == number:
                # The first one may have come a moment before the function was called.
                self._interrupt()
            progress = context.last_progress
            if progress is not None and (number, progress) != said:
                said = (number, progress)
                with contextlib.suppress(OSError):
                    self.say(
                        {
                            "say": Say.PROGRESS,
                            "number": number,
                            "done": progress[0],
                            "message": None if progress[1] is None else _shortened(str(progress[1]), 500),
                        }
                    )


def _sensor_context(asked: Evaluation) -> SensorContext:
    message = asked.message
    pushed = None
    if message is not None:
        pushed = PushedMessage(message["message_id"], message["payload"], at_instant(message["received_ms"]))
    last = None if asked.evaluated_ms is None else at_instant(asked.evaluated_ms)
    return SensorContext(asked.sensor_id, cursor=asked.cursor, last_evaluated_at=last, message=pushed)


def _output(job: Job, value: Any) -> tuple[ValueForm, bytes]:
    try:
        form, library, data = encoded(value)
    except NotStorable as error:
        raise _Refused(not_storable(job.asset_key, error), "output_not_storable") from error
    return ValueForm(form, library), data


def _metadata_of(job: Job, context: Context) -> Json:
    problem = problem_of_metadata(job.asset_key, context.metadata)
    if problem is not None:
        said, is_too_large = problem
        if is_too_large:
            raise _Refused(said, "metadata_too_large")
        raise _Refused(said, "metadata_not_json")
    return dict(context.metadata)


def _error_of(error: BaseException) -> Json:
    own = own_part(error.__traceback__)
    said = f"{type(error).__name__}: {_text_of(error)}".removesuffix(": ")
    plain: Json = {
        "category": "USER_CODE",
        "message": _shortened(said, _MOST_MESSAGE),
        "stack_trace": None if own is None else _shortened(told(error, own), _MOST_TRACE),
        "retryable": False if isinstance(error, NonRetryable) else None,
    }
    if isinstance(error, CheckFailed):
        # Its lines are ours, and the message says it all.
        plain |= {"category": "DATA_QUALITY", "reason_code": "check_failed", "stack_trace": None}
    elif isinstance(error, ConfigRefused):
        # No line of user code has run, and the message says it all.
        plain |= {"category": "CONFIGURATION", "reason_code": "config_refused", "stack_trace": None}
    elif is_passing(error):
        plain |= {"category": "INFRASTRUCTURE", "reason_code": "lake_unavailable"}
    return plain


def _text_of(error: BaseException) -> str:
    refusal = getattr(error, "refusal", None)
    if refusal is not None and type(error).__module__ == "springline.errors":
        return f"{refusal.message}. {refusal.remedy}"
    try:
        return str(error)
    except Exception as raised:
        return f"(its text raises {type(raised).__name__})"


def _shortened(text: str, most: int) -> str:
    """Return a text of at most `most` characters that UTF-8 can encode: begin and end, if it is longer."""
    text = text.encode("utf-8", "replace").decode()
    if len(text) <= most:
        return text
    half = (most - 5) // 2
    return f"{text[:half]}\n...\n{text[-half:]}"


def _cpu_s() -> float:
    """Return the processor time of this process and of those that it has waited for."""
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


def _forget_peak_memory() -> None:
    """Let the peak memory begin anew, where the kernel can do that: else it is the greatest of all attempts here."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _mind_no_signal() -> None:
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end_all() -> None:
    """End this process and what it has started."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def _end_after(error: OSError) -> None:
    """End this process, whose connection is broken."""
    if error.errno == errno.EBADF:
        # User code has closed it, with all else: that is no loss of the worker.
        os._exit(1)
    _end_all()


def _die_with(parent: int) -> None:
    """Ask the kernel for SIGKILL when the worker ends (Linux): also a loop in C that lets no thread run then ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main() -> None:
    """Load a pipeline and make attempts of it.

    Arguments: the socket's descriptor, the worker's process id, a mark, FILE, and the PYTHONPATH of programs that user
    code starts, if they are to have one.
    """
    descriptor, parent, mark, target, *python_path = sys.argv[1:]
    _die_with(int(parent))
    os.set_inheritable(int(descriptor), False)
    connection = socket.socket(fileno=int(descriptor))
    sys.argv[1:] = []
    os.environ.pop("PYTHONPATH", None)
    if python_path:
        os.environ["PYTHONPATH"] = python_path[0]
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    # A handler, and not SIG_IGN, which programs that user code starts would inherit.
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    # In a process that user code forks, the signal means what it always does.
    os.register_at_fork(after_in_child=_mind_no_signal)
    loaded = examine(target)
    stay_on_path(target)
    # Behind the import: a file that configures logging has its way.
    logging.basicConfig(
        level=os.environ.get("SPRINGLINE_LOG_LEVEL", "INFO"), format="%(levelname)s %(name)s: %(message)s"
    )
    # The library for tables says each of its requests at the level of what functions log.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    process = _Process(connection, mark, loaded)
    try:
        process.say({"say": Say.READY, "described": described(loaded)})
        process.serve()
    except OSError as error:
        _end_after(error)


if __name__ == "__main__":
    main()
