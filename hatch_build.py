"""Compiles what every message goes through, when a wheel is built and a C compiler is there.

Building a wheel calls this, and so does `pip install` of a checkout or an sdist. Where nothing can be
compiled, or where compiling fails, the wheel is pure Python: the same behaviour, slower. `LINKBOX_PURE=1`
asks for pure Python. `LINKBOX_PURE=0` makes it an error if nothing can be compiled. Editable installs are
always pure.

The README of the package has absolute links: a package index has no files beside it.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

COMPILE = """
import sys
from mypyc.build import mypycify
from setuptools import setup
sys.argv = ["setup.py", "--quiet", "build_ext", "--inplace", "--parallel", "{jobs}"]
setup(name="linkbox", packages=[], package_dir={{"": "src"}}, ext_modules=mypycify({arguments!r}, {options}))
"""
OPTIONS = 'opt_level="2", debug_level="0", multi_file=True'
PATIENCE = 1800
"""Seconds for the compiler."""
NEWEST = (3, 14)
"""The newest Python that is compiled for: mypy has to be there for it, as a wheel."""
MACHINES = {"amd64", "x86_64", "i686", "arm64", "aarch64", "armv7l"}
"""Those for which mypy is there as a wheel. Elsewhere its installation needs more compilers."""


class CompileIfPossible(BuildHookInterface[Any]):
    """The build hook. Its settings (`include`, `exclude`) are in pyproject.toml."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """What the build environment needs besides hatchling: nothing for pure Python."""
        if obstacle():
            return []
        return ["mypy~=2.4", "setuptools>=70", *self.build_config.builder.metadata.core.dependencies]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile into a temporary directory, and add the results to the wheel."""
        if version == "editable":
            return
        self._work = tempfile.TemporaryDirectory(prefix="linkbox-build-")
        try:
            if reason := obstacle():
                raise NotCompiled(reason)
            compiled = self._compile(Path(self._work.name))
        except NotCompiled as error:
            if os.environ.get("LINKBOX_PURE") == "0":
                raise
            print(f"linkbox: building pure Python, which is slower: {error}", file=sys.stderr)
            return
        build_data["force_include"].update(compiled)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary directory."""
        if version != "editable":
            self._work.cleanup()

    def _compile(self, work: Path) -> dict[str, str]:
        """The extension modules, by their place in the wheel. Compiles a copy of the sources."""
        root = Path(self.root)
        files = {path for pattern in self.config["include"] for path in root.glob(pattern)}
        files -= {path for pattern in self.config["exclude"] for path in root.glob(pattern)}
        shutil.copytree(
            root / "src", work / "src", ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.pyd")
        )
        # Under this name setuptools does not read it.
        shutil.copy(root / "pyproject.toml", work / "mypy.toml")
        arguments = [
            "--config-file=mypy.toml",
            "--no-warn-unused-ignores",
            *sorted(str(path.relative_to(root)) for path in files),
        ]
        run(COMPILE.format(jobs=os.cpu_count() or 1, arguments=arguments, options=OPTIONS), work)
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        found = {
            str(path): str(path.relative_to(work / "src")) for path in (work / "src").rglob(f"*{suffix}")
        }
        # mypyc's shared library is put beside the package or at the top.
        found |= {str(path): path.name for path in work.glob(f"*{suffix}")}
        if not found:
            raise NotCompiled("the compiler has made nothing")
        return found


class AbsoluteLinks(MetadataHookInterface):
    """The metadata hook: README.md as a package index shows it."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the readme to the metadata of the project."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        source = metadata["urls"]["Source"]
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute(text, source, metadata["version"]),
        }


def absolute(text: str, source: str, version: str) -> str:
    """The text with its relative links leading into the repository, at the tag of this version."""
    code_or_link = r"^```.*?^```|`[^`\n]+`|\]\((?![a-z][a-z0-9+.-]*:|#)"
    return re.sub(
        code_or_link,
        lambda found: f"]({source}/blob/v{version}/" if found[0] == "](" else found[0],
        text,
        flags=re.MULTILINE | re.DOTALL,
    )


class NotCompiled(Exception):
    """Why there is nothing compiled, in one line."""


def run(script: str, work: Path) -> None:
    """Run a Python script in `work`. Its output is shown only if a failure is an error."""
    command = compiler() if os.name != "nt" else None
    try:
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=work,
            env=os.environ | ({"CC": command} if command else {}),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=PATIENCE,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NotCompiled(f"compiling failed: {error}") from error
    if done.returncode:
        if os.environ.get("LINKBOX_PURE") == "0":
            sys.stderr.write(done.stdout + done.stderr)
        lines = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()
        raise NotCompiled(f"compiling failed: {lines[-1][:200]}")


def obstacle() -> str | None:
    """Why nothing can be compiled here, if that is so."""
    if os.environ.get("LINKBOX_PURE", "") not in ("", "0"):
        return "LINKBOX_PURE is set"
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "only CPython with its global lock can be compiled for"
    if sys.version_info[:2] > NEWEST or platform.machine().lower() not in MACHINES:
        return f"Python {platform.python_version()} on {platform.machine()} is not compiled for"
    if os.name == "nt":
        return None  # setuptools looks for the compiler
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "Python.h is missing (Debian: python3-dev)"
    if compiler() is None:
        return "there is no C compiler"
    return None


def compiler() -> str | None:
    """The command of the C compiler, except on Windows: $CC, or the one that Python was built with, or cc."""
    candidates = (
        [os.environ["CC"]] if os.environ.get("CC") else [sysconfig.get_config_var("CC") or "cc", "cc"]
    )
    return next((each for each in candidates if shutil.which(each.split()[0])), None)
