"""Third-party programs that live tests run."""

import os
import shutil

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
