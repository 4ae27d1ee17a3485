"""Nobody but `springline.paths` spells an object path: every string of the product's code is looked at."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.path_samples import SPELLED

ROOT = Path(__file__).parents[2]
SCANNED = ("springline", "workflows", "activities", "entrypoints", "bench", "worker.py")
OWNER = ("springline/paths.py", "springline/paths/")
WORKFLOW_IDS = "springline/names.py"
"""Its functions `*_workflow_id` make ids for Temporal, which may look like paths; nothing else there is let pass."""
HOLE = "{}"

UNMISTAKABLE = re.compile(
    r"_delta_log/|/_delta_log|\A_delta_log\Z|/_last_checkpoint|\A_last_checkpoint\Z"
    r"|\.checkpoint\.(?:parquet|json|[0-9]|\{\})"
    r"|(?:\A|/)logs/\Z|_catalog/|_inbox/|catalog_run_index/|state/orchestration|manifest\.pointer|\.lock\.json"
    r"|(?:tenant|workspace|metastore)=[^\s/]*/|(?:\A|/)(?:tenant|workspace|metastore)=\S*\Z"
    r"|(?:run|producer|attempt|bundle|shard|receipt_segment|seq)=\{\}[/.-]"
)
"""What only an object path has, wherever it stands in a string. A message may name the log in passing."""

NAMESPACES = re.compile(
    r"(?:\A|[\s'\"`(]|(?<=\{\})/|(?:\A|[\s'\"`(])/(?=tables/))"
    r"(?:delta/(?:coordinator|staging|idempotency|tables|roots|names|\{\}|\Z)|ledger/|locks/|tables/|uc/delta_preview"
    r"|receipts/|canary/|events/(?!s\b)|manifests/|orchestration/|run_keys/|logs/[^/]+/|outputs/|transactions/|commits/|sequence/|quarantine/"
    r"|snapshots/|state/|effects/)"
)
"""The namespaces of the layout, where a relative path begins; a web route has them after other segments."""

CONTENT_TYPE = re.compile(r"(?:application|image|text)/[a-z0-9.+-]+(?:;.*)?")
URL = re.compile(r"https?://|\{\}/api/|/api/|/internal/")


@dataclass(frozen=True)
class Spelled:
    """A string that spells an object path; holes of f-strings and sums are shown as `{}`."""

    where: str
    text: str


def rendered(node: ast.AST) -> str | None:
    """Return the text that an expression makes, with `{}` for what is not known; None if it makes no text."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Constant(value=bytes(data)):
            return data.decode("latin-1")
        case ast.JoinedStr(values=values):
            return "".join(rendered(value) or HOLE for value in values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _joined("", [left, right])
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return _joined("/", [left, right])
        case ast.BinOp(left=left, op=ast.Mod()):
            template = rendered(left)
            return None if template is None else re.sub(r"%[0-9]*[a-z]", HOLE, template)
        case ast.Call(func=ast.Attribute(value=base, attr="format")):
            template = rendered(base)
            return None if template is None else re.sub(r"\{[^}]*\}", HOLE, template)
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(glue)), attr="join"), args=[parts]) if isinstance(
            parts, ast.List | ast.Tuple
        ):
            return _joined(glue, parts.elts)
        case _:
            return None


def _joined(glue: str, parts: list[ast.expr]) -> str | None:
    texts = [rendered(part) for part in parts]
    return None if all(text is None for text in texts) else glue.join(HOLE if text is None else text for text in texts)


def spells_a_path(text: str) -> bool:
    """Say whether a rendered string spells an object path."""
    if URL.match(text) or CONTENT_TYPE.fullmatch(text):
        return False
    return bool(UNMISTAKABLE.search(text) or NAMESPACES.search(text))


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and rendered text of every outermost string expression, without strings that are statements."""
    if isinstance(tree, ast.Expr) and isinstance(tree.value, ast.Constant):
        return
    text = rendered(tree)
    if text is not None:
        yield getattr(tree, "lineno", 0), text
    for child in ast.iter_child_nodes(tree):
        if text is None or not isinstance(child, ast.Constant):
            yield from texts(child)


def scan(source: str, name: str) -> list[Spelled]:
    """Return every string of a module that spells an object path."""
    tree = ast.parse(source)
    if name == WORKFLOW_IDS:
        tree.body = [
            node for node in tree.body if not (isinstance(node, ast.FunctionDef) and node.name.endswith("_workflow_id"))
        ]
    return [Spelled(f"{name}:{line}", text) for line, text in texts(tree) if spells_a_path(text)]


def product_modules() -> list[Path]:
    found: list[Path] = []
    for name in SCANNED:
        path = ROOT / name
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path] if path.exists() else []
    return [path for path in found if not path.relative_to(ROOT).as_posix().startswith(OWNER)]


def test_no_module_spells_an_object_path() -> None:
    modules = product_modules()
    assert len(modules) > 30
    found = [spelled for module in modules for spelled in scan(module.read_text(), module.relative_to(ROOT).as_posix())]
    assert not found, "make these with a function of springline.paths:\n" + "\n".join(map(str, found))


def test_the_owner_is_not_scanned_and_would_be_caught() -> None:
    owner = sorted((ROOT / "springline" / "paths").glob("*.py"))
    assert owner
    assert not set(owner) & set(product_modules())
    caught = {path.stem for path in owner if scan(path.read_text(), path.name)}
    assert caught >= {"api", "catalog", "iceberg", "ledger", "orchestration", "transactions"}


@pytest.mark.parametrize("path", [made for made, _ in SPELLED if not made.startswith("a/b/") or "_delta_log" in made])
@pytest.mark.parametrize("full", [False, True], ids=["relative", "full"])
def test_guard_knows_every_path_of_the_layout(path: str, full: bool) -> None:
    """All but those of data files, whose names and folders are the table's own."""
    assert spells_a_path(f"tenant=acme/workspace=prod/{path}" if full else path)


