"""Which Python is measured, and was it built with optimisation?

A Python built without profile-guided optimisation (pyenv builds it so by default) is up to twice as slow, and
slows down linkbox more than peers that are written in C. ``make bench`` prefers an optimised one.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import sysconfig


def is_optimised() -> bool:
    """Was this Python built with profile-guided optimisation?

    Those for Windows and those of distributions are, but not all of them say so in their configuration.
    """
    configured = str(sysconfig.get_config_var("CONFIG_ARGS"))
    return "--enable-optimizations" in configured or os.name == "nt" or sys.base_prefix == "/usr"


def description() -> str:
    """The Python that is running, in a few words."""
    built = "optimised" if is_optimised() else "not optimised"
    return f"{platform.python_implementation()} {platform.python_version()} ({built}), {sys.executable}"


def optimised_python() -> str:
    """This Python if it is optimised; else the distribution's of the same version; else this one.

    The version has to be the same: compiled modules and packages are used with it.
    """
    if is_optimised():
        return sys.executable
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return shutil.which(name, path="/usr/bin") or sys.executable


if __name__ == "__main__":  # Is this Python one to measure with? The Makefile asks.
    sys.exit(not is_optimised())
