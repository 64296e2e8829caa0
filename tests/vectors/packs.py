"""All packs together. The code of each vector is what the whole examination answers."""

from functools import cache

from tests.vectors import abuse, genuine, parsing, wrapping
from tests.vectors.documents import Vector


@cache
def all_vectors() -> tuple[Vector, ...]:
    """Return every vector, in a fixed order."""
    return (
        *genuine.vectors(),
        *wrapping.vectors(),
        *wrapping.valid_form(),
        *abuse.vectors(),
        *parsing.vectors(),
    )
