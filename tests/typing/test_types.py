"""The types users are promised, as type checkers see them: user_code.py, checked strictly."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

USER_CODE = Path(__file__).with_name("user_code.py")
SOURCE = USER_CODE.parents[2] / "src"
CHECKERS = {
    "mypy": ["--config-file=", "--strict", "--python-version=3.11", "--cache-dir"],
    "pyright": ["--pythonversion=3.11", "--pythonpath", sys.executable],
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", CHECKERS)
def test_what_users_write_has_the_promised_types(checker: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    options = [*CHECKERS[checker], *([str(tmp_path)] if checker == "mypy" else [])]
    # From the sources, so that it says the same installed or not; pyright finds them from its directory.
    result = subprocess.run(
        [sys.executable, "-m", checker, *options, str(USER_CODE)],
        check=False,
        env={**os.environ, "MYPYPATH": str(SOURCE)},
        cwd=SOURCE,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert result.returncode == 0, result.stdout + result.stderr
