"""Write the manifest of the vectors, or the vectors themselves into a folder.

``python -m tests.vectors.make_vectors`` writes ``manifest.json``, which is checked in;
``python -m tests.vectors.make_vectors DIR`` writes a file for each vector, to send by hand.
"""

import hashlib
import json
import sys
from pathlib import Path

from tests.vectors.documents import Vector
from tests.vectors.genuine import RANDOM_NAMES
from tests.vectors.packs import all_vectors

MANIFEST = Path(__file__).parent / "manifest.json"


def manifest() -> list[dict[str, str | int | None]]:
    """Return what ``manifest.json`` holds: for each vector its outcome, and its digest."""
    return [_row(vector) for vector in all_vectors()]


def _row(vector: Vector) -> dict[str, str | int | None]:
    raw = vector.make()
    row: dict[str, str | int | None] = {"name": str(vector), "rejected": vector.code}
    if vector.name in RANDOM_NAMES:  # salted: other bytes each time
        return row
    return row | {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}


def main(arguments: list[str]) -> None:
    """Write the manifest, or every vector into the folder named."""
    if not arguments:
        rows = ",\n ".join(json.dumps(row) for row in manifest())
        MANIFEST.write_text(f"[\n {rows}\n]\n")
        return
    for vector in all_vectors():
        path = Path(arguments[0]) / f"{vector}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(vector.make())


if __name__ == "__main__":
    main(sys.argv[1:])
