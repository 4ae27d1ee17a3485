"""The console script `springline`: the command line, with what `doctor` asks about Temporal put in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from entrypoints.leaving import ends_at_once, run_and_leave

if TYPE_CHECKING:
    from springline.cli.findings import Finding


async def _temporal(store_id: str | None, hooks_name: str | None) -> list[Finding]:
    # The Temporal SDK takes a good part of a second to load: only `doctor` pays.
    from entrypoints.doctor import temporal_findings  # noqa: PLC0415

    return await temporal_findings(store_id, hooks_name)


def main() -> None:
    """Run the command line and exit with its code."""
    ends_at_once()
    run_and_leave(_run)


def _run() -> int:
    # Here, so that Ctrl-C means the same while this is loaded.
    from springline.cli.app import build_app  # noqa: PLC0415

    code: int = build_app(_temporal)(prog_name="springline")
    return code


if __name__ == "__main__":
    main()
