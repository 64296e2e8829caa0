"""Drafts beside what is in force, on the messages that come: asked after the fact, never before.

What was decided has been committed and answered when a draft is asked. Nothing waits for it:
`offer` takes note or, when too much waits, lets it be; a thread of its own asks, and rests four
times as long as it works. A fault here is counted and reaches nobody else.
"""

import asyncio
import contextlib
import time
import tomllib
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog

from broker.core.clause import Pair
from broker.core.consent import Consent
from broker.core.decision import asks_consent, decide
from broker.core.drafting import parse_draft, with_drafts
from broker.core.errors import BrokerError, Fault
from broker.core.identity import AgencyId
from broker.core.override import Override, override_for
from broker.core.protocol import Register
from broker.core.schema import SchemaSet
from broker.core.shadow import Comparison, Found, compare, touched, unanswered
from broker.edge import shadow_rows
from broker.edge.intake import Decided, Registers
from broker.edge.shadow_rows import Finding, ShadowRow, Tally, findings_of
from broker.edge.store import Store
from broker.ports import Clock, Consents

WAITING_MAX: Final = 1000
WAITING_BYTES_MAX: Final = 32 * 1024 * 1024
FINDINGS_MAX: Final = 5000  # not written yet, when the store takes nothing
REST: Final = 4.0  # of the time it works: a fifth of one core at most
WRITE_S: Final = 1.0  # at most one transaction in this time
STOP_S: Final = 5.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Shadow:
    """A draft that can be asked: in a register of its own, for the pairs and types it touches."""

    row: ShadowRow
    register: Register
    touched: frozenset[Pair]


def prepare(row: ShadowRow, live: Register) -> Shadow:
    """Return the shadow of ``row`` beside ``live``.

    Raises:
        Mistake: the draft cannot be read with what ``live`` knows.
        TOMLDecodeError: it is no TOML.
    """
    draft = parse_draft(tomllib.loads(row.draft), live, row.protocol)
    register = with_drafts(live, [draft])
    return Shadow(row, register, touched(live, register, draft.protocol_id))


@dataclass(slots=True)
class _Held:
    """What is asked at the moment: the shadows, and the register that they were made beside."""

    live: Register | None = None
    rows: tuple[ShadowRow, ...] = ()
    shadows: tuple[Shadow, ...] = ()


