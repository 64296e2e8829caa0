"""A program that a live test needs: skipped when missing, except in continuous integration."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skip the test on a laptop; fail it where ``CI`` is set."""
    if os.environ.get("CI"):  # noqa: TID251 - it says where the test runs
        pytest.fail(f"{what}: needed here")
    pytest.skip(what)


def need(tool: str, package: str) -> str:
    """Return the path of ``tool``, which Debian has in ``package``."""
    found = shutil.which(tool)
    if found is None:
        missing(f"{tool} is not installed (Debian package {package})")
    return found


def environment(name: str) -> str:
    """Return what the environment says about a service that is already there, or ``""``."""
    return os.environ.get(name, "")  # noqa: TID251 - services of somebody else are named there


def cache_folder(name: str) -> Path:
    """Return a folder of our own outside the checkout that outlives the tests."""
    base = Path(environment("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "fame-tests" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
