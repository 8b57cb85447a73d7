"""Checks that a tag may be released, and writes its notes: ``release.py TAG ADDRESS NOTES``.

The tag, ``[project] version``, ``linkbox.__version__`` and a dated section of CHANGELOG.md name one version;
``[project.urls] Source`` is the ADDRESS of this repository. The notes are that section.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def problems(tag: str, address: str, root: Path = ROOT) -> list[str]:
    """Why this tag cannot be released from this repository."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    code = (root / "src/linkbox/__init__.py").read_text(encoding="utf-8")
    written = re.search(r'^__version__ = "(.+)"$', code, re.MULTILINE)
    version = tag.removeprefix("v")
    found = []
    if tag != f"v{project['version']}":
        found.append(f"the tag is {tag}, and pyproject.toml has version {project['version']}")
    if written is None or written[1] != project["version"]:
        found.append("linkbox.__version__ is not the version of pyproject.toml")
    if project["urls"]["Source"] != address:
        found.append(f"this is {address}, and pyproject.toml names {project['urls']['Source']}")
    if notes(version, root) is None:
        found.append(f"CHANGELOG.md has no section '## [{version}] - YYYY-MM-DD'")
    return found


def notes(version: str, root: Path = ROOT) -> str | None:
    """The section of the changelog about this version; None if there is none, or none with a date."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## |\Z)"
    section = re.search(heading, text, re.MULTILINE | re.DOTALL)
    return section and section[1].strip() + "\n"


def main(tag: str, address: str, target: str) -> None:
    if found := problems(tag, address):
        sys.exit("not released:\n" + "\n".join(f"- {each}" for each in found))
    Path(target).write_text(notes(tag.removeprefix("v")) or "", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
