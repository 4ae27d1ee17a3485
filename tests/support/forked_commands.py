"""A `springline` that is forked instead of started, for pages of many commands: they run as they stand, but sooner.

`python -m tests.support.forked_commands SOCKET` has loaded what commands load. `PROGRAM` stands for `springline`: it
passes arguments, environment, folder and standard streams over the socket, and ends as the command does.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from springline.local.processes import module_path
from tests.support.forks import ForkedChild

MODULE = "tests.support.forked_commands"
PROGRAM = """\
import array, os, signal, socket, sys
there = socket.socket(socket.AF_UNIX)
there.connect(sys.argv[1])
given = [[os.getcwd()], sys.argv[2:], [f"{name}={value}" for name, value in os.environ.items()]]
text = repr(given).encode()
socket.send_fds(there, [len(text).to_bytes(8, "big")], [0, 1, 2])
there.sendall(text)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, _: there.sendall(bytes([number])))
code = int(there.recv(16).decode() or "1")
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""
POLL_S = 0.01


@contextmanager
def forked_commands(folder: Path) -> Iterator[str]:
    """Serve commands until the block ends; give the shell command that is `springline`."""
    program = folder / "forked_springline.py"
    program.write_text(PROGRAM)
    # A path of a socket may have 107 characters, a folder of a test has more.
    with tempfile.TemporaryDirectory(prefix="commands-") as short:
        path = Path(short) / "socket"
        environment = {**os.environ, "PYTHONPATH": module_path(os.environ.get("PYTHONPATH"))}
        child = ForkedChild("commands", MODULE, [str(path)], env=environment, cwd=folder, log=folder / "commands.log")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path.with_name("ready")))
            listener.listen()
            listener.settimeout(240)
            child.start()
            try:
                listener.accept()[0].close()
                yield f'"{sys.executable}" -I -S "{program}" "{path}"'
            finally:
                child.kill()


def main() -> None:
    """Serve commands, each in a process of its own, until the end of the process."""
    import duckdb  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    import entrypoints.doctor  # noqa: F401
    import springline.cli.doctor
    import springline.cli.rebuild
    import springline.cli.stores  # noqa: F401

    path = Path(sys.argv[1])
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(16)
        with socket.socket(socket.AF_UNIX) as ready:
            ready.connect(str(path.with_name("ready")))
        while True:
            asking, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _look_after(asking)
            asking.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def _look_after(asking: socket.socket) -> None:
    """Run a command; pass signals on to it, tell its end, and end it when nobody asks any more."""
    size, streams, *_ = socket.recv_fds(asking, 8, 3)
    text = b""
    while len(text) < int.from_bytes(size, "big"):
        text += asking.recv(1 << 16)
    command = os.fork()
    if command == 0:
        asking.close()
        _become(text.decode(), streams)
    for stream in streams:
        os.close(stream)
    while True:
        ended, status = os.waitpid(command, os.WNOHANG)
        if ended:
            with contextlib.suppress(OSError):
                asking.sendall(str(os.waitstatus_to_exitcode(status)).encode())
            os._exit(0)
        if select.select([asking], [], [], POLL_S)[0]:
            told = asking.recv(1)
            with contextlib.suppress(ProcessLookupError):
                os.kill(command, told[0] if told else signal.SIGKILL)


def _become(given: str, streams: list[int]) -> None:
    """Be the command."""
    import ast

    from springline.cli.__main__ import main as springline

    (folder,), arguments, variables = ast.literal_eval(given)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in enumerate("rww"))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variable.split("=", 1) for variable in variables)
    sys.argv = ["springline", *arguments]
    springline()


if __name__ == "__main__":
    main()
