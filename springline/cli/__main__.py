"""The console script `springline`."""

from __future__ import annotations

import os
import signal

# Until `ends_at_once`; the numbers of its module are not loaded yet.
signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(130))

from springline.exits import ends_at_once, run_and_leave  # noqa: E402


def main() -> None:
    """Run the command line and exit with its code."""
    run_and_leave(_run)


def _run() -> int:
    ends_at_once()
    # Here, so that Ctrl-C means the same while this is loaded.
    from springline.cli.app import build_app  # noqa: PLC0415

    code: int = build_app()(prog_name="springline")
    return code


if __name__ == "__main__":
    main()
