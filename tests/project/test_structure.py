"""The shape of the inside: no import cycle, no untyped edge, nothing that has grown too big.

The rules are those of docs/architecture.md. Who may import whom is in test_layering.py.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

MOST_ATTRIBUTES = 20
MOST_METHODS = 30
LONGEST_FILE = 500
LONGEST_FUNCTION = 50

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules(source: Path) -> dict[str, ast.Module]:
    """Every module below ``source`` by its dotted name; a package by its own."""
    found = {}
    for file in sorted(source.rglob("*.py")):
        parts = file.relative_to(source).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(file.read_text(encoding="utf-8"), str(file))
    return found


def imported(tree: ast.Module, known: set[str]) -> set[str]:
    """The modules of the project that one imports when it is loaded, or under ``if TYPE_CHECKING:``.

    An import inside a function is none: it is how a module that costs much is loaded only when it is needed.
    """
    found: set[str] = set()
    for node in _outside_functions(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else str(node.module) for name in names]
        else:
            continue
        found |= {name for name in names if name in known}
    return found


def _outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, Function):
            yield node
            yield from _outside_functions(node)


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Modules that import each other, directly or through others."""
    reachable: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for target in graph[todo.pop()] - seen:
                seen.add(target)
                todo.append(target)
        reachable[start] = seen
    knots = {
        tuple(sorted({name, *(other for other in reachable[name] if name in reachable[other])}))
        for name in graph
        if name in reachable[name]
    }
    return sorted(map(list, knots))


def import_cycles(source: Path) -> list[list[str]]:
    trees = modules(source)
    return cycles({name: imported(tree, set(trees)) for name, tree in trees.items()})


def attributes(node: ast.ClassDef) -> set[str]:
    """The attributes that a class itself declares or sets on ``self``."""
    names: set[str] = set()
    for inner in node.body:
        if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
            names.add(inner.target.id)
    for function in (inner for inner in node.body if isinstance(inner, Function)):
        if not function.args.args:
            continue
        first = function.args.args[0].arg
        for inner in ast.walk(function):
            if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                names |= {inner.attr} if ast.unparse(inner.value) == first else set()
    return names


def is_record(node: ast.ClassDef) -> bool:
    """A dataclass or a msgspec.Struct: a list of named values without behaviour, which may be long."""
    bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
    return "Struct" in bases or any("dataclass" in ast.unparse(each) for each in node.decorator_list)


def methods(node: ast.ClassDef) -> set[str]:
    return {inner.name for inner in node.body if isinstance(inner, Function)}


def too_big(source: Path) -> list[str]:
    found = []
    for file in sorted(source.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        length = len(text.splitlines())
        if length > LONGEST_FILE:
            found.append(f"{file}: {length} lines, more than {LONGEST_FILE}")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, Function):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > LONGEST_FUNCTION:
                    found.append(f"{file}:{node.lineno}: {node.name} has {length} lines")
            elif isinstance(node, ast.ClassDef):
                count = len(attributes(node))
                if count > MOST_ATTRIBUTES and not is_record(node):
                    found.append(f"{file}:{node.lineno}: {node.name} has {count} attributes")
                if len(found_methods := methods(node)) > MOST_METHODS:
                    found.append(f"{file}:{node.lineno}: {node.name} has {len(found_methods)} methods")
    return found


def test_no_module_imports_itself_through_others(root: Path) -> None:
    assert import_cycles(root / "src") == []


def test_nothing_is_too_big(root: Path) -> None:
    assert too_big(root / "src/linkbox") == []


def test_no_edge_of_the_core_is_untyped(root: Path, tmp_path: Path) -> None:
    """One alias stands for the values of users; everything else in the core has a type."""
    command = [sys.executable, "-m", "mypy", "--disallow-any-explicit", "--cache-dir", str(tmp_path)]
    done = subprocess.run(
        [*command, "src/linkbox/core"], cwd=root, capture_output=True, text=True, check=False, timeout=55
    )
    lines = [line for line in done.stdout.splitlines() if "[explicit-any]" in line]
    assert [line.split(":")[0] for line in lines] == ["src/linkbox/core/values.py"], done.stdout


def test_a_cycle_is_seen(tmp_path: Path) -> None:
    for name, code in {
        "a": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pack import b",
        "b": "import pack.c",
        "c": "from pack.a import x",
        "d": "from pack.a import x\ndef late():\n    from pack.d import y",
    }.items():
        (tmp_path / "pack").mkdir(exist_ok=True)
        (tmp_path / "pack" / f"{name}.py").write_text(code)
    assert import_cycles(tmp_path) == [["pack.a", "pack.b", "pack.c"]]


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("x = 1\n" * (LONGEST_FILE + 1), f"{LONGEST_FILE + 1} lines"),
        ("def f():\n" + "    x = 1\n" * LONGEST_FUNCTION, f"f has {LONGEST_FUNCTION + 1} lines"),
        (
            "class C:\n    def f(me):\n" + "".join(f"        me.x{n} = {n}\n" for n in range(21)),
            "C has 21 attributes",
        ),
        ("class C:\n" + "".join(f"    def f{n}(self): ...\n" for n in range(31)), "C has 31 methods"),
    ],
)
def test_what_is_too_big_is_seen(tmp_path: Path, code: str, why: str) -> None:
    (tmp_path / "big.py").write_text(code)
    (found,) = too_big(tmp_path)
    assert why in found
