"""Every example is a script that runs by itself and ends well."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
NEEDS = {
    "aio_in_fastapi.py": ("fastapi", "httpx"),
    "aio_in_starlette.py": ("starlette", "httpx"),
    "aio_from_trio.py": ("trio", "anyio"),
    "tls_lab.py": ("typer", "cryptography"),
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_example_runs(example: Path, run_script: Callable[[Path], None]) -> None:
    for package in NEEDS.get(example.name, ()):
        pytest.importorskip(package)
    run_script(example)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_runs(notebook: Path) -> None:
    """Cell after cell in one loop, with await at the top, as a notebook does it."""
    cells = [each for each in json.loads(notebook.read_text())["cells"] if each["cell_type"] == "code"]
    names: dict[str, object] = {}

    async def run() -> None:
        for number, cell in enumerate(cells, 1):
            source, title = "".join(cell["source"]), f"{notebook.name}, cell {number}"
            code = compile(source, title, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            result = eval(code, names)
            if inspect.isawaitable(result):
                await result

    asyncio.run(run())
    assert names["points"] == [{"t": t, "y": t * t} for t in range(10)]
