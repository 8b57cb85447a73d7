"""How Sphinx builds the documentation site: ``make docs``. The pages are the Markdown files here."""

from __future__ import annotations

import enum
import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.search import languages
from sphinx.search.en import SearchEnglish
from sphinx.util import inspect

import linkbox
from linkbox import aio
from linkbox.operations.unsupported import Unsupported

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.ext.autodoc import Options

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCE = PROJECT["urls"]["Source"]

project = "linkbox"
author = "the authors of linkbox"
release = version = PROJECT["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "sphinxcontrib.mermaid"]
exclude_patterns = ["make_*.py"]
suppress_warnings = ["ref.python"]  # `type` in an annotation is not the attribute of that name
default_role = "py:obj"  # `Receipt` in a docstring is a link

myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_inherit_docstrings = True
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": True, "undoc-members": False}
python_maximum_signature_line_length = 90
python_use_unqualified_type_names = True
add_module_names = False

html_theme = "furo"
html_title = f"linkbox {release}"
html_static_path: list[str] = []
html_theme_options = {"source_repository": SOURCE, "source_branch": "main", "source_directory": "docs/"}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

linkcheck_ignore = [re.escape(each) for each in PROJECT["urls"].values()] if "OWNER" in SOURCE else []
linkcheck_ignore += [re.escape(SOURCE)] if "OWNER" in SOURCE else []
linkcheck_timeout = 20
linkcheck_retries = 2


class SearchBoth(SearchEnglish):
    """Chinese has no spaces between words: any two to four characters in a row can be searched for."""

    def split(self, input: str) -> list[str]:
        found = set(super().split(input))
        for run in re.findall(r"[\u4e00-\u9fff]{2,}", input):
            found.update(run[at : at + size] for size in (2, 3, 4) for at in range(len(run) - size + 1))
        return sorted(found)


def in_its_language(
    app: Sphinx, page: str, template: str, context: dict[str, object], doctree: object
) -> None:
    """Browsers choose the font for Chinese by the language of the page."""
    if page.startswith("zh/"):
        context["language"] = "zh-CN"


def link_into_the_repository(app: Sphinx, page: str, text: list[str]) -> None:
    """Links to files outside this folder lead into the repository."""

    def target(found: re.Match[str]) -> str:
        file = os.path.normpath((ROOT / "docs" / page).parent / found[1])
        if Path(file).is_relative_to(ROOT / "docs"):
            return found[0]
        kind = "tree" if found[1].endswith("/") else "blob"
        return f"]({SOURCE}/{kind}/main/{Path(file).relative_to(ROOT).as_posix()})"

    text[0] = re.sub(r"\]\(((?:\.\./)+[^)]+)\)", target, text[0])


# Not for users, though their names have no underscore.
HIDDEN = {"encode_many", "check", "check_limit", "tokens", "unescaped", "of_server", "is_pair", "decoder"}
# Handed out, or the base of others: nobody calls these.
NOT_MADE = set(
    """Message Request LinkView Peer PeerInfo Event Receipt Statistics PeerStatistics Percentiles
    Format Framing Server Client""".split()
)


def is_hidden(app: Sphinx, kind: str, name: str, member: object, skip: bool, options: Options) -> bool | None:
    """True for what is not for users; None: as autodoc decides."""
    is_for_framings_of_users = name == "decoder" and member is vars(linkbox.Framing)["decoder"]
    if isinstance(member, Unsupported) or (name in HIDDEN and not is_for_framings_of_users):
        return True
    return None


def as_users_call_it(
    app: Sphinx, kind: str, name: str, cls: object, options: Options, signature: str | None, result: str
) -> tuple[str, str] | None:
    """The parameters of a constructor; none for a class that nobody makes."""
    if kind not in ("class", "exception") or not isinstance(cls, type) or not signature:
        return None
    if cls.__name__ in NOT_MADE or issubclass(cls, (Exception, enum.Enum)):
        return "", ""
    if "__init__" in vars(cls) and issubclass(cls, (linkbox.Server, linkbox.Client, aio.Server, aio.Client)):
        constructor = inspect.signature(vars(cls)["__init__"], bound_method=True)
        return inspect.stringify_signature(
            constructor, show_return_annotation=False, unqualified_typehints=True
        ), ""
    return None


def with_what_is_missing(
    app: Sphinx, kind: str, name: str, cls: object, options: Options, lines: list[str]
) -> None:
    """Add the names that a class does not have although its base does."""
    missing = (
        [each for each, member in vars(cls).items() if isinstance(member, Unsupported)]
        if kind == "class"
        else []
    )
    if missing:
        lines += [
            "",
            f"Without: {', '.join(f'``{each}``' for each in missing)}. There ``hasattr`` is False.",
            "",
        ]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    languages["en"] = SearchBoth
    app.connect("html-page-context", in_its_language)
    app.connect("source-read", link_into_the_repository)
    app.connect("autodoc-skip-member", is_hidden)
    app.connect("autodoc-process-signature", as_users_call_it)
    app.connect("autodoc-process-docstring", with_what_is_missing)
