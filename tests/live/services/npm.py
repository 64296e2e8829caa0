"""A file of a published npm package, fetched once into the cache and checked by its digest."""

import hashlib
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.live.services.presence import cache_folder, missing, need


def package_file(package: str, path: str, sha256: str) -> Path:
    """Return ``path`` of ``package`` (name@version), which must have the digest ``sha256``."""
    folder = cache_folder("npm")
    kept = folder / sha256
    if not kept.exists():
        pack = [need("npm", "npm"), "pack", "--silent", "--pack-destination", str(folder), package]
        done = subprocess.run(pack, capture_output=True, text=True, check=False)
        if done.returncode:
            missing(f"npm could not fetch {package}")
        archive = folder / done.stdout.split()[-1]
        with tarfile.open(archive) as opened:
            member = opened.extractfile(f"package/{path}")
            assert member is not None
            kept.write_bytes(member.read())
        archive.unlink()
    if hashlib.sha256(kept.read_bytes()).hexdigest() != sha256:
        pytest.fail(f"{path} of {package} is not the pinned one")
    return kept
