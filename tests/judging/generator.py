"""Payloads for judging: valid ones for a table, and such with something wrong in them, from a seed.

A payload begins as what an engine would write for the table: files added with right statistics and partition values,
files removed, transactions, domains, new columns, features switched on. Then, mostly, one to three things in it are
changed at random places, also inside the JSON that actions carry as text: fields taken away, given twice, replaced by
values of other types, too long, too deep, out of range, or spelled oddly.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from springline.delta.messages import CommitMode

NOW_MS = 1_700_000_000_000
JUNK: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 1.5, 2.0, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 1e300, "", "x", "1", "true",
    "null", " ", "\u0000", "é", "x" * 5_000, "x" * 2_000_000, [], {}, [1], ["x"], [None], {"a": 1}, {"a": None},
    {"": ""}, [[[[]]]], "{}", "[]", "{", "$DEEP", "$DEEPER",
)  # fmt: skip
"""What a value is replaced by."""
DEEP, DEEPER = "[" * 90 + "]" * 90, "[" * 20_000 + "]" * 20_000
PATHS = (
    "a b.parquet", "a%20b.parquet", "./first.parquet", "x/../first.parquet", "/first.parquet", "x//y.parquet",
    "xx/y.parquet", "a%zz.parquet", "a%.parquet", "%66irst.parquet", "a:b.parquet", "x/a:b.parquet", "a%3Ab.parquet",
    "é.parquet", "%C3%A9.parquet", "%E9.parquet", "a#b.parquet", "a%23b.parquet", "a?b.parquet", "a%3Fb.parquet",
    "a[b].parquet", "a%5Bb%5D.parquet", "a|b.parquet", "a{b}.parquet", 'a"b.parquet', "a\\b.parquet", "a%5Cb.parquet",
    "x%2Fy.parquet", "a+b.parquet", "a*b.parquet", "a=b/c.parquet", "a%25b.parquet", ".h.parquet", "a'b.parquet",
    "a^b.parquet", "a`b.parquet", "a<b>.parquet", "a\tb.parquet", "x/", ".", "..", "../z.parquet", "%2e%2e/z.parquet",
    "_delta_log/z.parquet", "_DELTA_LOG/z.parquet", "a\u2028b.parquet", "file:///tmp/z.parquet", "s3://b/z.parquet",
    "a~b!$&(),;@.parquet", "", "p=1/part.parquet", "日本/z.parquet", "x" * 1_100 + ".parquet",
)  # fmt: skip
VALUES = (
    None, "", "0", "1", "-1", "+1", "01", " 1", "1.0", "1.50", "1.5", "1e2", "abc", "true", "True", "NaN", "nan",
    "Infinity", "-inf", "1e400", "9223372036854775808", "2020-01-01", "2020-1-1", "2020-02-30", "10000-01-01",
    "2020-01-01 00:00:00", "2020-01-01T00:00:00Z", "2020-01-01T00:00:00.123456Z", "2020-01-01 00:00:00.123456789",
    "2020-01-01T00:00:00+02:00", "2020-01-01 24:00:00", "é", "x\ny", "😀", "a'b", "__HIVE_DEFAULT_PARTITION__",
    "null", "\u0000", "x" * 70_000, "٣",
)  # fmt: skip
TYPES = (
    "string", "long", "integer", "short", "byte", "float", "double", "boolean", "binary", "date", "timestamp",
    "timestamp_ntz", "variant", "decimal(10,2)", "decimal(39,2)", "decimal(5,6)", "decimal(38,0)", "int", "bigint",
    "void", "interval", "decimal", "",
)  # fmt: skip
PROPERTIES = (
    ("delta.appendOnly", "true"), ("delta.appendOnly", "yes"), ("delta.enableChangeDataFeed", "true"),
    ("delta.enableDeletionVectors", "true"), ("delta.columnMapping.mode", "name"), ("delta.columnMapping.mode", "id"),
    ("delta.columnMapping.mode", "x"), ("delta.checkpointInterval", "0"), ("delta.checkpointInterval", "7"),
    ("delta.checkpointPolicy", "v2"), ("delta.constraints.c", "id > 0"), ("delta.logRetentionDuration", "30"),
    ("delta.logRetentionDuration", "interval 3 days"), ("delta.enableTypeWidening", "true"), ("mine", "é"),
    ("delta.enableRowTracking", "true"), ("delta.enableInCommitTimestamps", "true"), ("delta.new", "x"),
    ("delta.dataSkippingNumIndexedCols", "-2"), ("delta.isolationLevel", "Serializable"), ("", ""),
)  # fmt: skip
FEATURES = (
    "appendOnly", "invariants", "checkConstraints", "changeDataFeed", "generatedColumns", "columnMapping",
    "deletionVectors", "timestampNtz", "typeWidening", "variantType", "v2Checkpoint", "vacuumProtocolCheck",
    "domainMetadata", "clustering", "rowTracking", "identityColumns", "icebergCompatV1", "catalogManaged", "nonsense",
)  # fmt: skip
FIELD_KEYS = (
    "mine", "comment", "parquet.field.id", "delta.columnMapping.id", "delta.columnMapping.physicalName",
    "delta.columnMapping.nested.ids", "delta.metadataSpec", "delta.invariants", "delta.typeChanges",
    "delta.generationExpression", "delta.isInternalColumn", "CURRENT_DEFAULT", "EXISTS_DEFAULT", "__COLLATIONS",
    "__CHAR_VARCHAR_TYPE_STRING", "__metadata_col",
)  # fmt: skip
"""Keys of a field's metadata that engines know."""
FIELD_VALUES: tuple[Any, ...] = (
    None, True, 0, 1, -1, 1.5, 2**31, 2**63 - 1, "", "x", "id > 0", '{"expression":{"expression":"id > 0"}}',
    "varchar(5)", [], {}, [1, 2], ["x"], [1, "x"], [[1]], [None], {"a": 1}, {"a": [1, None]}, [{"a": 1}],
)  # fmt: skip
BLANKS = ("", " ", "\t", "\r", "\f", "\v", " \t\r", "\u00a0", "\u2028", "\ufeff")
VECTOR = {"storageType": "i", "pathOrInlineDv": "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L",
          "sizeInBytes": 44, "cardinality": 6}  # fmt: skip
