"""Docstrings and comments of the package name only files that exist."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/linkbox"
FILE = re.compile(r"[\w/]+\.py\b")


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Each line of a comment or of a string in triple quotes, with its number."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        is_long = token.type == tokenize.STRING and token.string.endswith('"""')
        if is_long or token.type == tokenize.COMMENT:
            yield from enumerate(token.string.splitlines(), token.start[0])


def missing(source: str, existing: set[str]) -> list[str]:
    return [
        f"line {number}: there is no {name}"
        for number, line in texts(source)
        for name in FILE.findall(line)
        if name not in existing
    ]


@pytest.fixture(scope="module")
def existing() -> set[str]:
    """Every file of the package: its name, and its path from the package and from the repository."""
    paths = list(PACKAGE.rglob("*.py"))
    return {
        name
        for path in paths
        for name in (path.name, path.relative_to(PACKAGE).as_posix(), path.relative_to(ROOT).as_posix())
    }


def test_named_files_exist(existing: set[str]) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}, {each}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for each in missing(path.read_text(encoding="utf-8"), existing)
    ]
    assert wrong == []


def test_a_wrong_file_is_seen(existing: set[str]) -> None:
    source = '"""See link.py.\n\nAnd nothing.py.\n"""\nX = "no.py"  # core/none.py, core/link.py\n'
    assert missing(source, existing) == ["line 3: there is no nothing.py", "line 5: there is no core/none.py"]
