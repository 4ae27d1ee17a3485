"""Whoever follows a citation, a link or a name of the documentation finds what it points to.

Code cites `docs/FILE.md#anchor`. An anchor is an explicit `<a id="...">`, or made of a heading as GitHub does.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = ("springline", "workflows", "activities", "entrypoints", "tests", "bench", "ops")
PAGES = [
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "runbooks").glob("*.md"))
    if path.name != "CLAUDE.md"
]
SOURCES = sorted([ROOT / "worker.py", *(file for folder in CODE for file in (ROOT / folder).rglob("*.py"))])

CITATION = re.compile(r"(?<![\w/.])docs/[\w./-]+\.md(?:#[\w-]+)?")
LINK = re.compile(r"\]\(([^()\s]+)\)")
NAME = re.compile(r"`([\w./-]+\.py)::([\w.]+)`")
FILE = re.compile(r"`([\w./-]+/[\w./-]*)`")

# How documents outside of the repository were cited: sections by number, and numbered rules without their page.
ELSEWHERE = re.compile(
    r"(?<![\w.#/`])(?:(?:design|specs?\s+[ES]|[SE])\s+(?:\d|appendix)|E\s+W\d+)"
    r"|\(W\d+\)|\bG-\d+|\binvariant\s+I\d|\(rules?\s+\d|`operations`"
    r"|\b(?:design|facts|temporal)\.md\b|\bissue\s+#?\d|\bADR-\d"
)


@cache
def anchors_of(page: Path) -> frozenset[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = [heading_anchor(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]
    return frozenset([*explicit_anchors(text), *headings])


def explicit_anchors(text: str) -> list[str]:
    return re.findall(r'<a id="([\w-]+)"></a>', text)


def heading_anchor(heading: str) -> str:
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", plain.lower()).strip().replace(" ", "-")


def resolves(page: Path, anchor: str) -> bool:
    return page.is_file() and (not anchor or page.suffix != ".md" or anchor in anchors_of(page))


@cache
def told(file: Path) -> tuple[str, ...]:
    """Return what a Python file says to its readers: comments, docstrings, and strings that stand by themselves."""
    return tuple(_told(file.read_text()))


def _told(source: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value


def shown(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def test_citations_in_code_resolve() -> None:
    broken = [
        f"{shown(file)}: {cited}"
        for file in SOURCES
        for text in told(file)
        for cited in CITATION.findall(text)
        if file != Path(__file__) and not resolves(ROOT / cited.partition("#")[0], cited.partition("#")[2])
    ]
    assert broken == []


def test_nothing_cites_a_document_that_is_not_here() -> None:
    code = [
        f"{shown(file)}: {found.group()!r}"
        for file in SOURCES
        if file != Path(__file__)
        for text in told(file)
        for found in ELSEWHERE.finditer(text)
    ]
    pages = [f"{shown(page)}: {found.group()!r}" for page in PAGES for found in ELSEWHERE.finditer(page.read_text())]
    assert code + pages == []


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_links_of_pages_resolve(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for link in LINK.findall(text):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = page if not path else (page.parent / path).resolve()
        if not (resolves(target, anchor) or (not anchor and target.is_dir())):
            broken.append(link)
    cited = [one for one in CITATION.findall(text) if not resolves(ROOT / one.partition("#")[0], one.partition("#")[2])]
    assert broken + cited == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name == "docs"], ids=shown)
def test_files_and_functions_that_the_documentation_names_exist(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()}
    files = [path for path in FILE.findall(text) if path.split("/")[0] in folders]
    assert [path for path in files if not (ROOT / path).exists()] == []
    assert [f"{file}::{name}" for file, name in NAME.findall(text) if not defines(ROOT / file, name)] == []


def test_the_architecture_names_functions() -> None:
    assert len(NAME.findall((ROOT / "docs/architecture.md").read_text())) > 60


def defines(file: Path, name: str) -> bool:
    """Say whether a file defines a function, class or constant, or a class a method (`Class.method`)."""
    if not file.is_file():
        return False
    body: list[ast.stmt] = ast.parse(file.read_text()).body
    for part in name.split("."):
        found = next((node for node in body if part in names_of(node)), None)
        if found is None:
            return False
        body = getattr(found, "body", [])
    return True


def names_of(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name == "docs"], ids=shown)
def test_an_anchor_means_one_place(page: Path) -> None:
    assert [anchor for anchor, count in Counter(explicit_anchors(page.read_text())).items() if count > 1] == []


def test_the_reference_system_is_named_once() -> None:
    named = {shown(page): len(re.findall(r"\barco\b", page.read_text(), re.IGNORECASE)) for page in PAGES}
    assert {page: count for page, count in named.items() if count} == {"docs/events.md": 1}


def test_the_glossary_has_each_word_once_and_in_order() -> None:
    words = re.findall(r"^\| ([^|]+?) \|", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)[1:]
    assert words == sorted(set(words), key=str.lower)


@pytest.mark.parametrize(
    "text",
    [
        "(design 3.2)", "those of design 4", "(S 1.8, RFC 9562)", "(E 4.12)", "(E W13)", "(W37)", "(rule 6)",
        "(rules 2 and 4)", "(invariant I7)", "(G-28)", "as issue 3 says", "(specs E 3-5)", "E appendix A",
    ],
)  # fmt: skip
def test_old_citations_are_recognised(text: str) -> None:
    assert ELSEWHERE.search(text)


@pytest.mark.parametrize(
    "text",
    [
        "(docs/protocol.md#rule-6)", "the design of it", "64 KiB", "16 S3 objects", "rules 2, 3 and 4", "W 3", "I1-I8",
        "version 4", "RFC 9562, 5.7", "noqa: E501", "issue of it",
    ],
)  # fmt: skip
def test_other_words_are_none(text: str) -> None:
    assert ELSEWHERE.search(text) is None