"""The inline deletion vector of the protocol's text, which deletes rows 3, 4, 7, 11, 18 and 29."""
VECTOR_ROWS = 6


@dataclass(frozen=True)
class DataFile:
    """A data file that lies in the table's folder: `stats` right for it, `values` its partition values."""

    path: str
    size: int
    rows: int
    values: dict[str, str | None]
    stats: dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """What a generator knows of a table: its actions in force, its files, and files that may be added."""

    name: str
    protocol: dict[str, Any]
    metadata: dict[str, Any]
    live: tuple[DataFile, ...]
    spare: tuple[DataFile, ...]
    values: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    """Right partition values by column, as actions name it."""

    @property
    def features(self) -> set[str]:
        return {*self.protocol.get("writerFeatures", ()), *(("appendOnly", "invariants"))}


@dataclass(frozen=True)
class Made:
    """A payload, the mode it is for, and what was done to it."""

    data: bytes
    mode: CommitMode
    done: tuple[str, ...]


def make(subject: Subject, seed: int) -> Made:
    """Return the payload of this seed for a table."""
    return _Maker(subject, random.Random(f"{subject.name}:{seed}")).make()


def added(file: DataFile, values: dict[str, str | None] | None = None) -> dict[str, Any]:
    """Return the `add` action of a file."""
    return {
        "path": file.path,
        "partitionValues": dict(file.values if values is None else values),
        "size": file.size,
        "modificationTime": NOW_MS,
        "dataChange": True,
        "stats": json.dumps(file.stats),
    }


