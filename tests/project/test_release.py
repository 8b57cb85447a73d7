"""What surrounds a release: the check of the tag, and settings that are written in two places."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import linkbox

ADDRESS = "https://host/linkbox"


@pytest.fixture(scope="module")
def release(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", root / ".github/release.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def project(root: Path) -> Any:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project that can be released as v1.2.0."""
    (tmp_path / "src/linkbox").mkdir(parents=True)
    (tmp_path / "src/linkbox/__init__.py").write_text('__version__ = "1.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(
        "## [1.2.0] - 2030-01-31\n\n### Added\n\n- A.\n\n## [1.1.0] - 2029-01-31\n\n- B.\n"
    )
    (tmp_path / "pyproject.toml").write_text(
        f'[project]\nname = "linkbox"\nversion = "1.2.0"\n[project.urls]\nSource = "{ADDRESS}"\n'
    )
    return tmp_path


def test_the_versions_agree(project: Any) -> None:
    assert project["version"] == linkbox.__version__


def test_a_tag_is_released_with_its_section_of_the_changelog(release: ModuleType, tree: Path) -> None:
    assert release.problems("v1.2.0", ADDRESS, tree) == []
    assert release.notes("1.2.0", tree) == "### Added\n\n- A.\n"


@pytest.mark.parametrize(
    ("tag", "address", "change", "words"),
    [
        ("v1.1.0", ADDRESS, ("pyproject.toml", "", ""), "the tag is v1.1.0"),
        ("1.2.0", ADDRESS, ("pyproject.toml", "", ""), "the tag is 1.2.0"),
        ("v1.2.0", "https://elsewhere/x", ("pyproject.toml", "", ""), "https://elsewhere/x"),
        ("v1.2.0", ADDRESS, ("src/linkbox/__init__.py", "1.2.0", "1.3.0"), "__version__"),
        ("v1.2.0", ADDRESS, ("CHANGELOG.md", "2030-01-31", "unreleased"), "CHANGELOG.md"),
    ],
)
def test_other_tags_are_not_released(
    release: ModuleType, tree: Path, tag: str, address: str, change: tuple[str, str, str], words: str
) -> None:
    file, old, new = change
    (tree / file).write_text(
        (tree / file).read_text().replace(old, new) if old else (tree / file).read_text()
    )
    (problem,) = release.problems(tag, address, tree)
    assert words in problem


def test_workflow_runs_the_tests_of_make_test(root: Path) -> None:
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    long = re.search(r"^LONG := (.+)$", makefile, re.MULTILINE)
    assert long is not None
    workflow = (root / ".github/workflows/tests.yml").read_text(encoding="utf-8")
    assert re.findall(r"--ignore tests/(\S+)", workflow) == long[1].split()


def test_workflow_tests_every_supported_python(root: Path, project: Any) -> None:
    prefix = "Programming Language :: Python :: 3."
    minors = [each.removeprefix(prefix) for each in project["classifiers"] if each.startswith(prefix)]
    workflow = (root / ".github/workflows/tests.yml").read_text(encoding="utf-8")
    listed = re.search(r"^ +python: \[(.+)\]$", workflow, re.MULTILINE)
    assert listed is not None
    assert listed[1] == ", ".join(f'"3.{minor}"' for minor in minors)


def test_pre_commit_uses_the_checkers_of_make_check(root: Path, project: Any) -> None:
    settings = (root / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    ruff, mypy = project["optional-dependencies"]["check"][:2]
    assert f"ruff-pre-commit\n    rev: v{ruff.removeprefix('ruff~=')}\n" in settings
    assert f"- {mypy}\n" in settings
