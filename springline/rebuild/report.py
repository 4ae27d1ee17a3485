"""The report of a rebuild: what was done, what was found, and how the state before differs.

See docs/protocol.md#rebuild.
"""

from __future__ import annotations

import orjson

from springline.paths import rebuild_report
from springline.rebuild.messages import ReportOrder
from springline.storage.port import ObjectStore
from springline.storage.resolve import put_once


async def write_report(store: ObjectStore, order: ReportOrder) -> str:
    """Write the report and return its path; writing it again changes nothing."""
    path = rebuild_report(order.plan.work_id, order.name)
    document = {
        "workspace": order.workspace.model_dump(mode="json"),
        "result": order.result,
        "rows": order.rows,
        "plan": order.plan.model_dump(mode="json"),
        "comparison": order.compared.model_dump(mode="json") if order.compared is not None else None,
        "missing_or_damaged": [one.model_dump(mode="json") for one in order.bad],
        "accepted_and_not_listed": order.gaps,
    }
    await put_once(store, path, orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
    return path
