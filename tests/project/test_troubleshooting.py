"""docs/troubleshooting.md quotes errors and log lines: each quoted text still occurs in the sources."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from linkbox.extras import how_to_install

ROW = re.compile(r"^\| (?P<texts>`.*?) \|", re.MULTILINE)
QUOTED = re.compile(r"`([^`]+)`")
DIFFERS = "…"


def quoted(page: str) -> list[str]:
    """The texts in the first column of the tables."""
    return [text for row in ROW.finditer(page) for text in QUOTED.findall(row["texts"])]


def texts_of(source: str) -> Iterator[str]:
    """All strings of a module; what an f-string inserts is one character that ends a match.

    Except the hints at packages: they are the same for all users.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield "".join(map(inserted, node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def inserted(part: ast.expr) -> str:
    match part:
        case ast.Constant(str(text)):
            return text
        case ast.FormattedValue(ast.Call(ast.Name("how_to_install"), [ast.Constant(str(extra))])):
            return how_to_install(extra)
    return "\0"


def occurs(text: str, source: str) -> bool:
    """Are the pieces between the dots in this text, in order?"""
    at = 0
    for piece in text.split(DIFFERS):
        at = source.find(piece.strip(), at)
        if at < 0:
            return False
        at += len(piece.strip())
    return True


@pytest.fixture(scope="module")
def texts(root: Path) -> list[str]:
    modules = sorted((root / "src").rglob("*.py"))
    return [text for module in modules for text in texts_of(module.read_text(encoding="utf-8"))]


def test_each_quoted_text_is_in_the_sources(root: Path, texts: list[str]) -> None:
    page = (root / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) == len(ROW.findall(page)) > 50
    missing = [text for text in quoted(page) if not any(occurs(text, each) for each in texts)]
    assert missing == []


def test_translations_quote_the_same_texts(root: Path) -> None:
    original, *translations = [
        set(quoted(page.read_text(encoding="utf-8")))
        for page in (root / "docs" / "troubleshooting.md", *root.glob("docs/*/troubleshooting.md"))
    ]
    assert [texts - original for texts in translations] == [set() for _ in translations]


def test_a_text_that_is_gone_is_seen() -> None:
    source = 'raise X(f"no room in {window} within {time:g} s: " "wait")'
    (whole, *_) = [text for text in texts_of(source) if "room" in text]
    assert occurs("no room in … within … s: wait", whole)
    assert not occurs("no room in the window", whole)
    assert not occurs("within … no room", whole)
