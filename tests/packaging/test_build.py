"""What a build makes: the sdist, the pure wheel, and pure Python where nothing can be compiled.

`make wheels` shows that compiled wheels pass the conformance tests: the compiler takes minutes.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from email import message_from_bytes
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
FRONTEND = """
import sys
from hatchling import build
print(*getattr(build, f"get_requires_for_build_{sys.argv[1]}")())
print(getattr(build, f"build_{sys.argv[1]}")(sys.argv[2]))
"""


class Built(NamedTuple):
    """What the build backend has made, what it has asked for, and what it has written to stderr."""

    path: Path
    requires: list[str]
    err: str

    @property
    def names(self) -> list[str]:
        return zipfile.ZipFile(self.path).namelist()


Build = Callable[..., Built]


def build_in(folder: Path, kind: str, target: Path, **environment: str) -> Built:
    """Build as pip does, in a process of its own. Fail with what the backend has written."""
    inherited = {key: each for key, each in os.environ.items() if key not in ("LINKBOX_PURE", "CC")}
    done = subprocess.run(
        [sys.executable, "-c", FRONTEND, kind, str(target)],
        cwd=folder,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    requires, made = done.stdout.splitlines()
    return Built(target / made, requires.split(), done.stderr)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    target = tmp_path / "made"
    target.mkdir()
    return lambda kind, **environment: build_in(ROOT, kind, target, **environment)


@pytest.fixture
def hook() -> Any:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sources() -> set[str]:
    """The files of the package, as a wheel names them."""
    source = ROOT / "src"
    files = [*source.rglob("*.py"), *source.glob("linkbox/cli/top/static/*"), source / "linkbox" / "py.typed"]
    return {path.relative_to(source).as_posix() for path in files}


def is_pure(built: Built) -> bool:
    contents = {name for name in built.names if ".dist-info/" not in name}
    return built.path.name.endswith("-py3-none-any.whl") and contents == sources()


def test_pure_python_is_built_where_it_is_asked_for(build: Build) -> None:
    built = build("wheel", LINKBOX_PURE="1")
    assert is_pure(built)
    assert not [each for each in built.requires if each.startswith(("mypy", "setuptools"))]
    assert built.err == "linkbox: building pure Python, which is slower: LINKBOX_PURE is set\n"


@pytest.mark.skipif(os.name == "nt", reason="setuptools finds the compiler there")
def test_pure_python_is_built_without_a_compiler(build: Build) -> None:
    built = build("wheel", CC="/nonexistent/cc")
    assert is_pure(built)
    assert not [each for each in built.requires if each.startswith(("mypy", "setuptools"))]
    (line,) = built.err.splitlines()
    assert line.startswith("linkbox: building pure Python, which is slower: ")


def test_pure_python_is_built_if_compiling_fails(build: Build, tmp_path: Path) -> None:
    (tmp_path / "mypyc").mkdir()
    (tmp_path / "mypyc" / "__init__.py").write_text("raise RuntimeError('broken')")
    built = build("wheel", PYTHONPATH=str(tmp_path))
    assert is_pure(built)
    (line,) = built.err.splitlines()
    assert line.startswith("linkbox: building pure Python, which is slower: ")


def test_a_failed_compilation_is_reported_by_its_last_line(hook: Any, tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(hook.NotCompiled, match=r"^compiling failed: ValueError: no$"):
        hook.run("raise ValueError('no')", tmp_path)
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(os.name == "nt", reason="setuptools finds the compiler there")
def test_a_failure_is_an_error_if_compiled_code_is_asked_for(build: Build) -> None:
    with pytest.raises(RuntimeError, match="NotCompiled: "):
        build("wheel", CC="/nonexistent/cc", LINKBOX_PURE="0")


def test_an_editable_install_is_pure(build: Build) -> None:
    built = build("editable")
    assert built.path.name.endswith("-py3-none-any.whl")
    assert built.err == ""


def test_the_sdist_holds_what_a_build_needs_and_nothing_else(build: Build, tmp_path: Path) -> None:
    with tarfile.open(build("sdist").path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(tmp_path / "unpacked", filter="data")
    assert {name for name in names if not name.startswith("src/")} == {
        "CHANGELOG.md",
        "LICENSE",
        "PKG-INFO",
        "README.md",
        "hatch_build.py",
        "pyproject.toml",
        ".gitignore",
    }
    assert {name.removeprefix("src/") for name in names if name.startswith("src/")} == sources()
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    built = build_in(unpacked, "wheel", tmp_path, LINKBOX_PURE="1")
    assert is_pure(built)


def test_a_package_index_shows_the_readme_with_links_that_work(build: Build) -> None:
    wheel = zipfile.ZipFile(build("wheel", LINKBOX_PURE="1").path)
    (name,) = [each for each in wheel.namelist() if each.endswith(".dist-info/METADATA")]
    metadata = message_from_bytes(wheel.read(name))
    assert metadata["Description-Content-Type"] == "text/markdown"
    urls = dict(each.split(", ", 1) for each in metadata.get_all("Project-URL"))
    assert {"Source", "Documentation", "Issues", "Changelog"} <= set(urls)
    description = wheel.read(name).decode().partition("\n\n")[2]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    place = f"({urls['Source']}/blob/v{metadata['Version']}/"
    assert description.replace(place, "(").strip() == readme.strip()
    targets = re.findall(r"\]\(([^)]+)\)", description)
    assert len(targets) > 10
    assert [each for each in targets if not each.startswith(("https://", "#"))] == []


def test_only_relative_links_outside_code_become_absolute(hook: Any) -> None:
    text = "[a](b.md#c) [d](https://e) [f](#g) `h[0](i)`\n```python\nj[0](k)\n```\n[l](m)\n"
    made = hook.absolute(text, "https://host/x", "1.2")
    base = "https://host/x/blob/v1.2"
    assert made == text.replace("(b.md", f"({base}/b.md").replace("(m)", f"({base}/m)")


def test_everything_listed_for_the_compiler_exists(hook: Any) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]
    patterns = settings["hooks"]["custom"]
    assert [each for each in patterns["include"] + patterns["exclude"] if not any(ROOT.glob(each))] == []


def test_wheels_are_built_for_every_supported_python(hook: Any) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    prefix = "Programming Language :: Python :: 3."
    minors = {
        int(each.removeprefix(prefix))
        for each in settings["project"]["classifiers"]
        if each.startswith(prefix)
    }
    built = settings["tool"]["cibuildwheel"]["build"].split()
    assert built == [f"cp3{minor}-*" for minor in sorted(minors)]
    assert max(minors) == hook.NEWEST[1]


def test_a_python_without_headers_cannot_compile(
    hook: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hook.os, "name", "posix")
    monkeypatch.setattr(hook, "compiler", lambda: "cc")
    monkeypatch.setattr(hook, "NEWEST", sys.version_info[:2])
    monkeypatch.setattr(hook.platform, "machine", lambda: "x86_64")
    monkeypatch.delenv("LINKBOX_PURE", raising=False)
    monkeypatch.setattr(sysconfig, "get_config_var", {"Py_GIL_DISABLED": 0, "CC": "cc"}.get)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert "Python.h" in hook.obstacle()
    (tmp_path / "Python.h").touch()
    assert hook.obstacle() is None
    monkeypatch.setattr(hook, "compiler", lambda: None)
    assert "no C compiler" in hook.obstacle()


@pytest.mark.parametrize(
    ("given", "built_with", "present", "found"),
    [
        ("clang -m64", "gcc", {"clang", "gcc", "cc"}, "clang -m64"),
        ("/nonexistent/cc", "gcc", {"gcc", "cc"}, None),
        (
            None,
            "x86_64-linux-gnu-gcc -pthread",
            {"x86_64-linux-gnu-gcc", "cc"},
            "x86_64-linux-gnu-gcc -pthread",
        ),
        (None, "clang", {"cc"}, "cc"),
        (None, None, {"cc"}, "cc"),
        (None, "gcc", set(), None),
    ],
)
def test_the_compiler(
    hook: Any,
    monkeypatch: pytest.MonkeyPatch,
    given: str | None,
    built_with: str | None,
    present: set[str],
    found: str | None,
) -> None:
    if given is None:
        monkeypatch.delenv("CC", raising=False)
    else:
        monkeypatch.setenv("CC", given)
    monkeypatch.setattr(sysconfig, "get_config_var", {"CC": built_with}.get)
    monkeypatch.setattr(hook.shutil, "which", lambda command: command if command in present else None)
    assert hook.compiler() == found
