"""Sees that the files of the register changed, and puts them in force.

And sees that another node did, while the files here are still the old ones.
"""

import asyncio
import contextlib
from pathlib import Path, PurePath
from typing import Self

from broker.core.errors import Fault, Permanent, Transient
from broker.core.protocol import Register
from broker.edge import telemetry
from broker.edge.metrics import Metrics, Rows
from broker.edge.policy_book import PolicyBook
from broker.edge.registers import RegisterHolder
from broker.edge.store import Store
from broker.ports import Clock

Stamp = tuple[tuple[str, int, int], ...]


class RegisterWatch:
    """Reloads the register when a file below its folder changed.

    Files that cannot be used leave the register in force and are reported once; a
    half-copied set of files is therefore harmless.
    """

    def __init__(self, holder: RegisterHolder, book: PolicyBook, directory: Path) -> None:
        self._holder = holder
        self._book = book
        self._directory = directory
        self._seen: Stamp | None = _stamp(directory)
        self._turn = asyncio.Lock()

    @classmethod
    def begin(cls, holder: RegisterHolder, store: Store, clock: Clock, directory: Path) -> Self:
        """Return the watch of a process that takes up its work: the store takes note of it.

        Raises:
            Fault: the policy log lost lines, or ``store`` cannot be asked; it is closed then.
        """
        book = PolicyBook(store, clock)
        book.begin(holder.held)
        return cls(holder, book, directory)

    async def run(self, every_s: float) -> None:
        """Look every ``every_s`` seconds, for ever."""
        while True:
            await asyncio.sleep(every_s)
            await self.look()

    async def look(self) -> None:
        """Look once."""
        stamp = await asyncio.to_thread(_stamp, self._directory)
        if stamp != self._seen:
            self._seen = stamp
            try:
                await self.reload()
            except Permanent:
                pass  # it is told of, and nothing helps but other files
            except Transient:
                self._seen = None
        await self._compare()

    async def reload(self) -> Register:
        """Read the files now, off the event loop: keys take long to load.

        Raises:
            Fault: they cannot be used, or not now; the register in force stays.
        """
        async with self._turn:
            try:
                held = await asyncio.to_thread(self._holder.read)
                await self._book.enter(held)
            except Fault as error:
                telemetry.log_error(telemetry.REGISTER_REJECTED, error)
                raise
            register = self._holder.take(held)
        telemetry.log(telemetry.REGISTER_RELOADED, digest=register.digest)
        tell_unusable(self._holder)
        return register

    async def _compare(self) -> None:
        """Find out whether this node may decide. While the store is away nothing is kept anyhow."""
        async with self._turn:
            with contextlib.suppress(Transient):
                is_last = await self._book.is_last(self._holder.held)
                if self._holder.is_last and not is_last:
                    telemetry.log(telemetry.REGISTER_BEHIND, digest=self._holder.current.digest)
                self._holder.is_last = is_last


def _stamp(directory: Path) -> Stamp:
    """Return what tells one state of the files from another without reading them."""
    return tuple(
        (str(path), found.st_mtime_ns, found.st_size)
        for path in sorted(directory.rglob("*"))
        if path.is_file() and (found := path.stat())
    )


def tell_unusable(registers: RegisterHolder) -> None:
    """Log which drafts were left out of the register. What is in force is not touched by it."""
    for file in registers.unusable:
        telemetry.log(telemetry.DRAFT_UNUSABLE, file=file)


def publish_expiry(registers: RegisterHolder, metrics: Metrics) -> None:
    """Publish when certificates and agreements run out: an alert must come before that."""

    def certificates() -> Rows:
        for agency in registers.current.agencies.values():
            good = [key.valid_until for key in agency.keys if key.revoked_at is None]
            if good:
                yield agency.agency_id, max(good).timestamp()

    def agreements() -> Rows:
        for name, protocol in registers.current.protocols.items():
            yield name, protocol.stands_until.timestamp()

    words = "When the last good signing certificate ends."
    metrics.ask("fame_certificate_expiry_timestamp_seconds", words, "agency", certificates)

    def unusable() -> Rows:
        for file in registers.unusable:
            yield PurePath(file).stem, 1

    words = "When the sharing protocol ends, or lapses for want of review."
    metrics.ask("fame_agreement_expiry_timestamp_seconds", words, "agreement", agreements)
    words = "Drafts that cannot be used and were left out of the register."
    metrics.ask("fame_unusable_drafts", words, "agreement", unusable)
