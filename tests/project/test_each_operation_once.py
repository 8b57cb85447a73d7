"""Each operation is written once: little of `linkbox.aio` is in `linkbox.threaded` too."""

from __future__ import annotations

import ast
from pathlib import Path

MOST = 0.2
"""Of the lines of aio/, once ``async``, ``await``, docstrings and signatures are removed.

Imports and declarations of attributes, which repeat names and no operation, are not counted, nor are lines of
one or two words (``try:``, ``return self``)."""


class Bare(ast.NodeTransformer):
    """Removes what both front ends must say: signatures, docstrings, ``async`` and ``await``."""

    def visit_Await(self, node: ast.Await) -> ast.expr:
        self.generic_visit(node)
        return node.value

    def visit_AsyncFor(self, node: ast.AsyncFor) -> ast.For:
        self.generic_visit(node)
        return ast.For(node.target, node.iter, node.body, node.orelse, node.type_comment)

    def visit_AsyncWith(self, node: ast.AsyncWith) -> ast.With:
        self.generic_visit(node)
        return ast.With(node.items, node.body, node.type_comment)

    def visit_Import(self, node: ast.Import) -> None:
        return None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        return None

    def visit_If(self, node: ast.If) -> ast.If | None:
        self.generic_visit(node)
        return node if node.body else None  # else it was ``if TYPE_CHECKING:``

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        self.generic_visit(node)
        return None if isinstance(node.value, ast.Constant) else node  # a docstring, or the ``...`` of one


def bodies(tree: ast.AST, is_class: bool = False) -> list[ast.stmt]:
    """The statements of a module, without the lines that begin functions and classes, and declarations."""
    found: list[ast.stmt] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found += bodies(ast.Module(node.body, []), isinstance(node, ast.ClassDef))
        elif isinstance(node, ast.stmt) and not (isinstance(node, ast.AnnAssign) and is_class):
            found.append(node)
    return found


def lines_of(folder: Path) -> list[str]:
    """The lines of code of a package, as described."""
    lines: list[str] = []
    for file in sorted(folder.rglob("*.py")):
        tree = Bare().visit(ast.parse(file.read_text(encoding="utf-8")))
        for statement in bodies(tree):
            lines += [line.strip() for line in ast.unparse(ast.fix_missing_locations(statement)).splitlines()]
    return [
        line
        for line in lines
        if len(line.split()) > 2
        or not all(word.isidentifier() for word in line.rstrip(":").split(maxsplit=2))
    ]


def shared(source: Path) -> tuple[list[str], int]:
    """The lines of aio/ that are in threaded/ too, and how many lines aio/ has."""
    threaded, aio = set(lines_of(source / "threaded")), lines_of(source / "aio")
    return [line for line in aio if line in threaded], len(aio)


def test_little_of_aio_is_in_threaded_too(root: Path) -> None:
    found, all_lines = shared(root / "src/linkbox")
    share = len(found) / all_lines
    assert share < MOST, f"{len(found)} of {all_lines} lines ({share:.0%}):\n" + "\n".join(found)


def test_a_repeated_operation_is_seen(tmp_path: Path) -> None:
    for folder, code in {
        "threaded": 'def get(x):\n    """Get."""\n    with lock(x):\n        return take(x)\n',
        "aio": 'async def get():\n    """Get it."""\n    async with lock(x):\n        return await take(x)\n',
    }.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mailbox.py").write_text(code)
    assert shared(tmp_path) == (["with lock(x):", "return take(x)"], 2)
