"""Compiles what every message goes through, when a wheel is built and a C compiler is there.

`pip install` of a checkout or an sdist calls this. Without a compiler, or where compiling fails, the wheel is
pure Python: the same behaviour, slower. `LINKBOX_PURE=1` asks for pure Python, `LINKBOX_PURE=0` makes a failure
an error. Editable installs are always pure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

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


class CompileIfPossible(BuildHookInterface):
    """The build hook. Its settings (`include`, `exclude`) are in pyproject.toml."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """What the build environment needs besides hatchling: nothing for pure Python."""
        if not may_compile():
            return []
        return ["mypy~=2.4", "setuptools>=70", *self.build_config.builder.metadata.core.dependencies]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile into a temporary directory, and add the results to the wheel."""
        if version == "editable":
            return
        if not may_compile():
            notice("LINKBOX_PURE is set" if is_pure_wanted() else "there is no C compiler or no Python.h here")
            return
        self._work = tempfile.mkdtemp(prefix="linkbox-build-")
        try:
            compiled = self._compile(Path(self._work))
        except (OSError, subprocess.SubprocessError) as error:
            if os.environ.get("LINKBOX_PURE") == "0":
                raise
            notice(f"compiling failed: {error}")
            return
        build_data["force_include"].update(compiled)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary directory."""
        if hasattr(self, "_work"):
            shutil.rmtree(self._work, ignore_errors=True)

    def _compile(self, work: Path) -> dict[str, str]:
        """The extension modules by their place in the wheel. Sources are copied: nothing is left beside them."""
        root, source = Path(self.root), Path(self.root) / "src"
        files = {path for pattern in self.config["include"] for path in root.glob(pattern)}
        files -= {path for pattern in self.config["exclude"] for path in root.glob(pattern)}
        shutil.copytree(source, work / "src", ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.pyd"))
        shutil.copy(root / "pyproject.toml", work)  # the settings of mypy
        arguments = ["--no-warn-unused-ignores", *sorted(str(path.relative_to(root)) for path in files)]
        script = COMPILE.format(jobs=os.cpu_count() or 1, arguments=arguments, options=OPTIONS)
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=work, capture_output=True, text=True, timeout=PATIENCE
        )
        if done.returncode:
            sys.stderr.write(done.stdout + done.stderr)
            raise subprocess.SubprocessError((done.stderr.strip() or done.stdout.strip() or "?").splitlines()[-1])
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        found = {str(path): str(path.relative_to(work / "src")) for path in (work / "src").rglob(f"*{suffix}")}
        # mypyc's shared library stands at the top or in the package.
        found |= {str(path): path.name for path in work.glob(f"*{suffix}")}
        if not found:
            raise subprocess.SubprocessError("the compiler has made nothing")
        return found


def is_pure_wanted() -> bool:
    """Was pure Python asked for?"""
    return os.environ.get("LINKBOX_PURE", "0") not in ("", "0")


def may_compile() -> bool:
    """May compiling succeed? On Windows setuptools finds the compiler, if there is one."""
    if is_pure_wanted() or sys.implementation.name != "cpython":
        return False
    if os.name != "nt" and not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return False
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    return os.name == "nt" or shutil.which(compiler) is not None or shutil.which("cc") is not None


def notice(reason: str) -> None:
    """One line: the wheel is pure Python."""
    print(f"linkbox: pure Python, which is slower, because {reason} (see LINKBOX_PURE)", file=sys.stderr)