@dataclass(slots=True)
class Shadows:
    """Asks the drafts. One for each process; all of them read the same rows."""

    store: Store
    registers: Registers
    consents: Consents
    schemas: SchemaSet
    clock: Clock
    salt: bytes = field(repr=False)
    _held: _Held = field(default_factory=_Held)
    _waiting: deque[tuple[Decided, int]] = field(default_factory=deque, repr=False)
    _bytes: int = 0
    _tally: dict[tuple[str, Finding], Tally] = field(default_factory=dict, repr=False)
    _some: asyncio.Event = field(default_factory=asyncio.Event)
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)
    _thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, "shadow"), repr=False
    )

    # -- on the submit path --------------------------------------------------------------------

    def offer(self, decided: Decided) -> None:
        """Take note of what was decided, if a draft speaks of it. It waits for nothing."""
        try:
            if self._held.shadows:
                self._take_note(decided)
        except Exception as error:  # noqa: BLE001 - it is not the message's
            log.warning("shadow_failed", kind=type(error).__name__)

    def _take_note(self, decided: Decided) -> None:
        concerned = [one for one in self._held.shadows if _concerned(one, decided)]
        if not concerned:
            return
        size = len(decided.message.verified.raw)
        if len(self._waiting) >= WAITING_MAX or self._bytes + size > WAITING_BYTES_MAX:
            for one in concerned:
                self._lack(Found.SKIPPED, one, decided)
        else:
            self._waiting.append((decided, size))
            self._bytes += size
        self._some.set()

    # -- in the background ---------------------------------------------------------------------

    @asynccontextmanager
    async def running(self, every_s: float) -> AsyncIterator[None]:
        """Watch and work; at the end ask about what waits, within bounds."""
        watching = asyncio.create_task(self.watch(every_s))
        working = asyncio.create_task(self.work())
        try:
            yield
        finally:
            watching.cancel()
            self._stopped.set()
            self._some.set()
            _, late = await asyncio.wait({working}, timeout=STOP_S)
            working.cancel()
            if late:
                log.warning("shadow_stopped_early", found=len(self._waiting))
            await asyncio.gather(watching, working, return_exceptions=True)
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def watch(self, every_s: float) -> None:
        """See every ``every_s`` seconds which shadows there are; 0: once."""
        while True:
            try:
                await self.look()
            except Fault as fault:
                log.warning("shadows_not_read", code=fault.reason.value)
            if not every_s:
                return
            await asyncio.sleep(every_s)

    async def look(self) -> None:
        """See which shadows there are, and make them ready beside what is in force now."""
        rows = tuple(await self.store.read(partial(shadow_rows.shadows, active=True)))
        live = self.registers.current
        if rows == self._held.rows and live is self._held.live:
            return
        made = [await self._prepared(row, live) for row in rows]
        self._held = _Held(live, rows, tuple(one for one in made if one is not None))

    async def _prepared(self, row: ShadowRow, live: Register) -> Shadow | None:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, prepare, row, live)
        except Exception as error:  # noqa: BLE001 - a draft stops nobody
            log.warning("shadow_unusable", agreement=row.protocol, kind=type(error).__name__)
            return None

    async def work(self) -> None:
        """Ask the drafts about what was decided, until told to stop; then about what waits."""
        while not self._stopped.is_set():
            await self._some.wait()
            self._some.clear()
            await self._ask_all()
            await self._write()
            await self._rest(WRITE_S)
        await self._ask_all()
        await self._write()

    async def _ask_all(self) -> None:
        while self._waiting:
            decided, size = self._waiting.popleft()
            self._bytes -= size
            started = time.perf_counter()
            await self._ask(decided)
            await self._rest((time.perf_counter() - started) * REST)

    async def _rest(self, seconds: float) -> None:
        """Do nothing for a while, but for that nobody waits who stops."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)

    async def _ask(self, decided: Decided) -> None:
        if decided.register is not self._held.live:
            await self._look_again()
        for one in self._held.shadows:
            if not _concerned(one, decided):
                continue
            if decided.register is not self._held.live:
                self._lack(Found.SKIPPED, one, decided)
                continue
            try:
                await self._ask_one(one, decided)
            except Exception as error:  # noqa: BLE001 - counted, and nobody else's
                kind = type(error).__name__
                log.warning("shadow_failed", agreement=one.row.protocol, kind=kind)
                self._lack(Found.FAILED, one, decided)

    async def _look_again(self) -> None:
        try:
            await self.look()
        except Fault as fault:
            log.warning("shadows_not_read", code=fault.reason.value)

    async def _ask_one(self, one: Shadow, decided: Decided) -> None:
        consents, override = await self._looked_up(one, decided)
        loop = asyncio.get_running_loop()
        compared = await loop.run_in_executor(
            self._thread, self._compared, one, decided, consents, override
        )
        self._count(one, decided, compared)

    async def _looked_up(
        self, one: Shadow, decided: Decided
    ) -> tuple[Collection[Consent], Override | None]:
        """Return what is on record of consent, where the draft asks and nobody had to before."""
        header = decided.message.header
        if decided.consents is not None or not any(
            asks_consent(one.register, header.sender, to, header.message_type, header.purpose)
            for to in decided.decisions
        ):
            return decided.consents or (), decided.override
        consents = await self.consents.held(decided.subject)
        override = None
        if header.decision_ref is not None:
            found = await self.consents.override(header.decision_ref)
            override = override_for(found, decided.subject, header.sender)
        return consents, override

    def _compared(
        self,
        one: Shadow,
        decided: Decided,
        consents: Collection[Consent],
        override: Override | None,
    ) -> list[Comparison]:
        """Decide under the draft, in the thread. What comes of it is compared and let go."""
        message = decided.message
        found = []
        for recipient in _recipients(one, decided):
            draft = decide(
                message,
                recipient,
                one.register,
                consents,
                decided.at,
                schemas=self.schemas,
                override=override,
                taken=recipient in decided.taken,
            )
            sides = (decided.decisions[recipient], draft)
            found.append(compare(message, recipient, *sides, schemas=self.schemas, salt=self.salt))
        return found

    def _lack(self, found: Found, one: Shadow, decided: Decided) -> None:
        lacking = [unanswered(found, decided.message, to) for to in _recipients(one, decided)]
        self._count(one, decided, lacking)

    def _count(self, one: Shadow, decided: Decided, compared: Iterable[Comparison]) -> None:
        for comparison in compared:
            for finding, tally in findings_of(comparison, decided.submission_id):
                key = one.row.shadow_id, finding
                known = self._tally.get(key)
                if known is not None:
                    self._tally[key] = known.and_then(tally)
                elif len(self._tally) < FINDINGS_MAX:
                    self._tally[key] = tally

    async def _write(self) -> None:
        found, self._tally = self._tally, {}
        if not found:
            return
        try:
            await self.store.write(partial(shadow_rows.add, found=found, at=self.clock.now()))
        except BrokerError as error:
            log.warning("shadow_not_written", code=error.reason.value)
            for key, tally in self._tally.items():  # found meanwhile, so later
                found[key] = found[key].and_then(tally) if key in found else tally
            self._tally = found
            self._some.set()


def _recipients(one: Shadow, decided: Decided) -> list[AgencyId]:
    header = decided.message.header
    return [
        to for to in decided.decisions if (header.sender, to, header.message_type) in one.touched
    ]


def _concerned(one: Shadow, decided: Decided) -> bool:
    return bool(_recipients(one, decided))
