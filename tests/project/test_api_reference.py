"""The reference shows everything that is public, each once, and all of it has docstrings."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

import linkbox
from linkbox import aio, testing, tls
from linkbox.operations.unsupported import Unsupported

DOCS = Path(__file__).parents[2] / "docs"
MODULES = [linkbox, aio, testing, tls]
NOT_CLASSES = {"__version__", "compiled"}  # on docs/api.md itself


def shown() -> list[str]:
    """The names for which the pages of the reference have a directive."""
    pages = [page.read_text(encoding="utf-8") for page in sorted((DOCS / "reference").glob("*.md"))]
    return re.findall(r"^\.\. auto(?:class|exception|function):: (\S+)$", "\n".join(pages), re.MULTILINE)


def test_every_public_name_has_its_place() -> None:
    public = [
        f"{each.__name__}.{name}" for each in MODULES for name in each.__all__ if name not in NOT_CLASSES
    ]
    assert sorted(shown()) == sorted(public)


def test_every_page_is_in_the_table_of_contents() -> None:
    contents = (DOCS / "index.md").read_text(encoding="utf-8")
    pages = [page.relative_to(DOCS).with_suffix("").as_posix() for page in DOCS.rglob("*.md")]
    assert [page for page in pages if page != "index" and f"\n{page}\n" not in contents] == []


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_everything_public_has_a_docstring(module: ModuleType) -> None:
    silent = []
    for name in set(module.__all__) - NOT_CLASSES:
        made = getattr(module, name)
        silent += [name] if not inspect.getdoc(made) else []
        for attribute in dir(made) if inspect.isclass(made) else []:
            member = inspect.getattr_static(made, attribute)
            is_ours = (
                isinstance(member, (property, classmethod, staticmethod)) or inspect.isfunction(member)
            ) and not isinstance(member, Unsupported)
            if is_ours and not attribute.startswith("_") and not inspect.getdoc(getattr(made, attribute)):
                silent.append(f"{name}.{attribute}")
    assert silent == []


def test_limits_page_says_the_defaults() -> None:
    """Each row of docs/limits.md: | `name` | value | … |, the value as Python would read it."""
    rows = {}
    for line in (DOCS / "limits.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 3 and cells[1].startswith("`"):
            rows[cells[1].strip("`")] = cells[2].replace(",", "").removesuffix(" s")
    scale = {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "days": 86_400}
    values = {name: float(text.split()[0]) * scale.get(text.split()[-1], 1) for name, text in rows.items()}
    defaults = linkbox.Limits()
    assert values == {name: getattr(defaults, name) for name in linkbox.Limits.__struct_fields__}
