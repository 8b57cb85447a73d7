"""docs/api.md is what docs/make_api.py makes of the docstrings now, and names everything that is public."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import linkbox

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_api", DOCS / "make_api.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(maker: ModuleType) -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    assert page == maker.page(), "stale: run `python docs/make_api.py`"


def test_every_public_name_has_its_place(maker: ModuleType) -> None:
    names = maker.documented()
    assert sorted(names) == sorted(set(linkbox.__all__) - {"__version__"})
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    assert [name for name in names if f"\n### `{name}`\n" not in page] == []


def test_everything_on_the_page_has_a_docstring() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8").splitlines()
    entries = [at for at, line in enumerate(page) if line.startswith("**`")]
    assert [page[at] for at in entries if not page[at + 2] or page[at + 2].startswith(("**`", "#"))] == []


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
    assert values == {name: getattr(defaults, name) for name in linkbox.Limits.__dataclass_fields__}
