"""No file names the host of a package registry or a personal folder: the tree works on any machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

# Written so that no pattern matches its own text.
LOCAL_NAMES = re.compile(
    r"pypi\.(?:org|io|python\.org)|pythonhosted\.org|anaconda\.(?:org|com)|registry\.npmjs|static\.crates\.io"
    r"|proxy\.golang\.org|(?<![\w.~-])/(?:home|Users|root|work)/",
    re.IGNORECASE,
)
HIDDEN_BUT_OURS = {".ci", ".github", ".gitignore", ".gitattributes"}
GENERATED = {"__pycache__", "build", "dist", "htmlcov", "node_modules"}


def files(folder: Path) -> Iterator[Path]:
    """All files of the project, found without git."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name in GENERATED or (entry.name.startswith(".") and entry.name not in HIDDEN_BUT_OURS):
            continue
        path = Path(entry.path)
        if entry.is_file():
            yield path
        elif entry.is_dir() and not (path / "pyvenv.cfg").exists():
            yield from files(path)


def local_names(folder: Path) -> list[str]:
    return [
        f"{path}:{number}: {match.group()}"
        for path in files(folder)
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if (match := LOCAL_NAMES.search(line))
    ]


def test_no_file_names_a_registry_or_a_personal_folder(root: Path) -> None:
    assert not local_names(root)


@pytest.mark.parametrize(
    "line",
    [
        "pip install -i https://{}/simple linkbox".format(".".join(["pypi", "org"])),
        "see files.{}".format(".".join(["pythonhosted", "org"])),
        "open('{}')".format("/".join(["", "home", "ann", "x"])),
        "PATH={}".format("/".join(["", "work", "main"])),
    ],
)
def test_a_local_name_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "run").write_text(f"first\n{line}\n")
    (found,) = local_names(tmp_path)
    assert ":2:" in found


def test_other_words_pass(tmp_path: Path) -> None:
    words = "~/.pyenv, https://example.com/home/x, /tmp/linkbox.sock, at work/home, ../work/x"
    (tmp_path / "x.md").write_text(words)
    assert not local_names(tmp_path)
