"""Third-party programs that live tests run."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def require(tool: str) -> str:
    """Return the path of ``tool``. Without it a test is skipped on a laptop, and fails in CI."""
    path = shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/sbin")  # servers' place
    if path is not None:
        return path
    reason = f"{tool} is not installed here"
    if os.environ.get("CI"):  # noqa: TID251 - a test asks where it runs
        pytest.fail(f"{reason}, and CI must have it")
    pytest.skip(reason)


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """Make ``folder`` a disk of its own, as large as tmpfs understands ``size``."""
    if os.geteuid() != 0:
        pytest.skip("mounting takes root")
    folder.mkdir()
    mount = [require("mount"), "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run([require("umount"), "--lazy", str(folder)], check=True)
