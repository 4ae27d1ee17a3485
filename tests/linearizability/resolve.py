"""What later answers tell of outcomes that were unknown: the same history with fewer of them.

A search doubles its states with every operation that may or may not have happened. Most of them are decided by
what the client was told when it asked again; taking that into account beforehand changes no verdict, which a
property test holds against the checker. Porcupine gets its histories like this, our checker as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tests.linearizability.history import Ground, Kind, Operation


def resolved(history: Iterable[Operation]) -> list[Operation]:
    """Return a history that is linearizable if and only if `history` is."""
    tables: dict[str, dict[str, list[Operation]]] = {}
    for op in history:
        tables.setdefault(op.table, {}).setdefault(op.key, []).append(op)
    return [op for keys in tables.values() for op in _table(keys)]


def _table(keys: dict[str, list[Operation]]) -> list[Operation]:
    ops = [op for of_key in keys.values() for op in of_key]
    made = {op.version for op in ops if op.kind in (Kind.COMMIT, Kind.FOREIGN)}
    made |= {op.version for op in ops if op.kind is Kind.EXPLAIN}
    seen = [op.version for op in ops if op.version is not None]
    outrun = [op.read_version + 1 for op in ops if op.refused is Ground.STALE]
    gaps = set(range(1, max([0, *seen, *outrun]) + 1)) - made
    return [op for of_key in keys.values() for op in _key(of_key, gaps)]


def _key(ops: list[Operation], gaps: set[int]) -> list[Operation]:
    """Resolve the operations of one key; `gaps` are the versions that nobody is known to have made."""
    unknown = [op for op in ops if op.unknown]
    told = [op for op in ops if not op.unknown]
    if not unknown:
        return told
    answers = [op for op in told if op.kind is Kind.COMMIT and op.version is not None]
    if answers:
        # It took effect before the first answer, by whichever of the requests; others' requests never did.
        first = min(answers, key=lambda op: op.ret)
        calls = [op.call for op in unknown if op.identity == first.identity]
        return [replace(op, call=min([op.call, *calls])) if op is first else op for op in told]
    reads = [op for op in told if op.kind is Kind.EXPLAIN and op.version is not None]
    if reads:
        if len({op.identity for op in unknown}) > 1:
            return ops
        first = min(reads, key=lambda op: op.ret)
        call = min(op.call for op in unknown)
        return [*told, replace(unknown[0], call=call, ret=first.ret, version=first.version)]
    if any(op.refused is Ground.USED for op in told):
        return ops
    # What remains is needed only where a version has no other maker.
    return [*told, *(op for op in unknown if (gaps if op.append else op.read_version + 1 in gaps))]