@pytest.mark.parametrize(
    "planted",
    [
        'x = "delta/coordinator/"',
        'x = f"delta/coordinator/{table}.json"',
        'x = f"delta/{kind}/{table}.json"',
        'x = "delta/" + kind',
        'x = f"{prefix}/delta/staging/{table}/"',
        'x = f"{root}/_delta_log/{version:020}.json"',
        'x = root + "/_delta_log/" + name',
        'x = Path(root) / "_delta_log"',
        'x = Path(root) / "delta" / "tables"',
        'x = "/".join(["delta", "tables", table])',
        'x = "/".join((root, "_delta_log"))',
        'x = "%s/_delta_log/%020d.json" % (root, version)',
        'x = "delta/staging/{0}/{1}.json".format(table, name)',
        'x = path.endswith("_last_checkpoint")',
        'x = f"{version:020}.checkpoint.parquet"',
        'x = f"tenant={tenant}/workspace={workspace}"',
        'x = "tenant=" + tenant',
        'x = f"{base}/workspace={workspace}"',
        'x = b"state/orchestration/manifest.json"',
        'x = f"state/orchestration/rounds/{n:020}.json"',
        'x = f"ledger/orchestration/{day}/{event}.json"',
        'x = f"ledger/{domain}/{event}.json"',
        'x = "locks/root.lock.json"',
        'x = f"_catalog/iceberg_pointers/{table}.json"',
        'x = f"tables/{table}"',
        'x = f"/tables/{tenant}/{workspace}/{table}"',
        'x = f"events/{event}.json"',
        'x = "events/start"',
        'x = f"run_keys/{digest}.json"',
        'x = f"logs/{run}/{task}/attempt-{n}.log"',
        'def f():\n    """Docstring."""\n    return "delta/tables/"',
        'raise ValueError(f"expected delta/staging/{table}/")',
        'match path:\n    case "delta/tables/x":\n        y = 1',
        'x = {"delta/roots/": 1}',
        'def f(prefix="delta/names/"): ...',
    ],
)
def test_guard_catches_a_planted_path(planted: str) -> None:
    assert scan(f"import os\n{planted}\n", "planted.py"), planted


@pytest.mark.parametrize(
    "harmless",
    [
        '"""Module that writes delta/coordinator/{table_id}.json."""',
        'def f():\n    """Return `state/orchestration/rounds/`."""',
        'class C:\n    x: int\n    """Lies under ledger/orchestration/."""',
        'router.get("/api/v1/delta/tables/{table}/commits")',
        'router.get("/delta/tables/{table}")',
        'url = f"{base}/api/v1/delta/tables/{table}"',
        'url = "http://127.0.0.1:8080/api/v1/delta/tables/"',
        'media = "application/vnd.delta/json"',
        'media = "application/json; charset=utf-8"',
        "x = paths.delta_log(root, 7)",
        'workflow_id = f"commit/{tenant}/{workspace}/{table}"',
        'log.info("tenant=%s workspace=%s table=%s", tenant, workspace, table)',
        'x = "it has neither version 0 nor a _last_checkpoint"',
        'x = "delta.checkpoint.writeStatsAsJson"',
        'x = "delta"',
        'x = f"{rate:,} events/s over {seconds} s"',
        "x = total / count",
    ],
)
def test_guard_lets_other_strings_be(harmless: str) -> None:
    assert scan(harmless + "\n", "harmless.py") == []


def test_guard_lets_only_the_names_of_workflows_look_like_paths() -> None:
    workflow_id = 'def ledger_workflow_id(tenant):\n    return f"ledger/{tenant}"\n'
    other = 'def event(tenant):\n    return f"ledger/{tenant}"\n'
    assert scan(workflow_id, WORKFLOW_IDS) == []
    assert scan(other, WORKFLOW_IDS)
    assert scan(workflow_id, "springline/planted.py")


def test_paths_are_pure_and_light() -> None:
    """Workflow code imports the module, so it must bring no library along, and no clock or randomness of its own."""
    for module in (ROOT / "springline" / "paths").glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert not {name.split(".")[0] for name in names} & {"os", "pathlib", "time", "random", "secrets", "io"}
    program = (
        "import sys; before = set(sys.modules); import springline.paths;"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    brought = set(answer.stdout.split()) - set(sys.stdlib_module_names)
    assert brought == {"springline"}
