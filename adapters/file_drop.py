"""The file drop: a directory that the recipient's system watches.

For each delivery: `<delivery_id>.xml`, whole or absent, then `<delivery_id>.receipt.json`
beside it, whose presence says that the first is complete. A name holds a delivery id and
nothing about anybody.
"""

import asyncio
import contextlib
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from adapters.contract import Delivered, Delivery, Health, Refused, Result, RetryLater
from broker.core.identity import UUID
from broker.core.reasons import Reason

# Two threads a recipient: a directory on a dead network share blocks its own and no others.
THREADS = 2
MODE = 0o640
# A link planted under the name is not followed out of the directory.
FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


class FileDrop:
    """An `Adapter` that writes into one directory, which must exist."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="file-drop")

    async def deliver(self, delivery: Delivery) -> Result:
        """Write the message and its receipt file, each whole or not at all."""
        # The id becomes a file name, so its form is checked here, whoever made it.
        if not UUID.fullmatch(delivery.delivery_id):
            return Refused(Reason.INTERNAL)
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, self._write, delivery
        )

    async def check(self) -> Health:
        """Say whether the directory is there and can be written to."""
        usable = await asyncio.get_running_loop().run_in_executor(
            self._threads, os.access, self._directory, os.W_OK | os.X_OK
        )
        return Health(usable, "" if usable else "the directory is missing or not writable")

    async def aclose(self) -> None:
        """Let the threads end; one that hangs on a dead share is left behind."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _write(self, delivery: Delivery) -> Result:
        name = f"{delivery.delivery_id}.xml"
        digest = hashlib.sha256(delivery.body).hexdigest()
        receipt = {
            "attempt": delivery.attempt,
            "delivery_id": delivery.delivery_id,
            "message_id": delivery.message_id,
            "message_type": delivery.message_type,
            "recipient": delivery.recipient,
            "reduced": delivery.reduced,
            "sender": delivery.sender,
            "sha256": digest,
        }
        try:
            self._place(name, delivery.body)
            self._place(
                f"{delivery.delivery_id}.receipt.json",
                json.dumps(receipt, indent=1).encode() + b"\n",
            )
        except OSError:
            # Full, gone, read-only: all of them can be mended on the far side. The error's
            # own words are not passed on, they hold local paths. A message that has its name
            # may be taken, though its receipt file is missing.
            named = os.access(self._directory / name, os.F_OK)
            return RetryLater(Reason.RECIPIENT_UNREACHABLE, in_doubt=named)
        return Delivered(f"sha256:{digest}")

    def _place(self, name: str, content: bytes) -> None:
        """Make ``name`` appear with ``content``, durably, or leave everything as it was."""
        target = self._directory / name
        if target.is_file() and target.read_bytes() == content:
            return
        part = self._directory / f".{name}.part"
        try:
            with os.fdopen(os.open(part, FLAGS, MODE), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            # Replacing is right: the name is the delivery's own, so other content there is
            # what an attempt left that was never recorded.
            part.replace(target)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        self._sync_directory()

    def _sync_directory(self) -> None:
        # POSIX: a rename is durable once the directory that holds the name is synced.
        handle = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
