"""Explanations in words: what `springline explain` shows to a person.

Only what is for people alone imports the library for tables, which quick commands do without.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]

_NEXT = "next"


def explanation_text(found: Json) -> str:
    """Return an explanation: the answer first, then what it waits for, who decided what, and what to do."""
    from springline.cli.present import document_text, rows_text  # noqa: PLC0415

    told = {
        found["subject"]: found["identity"],
        "verdict": found["verdict"],
        "answer": found["answer"],
        "reason_code": found.get("reason_code"),
    }
    told |= {f"waits for ({number})": line for number, line in enumerate(found["waits_for"], 1)}
    told |= {f"{_NEXT} ({number})": line for number, line in enumerate(found["next_steps"], 1)}
    if not found["is_complete"]:
        told["read"] = f"only {found['events_read']} events; narrow the time with --since and --until"
    parts = [document_text({name: value for name, value in told.items() if value is not None})]
    rows = [[_instant(one["at"]), one["who"], one["what"]] for one in found["decisions"]]
    if rows:
        text, _ = rows_text(["at", "who", "what"], rows)
        parts.append(text)
    if found["left_out"]:
        parts.append(f"{found['left_out']} older events concern it, too: --until shows them\n")
    return "\n".join(parts)


def _instant(text: str) -> str:
    return text.replace("T", " ").removesuffix("Z")
