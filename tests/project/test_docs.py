"""What the documentation shows works: its Python runs, its links lead somewhere.

Every fenced ``python`` block is a script of its own. One that cannot run here has
``<!-- no-run: the reason -->`` on the line before, and is only compiled.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
CHINESE_PAGES = [page for place in ("*.zh-CN.md", "docs/zh/*.md") for page in sorted(ROOT.glob(place))]
DOCUMENTED = [page for place in ("README*.md", "docs/**/*.md") for page in sorted(ROOT.glob(place))]
# The code of a Chinese page is that of the English page: test_chinese.py.
SCRIPTED = [page for page in DOCUMENTED if page not in CHINESE_PAGES]
PAGES = [page for place in ("*.md", "docs/**/*.md", "examples/**/*.md") for page in sorted(ROOT.glob(place))]

FENCE = re.compile(
    r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>[\w+-]*)[^\n`]*\n(?P<code>.*?)^(?P=indent)(?P=ticks)`* *$",
    re.MULTILINE | re.DOTALL,
)
NO_RUN = re.compile(r"<!-- no-run: \S.* -->$")
LINK = re.compile(r"\]\(<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]: *(\S+)|(?:src|href)=\"([^\"]+)\"", re.MULTILINE)


class Block(NamedTuple):
    language: str
    code: str
    line: int  # of its first line of code
    run: bool


def blocks(text: str) -> list[Block]:
    found = []
    for match in FENCE.finditer(text):
        before = text[: match.start()].rstrip("\n").rpartition("\n")[2].strip()
        line = text.count("\n", 0, match.start()) + 2
        code = textwrap.dedent(match["code"])
        found.append(Block(match["language"], code, line, not NO_RUN.fullmatch(before)))
    return found


def broken_links(page: Path) -> list[str]:
    """Relative links of a page that lead to no file."""
    prose = re.sub(r"`[^`\n]+`", "", FENCE.sub("", page.read_text(encoding="utf-8")))
    targets = ["".join(groups) for groups in LINK.findall(prose)]
    relative = [target for target in targets if not re.match(r"[a-z][a-z0-9+.-]*:|#|//", target)]
    return [target for target in relative if not (page.parent / target.split("#")[0]).exists()]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def python_blocks() -> list[object]:
    return [
        pytest.param(page, block, id=f"{name(page)}:{block.line}")
        for page in SCRIPTED
        for block in blocks(page.read_text(encoding="utf-8"))
        if block.language in ("python", "py")
    ]


@pytest.mark.parametrize(("page", "block"), python_blocks())
def test_python_blocks_work(
    page: Path, block: Block, tmp_path: Path, run_script: Callable[[Path], None]
) -> None:
    # Blank lines in front: a traceback then names the line of the page.
    code = "\n" * (block.line - 1) + block.code
    compile(code, name(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    if block.run:
        script = tmp_path / "block.py"
        script.write_text(code, encoding="utf-8")
        run_script(script)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    assert not broken_links(page)


def test_blocks_are_found() -> None:
    page = """
```python
first()
```
<!-- no-run: needs a device -->
```python
second()
```

1. in a list
   ```python
   if True:
       third()
   ```

<!-- no-run: -->
```python title="x"
fourth()
```
````md
```python
quoted()
```
````
```bash
ls
```
"""
    found = blocks(page)
    assert [block.language for block in found] == ["python"] * 4 + ["md", "bash"]
    assert [block.run for block in found] == [True, False, True, True, True, True]
    assert found[0].code == "first()\n"
    assert found[0].line == 3
    assert found[2].code == "if True:\n    third()\n"


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "[here](page.md#top) [web](https://example.com) [top](#top)\n"
        "[gone](gone.md) ![gone](img/gone.svg 'title')\n"
        '<img src="gone.png"> `[code](is-no-link)`\n[ref]: gone.txt\n'
    )
    assert broken_links(page) == ["gone.md", "img/gone.svg", "gone.png", "gone.txt"]


@pytest.mark.parametrize(
    "code", ["raise SystemExit(3)", "import threading\nt = threading.Thread(target=lambda: 1 / 0)\nt.start()"]
)
def test_a_failing_script_is_seen(code: str, tmp_path: Path, run_script: Callable[[Path], None]) -> None:
    script = tmp_path / "bad.py"
    script.write_text(code)
    with pytest.raises(pytest.fail.Exception, match=r"bad\.py"):
        run_script(script)