class _Maker:
    def __init__(self, subject: Subject, random_: random.Random) -> None:
        self.subject = subject
        self.random = random_
        self.done: list[str] = []

    def make(self) -> Made:
        chance = self.random.random
        mode = CommitMode.APPEND if chance() < 0.3 else CommitMode.STRICT
        lines = self.valid(mode)
        for _ in range(self.random.choice((0, 1, 1, 1, 1, 2, 3))):
            lines = self.mutated(lines)
        text = [self.text(line) for line in lines]
        if chance() < 0.05:
            text.insert(self.random.randint(0, len(text)), self.random.choice(BLANKS))
        return Made("\n".join(text).encode("utf-8", "surrogatepass"), mode, tuple(self.done))

    def valid(self, mode: CommitMode) -> list[dict[str, Any]]:
        random_ = self.random
        lines: list[dict[str, Any]] = []
        if random_.random() < 0.5:
            lines.append({"commitInfo": {"timestamp": NOW_MS, "operation": "WRITE", "operationParameters": {"m": "x"}}})
        for file in random_.sample(self.subject.spare, random_.randint(1, min(3, len(self.subject.spare)))):
            values = {name: random_.choice(some) for name, some in self.subject.values.items()}
            add = added(file, values)
            if random_.random() < 0.2:
                add["tags"] = {"a": "b"}
            if "deletionVectors" in self.subject.features and file.rows >= 30 and random_.random() < 0.5:
                add["deletionVector"] = dict(VECTOR)
            lines.append({"add": add})
        if random_.random() < 0.3:
            lines.append({"txn": {"appId": f"app-{random_.randint(0, 3)}", "version": random_.randint(0, 9)}})
        if mode is CommitMode.APPEND:
            return lines
        if random_.random() < 0.4:
            file = random_.choice(self.subject.live)
            remove: dict[str, Any] = {"path": file.path, "dataChange": True, "deletionTimestamp": NOW_MS}
            if random_.random() < 0.5:
                remove |= {"extendedFileMetadata": True, "partitionValues": dict(file.values), "size": file.size}
            lines.append({"remove": remove})
        if random_.random() < 0.4:
            lines.append({"metaData": self.changed_metadata()})
        if random_.random() < 0.25:
            lines.append({"protocol": self.changed_protocol()})
        if "domainMetadata" in self.subject.features and random_.random() < 0.3:
            lines.append({"domainMetadata": {"domain": "mine", "configuration": "{}", "removed": False}})
        random_.shuffle(lines)
        return lines

    def changed_metadata(self) -> dict[str, Any]:
        """Return the table's metadata with a new column, a property, or something that may not be."""
        metadata = copy.deepcopy(self.subject.metadata)
        schema = json.loads(metadata["schemaString"])
        fields, random_ = schema["fields"], self.random
        match random_.randint(0, 10):
            case 0 | 1:
                fields.append({"name": "new", "type": self.type_(), "nullable": random_.random() < 0.8, "metadata": {}})
            case 2:
                random_.choice(fields)["type"] = self.type_()
            case 3:
                random_.choice(fields)["nullable"] = False
            case 4:
                fields.remove(random_.choice(fields))
            case 5:
                key, value = random_.choice(PROPERTIES)
                metadata["configuration"][key] = value
            case 6:
                metadata["partitionColumns"] = random_.sample([one["name"] for one in fields], random_.randint(0, 2))
            case 7:
                chosen = random_.choice(fields)
                chosen["name"] = random_.choice(("ID", "x y", "a.b", "", "é", "a`b", "x" * 300, "S"))
            case 8 | 9:
                chosen = {"name": "new", "type": "long", "nullable": True, "metadata": {}}
                chosen["metadata"][random_.choice(FIELD_KEYS)] = random_.choice(FIELD_VALUES)
                fields.append(chosen)
        metadata["schemaString"] = json.dumps(schema)
        return metadata

    def type_(self) -> Any:
        random_ = self.random
        kind: Any = random_.choice(TYPES[:10]) if random_.random() < 0.6 else random_.choice(TYPES)
        for _ in range(random_.choice((0, 0, 1, 2, 5, 40))):
            match random_.randint(0, 2):
                case 0:
                    kind = {"type": "array", "elementType": kind, "containsNull": True}
                case 1:
                    kind = {"type": "map", "keyType": "string", "valueType": kind, "valueContainsNull": True}
                case 2:
                    kind = {
                        "type": "struct",
                        "fields": [{"name": "f", "type": kind, "nullable": True, "metadata": {}}],
                    }
        return kind

    def changed_protocol(self) -> dict[str, Any]:
        random_ = self.random
        names = set(self.subject.features) | set(random_.sample(FEATURES, random_.choice((0, 0, 1, 1, 2))))
        reading = [name for name in names if name in FEATURES[5:12]]
        match random_.randint(0, 5):
            case 0:
                return {"minReaderVersion": random_.randint(1, 4), "minWriterVersion": random_.randint(1, 8)}
            case 1:
                reading = random_.sample(FEATURES, 2)
        if not reading and random_.random() < 0.7:
            return {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": sorted(names)}
        return {"minReaderVersion": 3, "minWriterVersion": 7} | {
            "readerFeatures": sorted(reading),
            "writerFeatures": sorted(names),
        }

    def mutated(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        lines = copy.deepcopy(lines)
        if not lines:
            return lines
        line = self.random.choice(lines)
        ((kind, action),) = list(line.items())[:1] or [("", {})]
        ways: list[Callable[[], None]] = [lambda: self.anywhere(line), lambda: self.anywhere(line)]
        if isinstance(action, dict):
            ways += [lambda: self.anywhere(action), lambda: self.without(action), lambda: self.extra(action)]
            if isinstance(action.get("path"), str):
                ways.append(lambda: self.set(action, "path", self.random.choice(PATHS)))
            if kind in ("add", "remove") and isinstance(action.get("partitionValues"), dict):
                ways.append(lambda: self.partition_value(action["partitionValues"]))
            for name in ("stats", "schemaString"):
                if isinstance(action.get(name), str):
                    ways += [lambda name=name: self.inside(action, name)] * 2  # type: ignore[misc]
            ways.append(lambda: self.twice(action))
        way = self.random.randint(0, len(ways) + 2)
        if way < len(ways):
            ways[way]()
        elif way == len(ways):
            lines.append(copy.deepcopy(line))
            self.done.append("line twice")
        elif way == len(ways) + 1:
            lines.append(self.random.choice(({}, {"nonsense": {}}, {"add": None}, {"sidecar": {"path": "x"}})))
            self.done.append("another line")
        else:
            line["commitInfo"] = {}
            self.done.append("two actions")
        return lines

    def partition_value(self, values: dict[str, Any]) -> None:
        name = self.random.choice([*values, "nope"])
        self.set(values, name, self.random.choice(VALUES))

    def set(self, holder: dict[str, Any], name: str, value: Any) -> None:
        holder[name] = value
        self.done.append(f"{name} = {str(value)[:40]!r}")

    def without(self, holder: dict[str, Any]) -> None:
        if holder:
            name = self.random.choice(list(holder))
            del holder[name]
            self.done.append(f"no {name}")

    def extra(self, holder: dict[str, Any]) -> None:
        self.set(holder, self.random.choice(("extra", "é", "", "Path", "baseRowId", "stats")), self.junk())

    def twice(self, holder: dict[str, Any]) -> None:
        if holder:
            name = self.random.choice(list(holder))
            holder[f"$TWICE:{name}"] = self.random.choice((holder[name], self.junk()))
            self.done.append(f"{name} twice")

    def anywhere(self, holder: Any) -> None:
        """Replace or take away something at a random place."""
        places: list[tuple[Any, Any]] = []
        waiting = [holder]
        while waiting:
            one = waiting.pop()
            items = one.items() if isinstance(one, dict) else enumerate(one)
            for key, value in items:
                places.append((one, key))
                if isinstance(value, (dict, list)):
                    waiting.append(value)
        if not places:
            return
        place, key = self.random.choice(places)
        if self.random.random() < 0.2:
            del place[key]
            self.done.append(f"no {key}")
        else:
            place[key] = self.junk()
            self.done.append(f"{key} = {str(place[key])[:40]!r}")

    def inside(self, action: dict[str, Any], name: str) -> None:
        """Change the JSON that an action carries as text."""
        try:
            value = json.loads(action[name])
        except (ValueError, RecursionError):
            return
        if not isinstance(value, dict) or not value:
            return
        (self.twice if self.random.random() < 0.15 else self.anywhere)(value)
        self.done.append(f"in {name}")
        action[name] = self.text(value)

    def junk(self) -> Any:
        return self.random.choice(JUNK)

    def text(self, value: Any) -> str:
        """Write JSON, with keys twice and depths that no dictionary holds."""
        text = json.dumps(value, ensure_ascii=self.random.random() < 0.5)
        return text.replace("$TWICE:", "").replace('"$DEEPER"', DEEPER).replace('"$DEEP"', DEEP)
