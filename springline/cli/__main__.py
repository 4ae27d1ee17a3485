"""The console script `springline`."""

from __future__ import annotations

from springline.exits import ends_at_once, run_and_leave


def main() -> None:
    """Run the command line and exit with its code."""
    ends_at_once()
    run_and_leave(_run)


def _run() -> int:
    # Here, so that Ctrl-C means the same while this is loaded.
    from springline.cli.app import build_app  # noqa: PLC0415

    code: int = build_app()(prog_name="springline")
    return code


if __name__ == "__main__":
    main()
