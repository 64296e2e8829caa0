"""Examines every vector once its imports are done; `test_strace_no_io` watches what it opens."""

import os
import sys
from collections.abc import Sequence

from broker.core.errors import Rejection
from tests.unit.signing_world import VERIFIERS, examined
from tests.vectors.packs import all_vectors

BEGIN, END = b"examining begins\n", b"examining ends\n"


def main(arguments: Sequence[str]) -> None:
    """Examine all vectors between two marks that the tracer sees as writes.

    With ``leak`` as an argument a file is opened in between, to show that it is noticed.
    """
    submissions = [vector.make() for vector in all_vectors()]
    for verifier in VERIFIERS.values():  # signxml reads its own schemas when it is first used
        examined(submissions[0], verifier)
    os.write(1, BEGIN)
    if "leak" in arguments:
        os.close(os.open("/etc/hostname", os.O_RDONLY))
    for raw in submissions:
        for verifier in VERIFIERS.values():
            try:
                examined(raw, verifier)
            except Rejection:
                continue
    os.write(1, END)


if __name__ == "__main__":
    main(sys.argv[1:])
