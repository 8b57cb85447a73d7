"""docs/architecture.md names what exists: every file, class, member and function; and every module once.

The notation is that of the page. Inline code is

- a file under src/linkbox, or of the repository (``core/session.py``, ``core/``);
- a class, or a member of it (``Session``, ``Session.send``);
- a function of a module (``write_units()``), or a constant of one (``MAXIMUM``).

In a row of a walk, what is named in the third cell is defined in the file of the second. Other inline code
(options, values, commands) begins with a small letter and is neither a file nor a call.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
FILE = re.compile(r"[\w/.]+(\.(py|md)|/)")
NAME = re.compile(r"[A-Z]\w*[a-z]\w*(\.\w+)?")
FUNCTION = re.compile(r"\w+\(\)")
CONSTANT = re.compile(r"_?[A-Z][A-Z_]+")
OF_USERS = {f"{name}()" for name in "start stop send ask data_get".split()}
"""Calls of users, which are methods of several classes."""
PUBLIC_ONLY = {"TYPE_CHECKING"}


class Found(NamedTuple):
    """What a file defines."""

    classes: dict[str, set[str]]
    bases: dict[str, list[str]]
    functions: set[str]
    constants: set[str]


def define(tree: ast.Module) -> Found:
    found = Found({}, {}, set(), set())
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.functions.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found.classes[node.name] = set(members(node))
            bases = (each.value if isinstance(each, ast.Subscript) else each for each in node.bases)
            found.bases[node.name] = [ast.unparse(each).split(".")[-1] for each in bases]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found.constants.update(each.id for each in targets if isinstance(each, ast.Name))
    return found


def members(cls: ast.ClassDef) -> Iterator[str]:
    """Methods, and what is assigned in the class or to ``self``."""
    for node in cls.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
            for inner in ast.walk(node):
                match inner:
                    case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                        yield name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (each.id for each in targets if isinstance(each, ast.Name))


class Source:
    """All that is defined below src/linkbox."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.package = root / "src/linkbox"
        self.files = {
            path.relative_to(self.package).as_posix(): define(ast.parse(path.read_text(encoding="utf-8")))
            for path in sorted(self.package.rglob("*.py"))
        }

    def has_file(self, name: str) -> bool:
        return (self.package / name).exists() or (self.root / name).exists()

    def has_name(self, name: str) -> bool:
        """A class, or a member of one, inherited ones included."""
        cls, _, member = name.partition(".")
        return any(
            cls in found.classes and (not member or self._has_member(cls, found, member))
            for found in self.files.values()
        )

    def _has_member(self, cls: str, found: Found, member: str) -> bool:
        if member in found.classes[cls]:
            return True
        return any(base != cls and self.has_name(f"{base}.{member}") for base in found.bases[cls])

    def has_function(self, name: str) -> bool:
        return any(name in found.functions for found in self.files.values())

    def has_constant(self, name: str) -> bool:
        return any(name in found.constants for found in self.files.values())

    def defines(self, file: str, name: str) -> bool:
        """Is this defined in that very file?"""
        found = self.files.get(file)
        if found is None:
            return False
        if name.endswith("()"):
            return name[:-2] in found.functions
        cls, _, member = name.partition(".")
        return cls in found.classes and (not member or member in found.classes[cls])


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []


def wrong_names(text: str, source: Source) -> list[str]:
    """What the page names and the source does not have."""
    found = []
    for number, line in enumerate(FENCE.sub(lambda fence: "\n" * fence[0].count("\n"), text).splitlines(), 1):
        for span in SPAN.findall(line):
            if FILE.fullmatch(span):
                good = source.has_file(span)
            elif NAME.fullmatch(span):
                good = source.has_name(span)
            elif FUNCTION.fullmatch(span):
                good = span in OF_USERS or source.has_function(span[:-2])
            elif CONSTANT.fullmatch(span) and span not in PUBLIC_ONLY:
                good = source.has_constant(span)
            else:
                good = span[0].islower() or span.startswith("--") or span in PUBLIC_ONLY
            if not good:
                found.append(f"line {number}: there is no {span}")
        row = cells(line)
        if len(row) == 4 and FILE.fullmatch(row[1].strip("`")):
            file = row[1].strip("`")
            names = SPAN.findall(row[2])
            if not names:
                found.append(f"line {number}: no function of {file} is named")
            found += [
                f"line {number}: {name} is not defined in {file}"
                for name in names
                if not source.defines(file, name)
            ]
    return found


