"""docs/reliability.md names every test of tests/faults once, and none that is not there or in tests/tls."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from linkbox import Limits


def named(page: str) -> list[str]:
    """The tests that the table's rows end with."""
    return re.findall(r"\| `(test_\w+)` \|$", page, re.MULTILINE)


def rows(page: str) -> int:
    """Rows of the tables, without their heads."""
    return sum(line.startswith("| ") and not line.startswith("| fault |") for line in page.splitlines())


def written(folder: Path) -> list[str]:
    """The test functions in a folder."""
    return [
        node.name
        for file in sorted(folder.glob("test_*.py"))
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


def test_each_fault_has_a_row_and_each_row_a_test(root: Path) -> None:
    page = (root / "docs/reliability.md").read_text(encoding="utf-8")
    assert len(named(page)) == rows(page), "a row that does not end with a test"
    over_tls = [each for each in named(page) if each in written(root / "tests/tls")]
    assert len(over_tls) == len(set(over_tls))
    assert sorted(set(named(page)) - set(over_tls)) == sorted(written(root / "tests/faults"))
    assert len(named(page)) == len(set(named(page)))


def test_each_limit_is_met_by_some_fault(root: Path) -> None:
    code = "".join(file.read_text(encoding="utf-8") for file in (root / "tests/faults").glob("test_*.py"))
    assert [name for name in Limits.__struct_fields__ if not re.search(rf"\b{name}\b", code)] == []


def test_what_is_missing_is_seen(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text("def test_one(): ...\ndef other(): ...\n")
    assert written(tmp_path) == ["test_one"]
    head = "| fault | what happens | what you see | test |\n|---|---|---|---|\n"
    page = head + "| x | y | z | `test_two` |\n| w |\n"
    assert named(page) == ["test_two"] and rows(page) == 2
