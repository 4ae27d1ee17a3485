"""`python -m springline.sdk.materializing REQUEST`: assets of a pipeline file made once, told as one JSON document.

For `springline materialize`: as in `springline.sdk.describing`, user code may do anything, so it runs in this process.
What it prints goes to standard error.
"""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import asdict
from typing import Any, Final

from springline.sdk.answering import answer_and_end
from springline.sdk.context import problem_of_json
from springline.sdk.errors import InvalidConfig, InvalidRequest
from springline.sdk.loading import examine, stay_on_path
from springline.sdk.running import AssetResult, materialize
from springline.sdk.traces import own_part, told

_MOST_SHOWN: Final = 2_000


def materialized(request: dict[str, Any]) -> dict[str, Any]:
    """Make assets as a request of `springline materialize` asks, and return what became of each, or why none was made.

    `file`: a pipeline file or module; `select`, `partition_key`, `config`, `tables`: as `materialize` has them. The
    document has `problems` if the file is wrong, `refused` and `is_config` if the request or its
    config cannot be meant, else `run_id` and `assets`.
    """
    loaded = examine(request["file"])
    stay_on_path(request["file"])
    document: dict[str, Any] = {"file": loaded.file, "location": loaded.location, "keys": list(loaded.pipeline.assets)}
    if loaded.problems:
        return {**document, "problems": [asdict(one) for one in loaded.problems]}
    try:
        result = materialize(
            [one.declared for one in loaded.pipeline.nodes.values()],
            request["select"],
            partition_key=request["partition_key"],
            config=request["config"],
            tables=request["tables"],
            raise_on_error=False,
        )
    except InvalidRequest as error:
        return {**document, "problems": [], "refused": str(error), "is_config": isinstance(error, InvalidConfig)}
    assets = [_plain(one) for one in result.assets.values()]
    return {**document, "problems": [], "ok": result.success, "run_id": result.run_id, "assets": assets}


def _plain(one: AssetResult) -> dict[str, Any]:
    return {
        "asset": one.key,
        "kind": one.kind,
        "partition": one.partition_key,
        "state": one.status.value,
        "attempts": one.attempts,
        "duration_s": round(one.duration_s, 3),
        "error": None if one.error is None else _error(one.error),
        "skipped_by": one.skipped_by,
        "output": _output(one.value),
        "metadata": dict(one.metadata),
        "checks": [asdict(check) for check in one.checks],
        "writes": [
            {"table": write.table, "operation": write.operation, "version": write.version, "rows": write.rows}
            for write in one.writes
        ],
    }


def _error(error: BaseException) -> str:
    refusal = getattr(error, "refusal", None)
    own = own_part(error.__traceback__)
    if own is not None:
        sys.stderr.write(told(error, own))
    if refusal is not None:
        return f"{refusal.message}. {refusal.remedy}"
    plain = traceback.TracebackException(type(error), error, None)
    # Its notes, which come behind it, are not the error.
    notes, plain.__notes__ = plain.__notes__ or [], None
    *_, last = plain.format_exception_only()
    return "\n".join([last.strip().removeprefix("springline.sdk.checking."), *map(str, notes)])


def _output(value: Any) -> Any:
    """Return a value for people to see: itself if it is small and JSON, else what it is."""
    if value is None:
        return None
    text = None if problem_of_json(value) is not None else json.dumps(value)
    if text is not None and len(text) <= _MOST_SHOWN:
        return json.loads(text)
    if isinstance(value, int):
        # One that readers of the document could not read.
        return str(value)
    size = f" of {len(value):,}" if hasattr(value, "__len__") else ""
    return f"a {type(value).__name__}{size}"


def main() -> None:
    """Make what the command line asks for, and write the document to standard output."""

    def document_of(arguments: list[str]) -> dict[str, Any]:
        import logging  # noqa: PLC0415 - behind what is quick

        logging.basicConfig(level="INFO", format="%(levelname)s %(name)s: %(message)s")
        logging.getLogger("httpx").setLevel(logging.WARNING)
        return materialized(json.loads(arguments[0]))

    answer_and_end(document_of)


if __name__ == "__main__":
    main()