def listed(text: str) -> list[str]:
    """The files in the lists of the page."""
    rows = (cells(line) for line in text.partition("\n## The files\n")[2].splitlines())
    return [row[0].strip("`") for row in rows if len(row) == 2 and row[0].endswith(".py`")]


def modules(source: Source) -> list[str]:
    """Every module but the packages below the first."""
    return [name for name in source.files if name == "__init__.py" or not name.endswith("/__init__.py")]


@pytest.fixture(scope="module")
def source() -> Source:
    return Source(Path(__file__).parents[2])


@pytest.fixture(scope="module")
def page(source: Source) -> str:
    return (source.root / "docs/architecture.md").read_text(encoding="utf-8")


def test_what_the_page_names_exists(page: str, source: Source) -> None:
    assert wrong_names(page, source) == []


def test_every_module_is_listed_once(page: str, source: Source) -> None:
    assert sorted(listed(page)) == sorted(modules(source))


def test_there_are_four_walks(page: str) -> None:
    """Each walk has its steps, numbered without a gap."""
    walks = re.split(
        r"^### ", page.partition("\n## Four walks\n")[2].partition("\n## ")[0], flags=re.MULTILINE
    )
    steps = [
        [row[0] for line in walk.splitlines() if (row := cells(line)) and row[0].isdigit()]
        for walk in walks[1:]
    ]
    assert len(steps) == 4
    assert all(len(each) > 10 and each == [str(n) for n in range(1, len(each) + 1)] for each in steps)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("`core/nothing.py`", "there is no core/nothing.py"),
        ("`core/nothing/`", "there is no core/nothing/"),
        ("`Nowhere`", "there is no Nowhere"),
        ("`Session.nothing`", "there is no Session.nothing"),
        ("`nothing()`", "there is no nothing()"),
        ("`_NOTHING_AT_ALL`", "there is no _NOTHING_AT_ALL"),
        ("`Session.send()`", "there is no Session.send()"),
        ("| 1 | `core/link.py` | `Session.send` | x |", "Session.send is not defined in core/link.py"),
        ("| 1 | `core/link.py` | `LinkedLink.open` | x |", "LinkedLink.open is not defined in core/link.py"),
        ("| 1 | `core/ending.py` | `write_units()` | x |", "write_units() is not defined in core/ending.py"),
        ("| 1 | `core/ending.py` | x | x |", "no function of core/ending.py is named"),
    ],
)
def test_a_wrong_name_is_seen(text: str, why: str, source: Source) -> None:
    assert wrong_names(f"x\n\n{text}\n", source) == [f"line 3: {why}"]


@pytest.mark.parametrize(
    "text",
    [
        "`core/session.py` `core/` `docs/protocol.md` `Session.send` `LinkedLink.abort` `write_units()`",
        "`accept=` `now` `keep_alive` `make check` `MAXIMUM` `_ASK_FRAMES` `TYPE_CHECKING`",
        "| 1 | `core/frame_writer.py` | `write_units()` | x |",
        "```text\n`Nothing`\n```",
    ],
)
def test_a_right_name_passes(text: str, source: Source) -> None:
    assert wrong_names(text, source) == []


def test_a_missing_or_double_module_is_seen(source: Source) -> None:
    rows = [f"| `{name}` | x |" for name in modules(source)]
    head = "# x\n\n## The files\n\n"
    assert listed(head + "\n".join(rows)) == modules(source)
    assert sorted(listed(head + "\n".join(rows[1:]))) != sorted(modules(source))
    assert sorted(listed(head + "\n".join([*rows, rows[0]]))) != sorted(modules(source))
