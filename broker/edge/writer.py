"""The one thread that writes: everything waiting goes into one transaction (group commit).

A sync of the disk costs the same for one message and for hundreds, so nobody waits for
company: while one transaction is being synced the next batch gathers by itself. Answers
are given only after the commit, all at once, on the event loop of whoever asked.
"""

import asyncio
import bisect
import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import TypeVar

from sqlalchemy import Connection

from broker.core.errors import BrokerError, Rejection, Transient
from broker.core.reasons import Reason
from broker.core.submission import Accepted, Committed, Submission
from broker.edge import tables
from broker.edge.accepting import Acceptance, BulkInsert
from broker.edge.crash import crash_point
from broker.edge.database import (
    DATABASE_ERRORS,
    Database,
    Interrupted,
    StoreLost,
    StoreSettings,
    as_fault,
    cursor_of,
    drop,
    in_time,
    store_faults,
)
from broker.edge.ledger import Ledger

T = TypeVar("T")
Act = Callable[[Connection, Ledger], T]
Listener = Callable[[Committed], None]

SIZE_BOUNDS = (1, 4, 16, 64, 256)
_GATHER_S = 0.004  # the sync of a disk takes about as long
_ROW_BYTES = 4096  # what one job adds to the log besides bodies, roughly


@dataclass(slots=True, eq=False)
class Job:
    """A submission or an act that waits for the writer, and then its answer."""

    work: Submission | Act[object]
    future: asyncio.Future[object] = field(repr=False)
    also: Act[object] | None = None  # of a submission that is new: in its transaction
    value: object = None
    error: Exception | None = None

    def settle(self) -> None:
        """Give the answer; nobody may be waiting for it any more."""
        if self.future.done():
            return
        error = self.value if isinstance(self.value, Rejection) else self.error
        if error is None:
            self.future.set_result(self.value)
        else:
            self.future.set_exception(error)


@dataclass(slots=True)
class Counts:
    """What the writer did since it started; the histogram is of jobs in a transaction."""

    batches: int = 0
    submissions: int = 0
    acts: int = 0
    failed_batches: int = 0
    interrupted: int = 0  # and tried again
    failed_checkpoints: int = 0
    commit_seconds: float = 0.0
    checkpoint_seconds: float = 0.0
    cpu_seconds: float = 0.0  # of the writing thread, all told
    sizes: list[int] = field(default_factory=lambda: [0] * (len(SIZE_BOUNDS) + 1))


class _Abandoned(Exception):
    """A statement failed and took the whole transaction with it."""

    def __init__(self, fault: BrokerError) -> None:
        super().__init__(fault)
        self.fault = fault


class Writer:
    """Owns the writing connection. Jobs are put in from any thread and answered in bulk."""

    def __init__(self, database: Database, acceptance: Acceptance, settings: StoreSettings) -> None:
        self.counts = Counts()
        self.lost: StoreLost | None = None
        self._database = database
        self._conn: Connection | None = None
        self._acceptance = acceptance
        dialect = database.writing.dialect
        self._entries = BulkInsert(tables.ledger, dialect, tuple(tables.ledger.c.keys()))
        self._settings = settings
        self._in_company = False
        self._listeners: list[tuple[asyncio.AbstractEventLoop, Listener]] = []
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._gate = threading.Lock()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        """How many jobs wait now."""
        return self._queue.qsize()

    def listen(self, listener: Listener) -> None:
        """Have ``listener`` told, on the running event loop, of every commit to come."""
        self._listeners.append((asyncio.get_running_loop(), listener))

    def put(
        self, work: Submission | Act[object], also: Act[object] | None = None
    ) -> asyncio.Future[object]:
        """Queue ``work`` and return the future of its answer.

        Acts may wait in twice the number: they record what has already happened outside,
        and are what makes room.

        Raises:
            Transient: the queue is full, the store is closing or the disk failed.
        """
        room = (
            self._settings.queue_max
            if isinstance(work, Submission)
            else 2 * self._settings.queue_max
        )
        job = Job(work, asyncio.get_running_loop().create_future(), also)
        with self._gate:
            if self.lost is not None:
                raise self.lost
            if self._closing:
                raise Transient(Reason.STORE_UNAVAILABLE, "the store is closing")
            if self._queue.qsize() >= room:
                raise Transient(Reason.OVERLOADED, "too many are waiting to be written")
            self._queue.put(job)
        return job.future

    def stop(self) -> None:
        """Finish what is queued, take nothing more, and wait for the thread to end."""
        with self._gate:
            if not self._closing:
                self._closing = True
                self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while batch := self._next_batch():
                committed = self._commit(batch)
                self._answer(batch, committed)
                self._in_company = len(batch) > 1
                self._tidy(batch)
                self.counts.cpu_seconds = time.thread_time()
        finally:
            if self._conn is not None:
                self._conn.close()

    def _next_batch(self) -> list[Job]:
        """Wait for one job, then take what else is there. Empty: the end.

        When jobs came together last time, more are on their way: gathering them for a moment
        saves each a share of a transaction. One that comes alone is not kept waiting.
        """
        job = self._queue.get()
        if self._in_company:
            time.sleep(_GATHER_S)
        batch: list[Job] = []
        with contextlib.suppress(Empty):
            while job is not None:
                batch.append(job)
                if len(batch) == self._settings.batch_max:
                    return batch
                job = self._queue.get_nowait()
            self._queue.put(None)  # the end comes after this batch
        return batch

    def _commit(self, batch: list[Job]) -> Committed | None:
        """Commit ``batch``, again when it was interrupted, or give each job its fault."""
        if self.lost is not None:
            _fail(batch, self.lost)
            return None
        started = time.perf_counter()
        try:
            committed = self._commit_patiently(batch)
        except Exception as error:  # noqa: BLE001 - the top of the loop: the thread must live
            self.counts.failed_batches += 1
            fault = _fault_of(error)
            if isinstance(fault, StoreLost):
                self.lost = fault
            _fail(batch, fault)
            return None
        self._count(batch, time.perf_counter() - started)
        return committed

    def _commit_patiently(self, batch: list[Job]) -> Committed:
        for wait_s in in_time(self._database.patience):
            try:
                return self._commit_once(batch)
            except Exception as error:
                if not isinstance(_fault_of(error), Interrupted):
                    raise
                self.counts.interrupted += 1
                time.sleep(wait_s)
        return self._commit_once(batch)

    def _commit_once(self, batch: list[Job]) -> Committed:
        """Commit ``batch`` on the connection there is, or on a new one after it was lost."""
        with store_faults():
            if self._conn is None:
                self._conn = self._database.writing.connect()
            try:
                return self._transact(self._conn, batch)
            except BaseException:
                if self._database.broken(self._conn):
                    drop(self._conn)
                    self._conn = None
                raise

    def _transact(self, conn: Connection, batch: list[Job]) -> Committed:
        for job in batch:
            job.value = job.error = None
        with self._database.transaction(conn):
            ledger = Ledger.of(conn)
            self._accept(conn, ledger, [job for job in batch if isinstance(job.work, Submission)])
            for job in batch:
                if not isinstance(job.work, Submission):
                    _run_act(conn, ledger, job)
            self._entries.run(conn, ledger.rows)
            self._database.announce(conn, ledger.committed)
            crash_point("K9")
        crash_point("K10")
        return ledger.committed

    def _accept(self, conn: Connection, ledger: Ledger, jobs: Sequence[Job]) -> None:
        """Accept all at once or, when one of them cannot be written, each by itself."""
        if not jobs:
            return
        try:
            answers = self._accepted(conn, ledger, jobs)
        except _Abandoned:
            raise
        except Exception:  # noqa: BLE001 - whichever it was shows when each is alone
            for job in jobs:
                try:
                    (job.value,) = self._accepted(conn, ledger, [job])
                except _Abandoned:
                    raise
                except Exception as error:  # noqa: BLE001 - that one's answer; others live on
                    job.error = _fault_of(error)
        else:
            for job, answer in zip(jobs, answers, strict=True):
                job.value = answer

    def _accepted(
        self, conn: Connection, ledger: Ledger, jobs: Sequence[Job]
    ) -> list[Accepted | Rejection]:
        submissions = [job.work for job in jobs if isinstance(job.work, Submission)]

        def accept(conn: Connection, ledger: Ledger) -> list[Accepted | Rejection]:
            answers = self._acceptance.accept(conn, ledger, submissions)
            for job, answer in zip(jobs, answers, strict=True):
                if job.also and isinstance(answer, Accepted) and not answer.duplicate:
                    job.also(conn, ledger)
            return answers

        return _attempt(conn, ledger, accept)

    def _count(self, batch: Sequence[Job], seconds: float) -> None:
        counts = self.counts
        counts.batches += 1
        counts.commit_seconds += seconds
        counts.sizes[bisect.bisect_left(SIZE_BOUNDS, len(batch))] += 1
        for job in batch:
            if isinstance(job.work, Submission):
                counts.submissions += 1
            else:
                counts.acts += 1

    def _answer(self, batch: Sequence[Job], committed: Committed | None) -> None:
        """Hand all answers over, with one call into each event loop."""
        loops: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = {}
        for job in batch:
            loops.setdefault(job.future.get_loop(), []).append(job.settle)
        if committed is not None and (committed.recipients or committed.correlations):
            for loop, listener in self._listeners:
                loops.setdefault(loop, []).append(partial(listener, committed))
        _call(loops)

    def tell(self, committed: Committed) -> None:
        """Tell the listeners what another node committed. From any thread."""
        for loop, listener in list(self._listeners):
            _call({loop: [partial(listener, committed)]})

    def _tidy(self, batch: Sequence[Job]) -> None:
        if self.lost is not None or self._conn is None:
            return
        started = time.perf_counter()
        written = sum(map(_bytes_of, batch))
        try:
            if not self._database.tidy(self._conn, written, idle=self._queue.empty()):
                self.counts.failed_checkpoints += 1
        except StoreLost as fault:
            self.lost = fault
        self.counts.checkpoint_seconds += time.perf_counter() - started


def _bytes_of(job: Job) -> int:
    """Return what ``job`` adds to a log, roughly."""
    body = len(job.work.message.verified.raw) if isinstance(job.work, Submission) else 0
    return _ROW_BYTES + body


def _call(loops: Mapping[asyncio.AbstractEventLoop, list[Callable[[], None]]]) -> None:
    for loop, calls in loops.items():
        with contextlib.suppress(RuntimeError):  # that loop is closed: nobody is waiting
            loop.call_soon_threadsafe(_call_all, calls)


def _attempt(conn: Connection, ledger: Ledger, act: Act[T]) -> T:
    """Run ``act`` so that nothing of it is written should it fail.

    Raises:
        _Abandoned: its failure took the whole transaction with it.
    """
    mark = ledger.mark()
    cursor = cursor_of(conn)
    cursor.execute("SAVEPOINT act")
    try:
        value = act(conn, ledger)
    except Exception as error:
        fault = as_fault(error) if isinstance(error, DATABASE_ERRORS) else None
        if isinstance(fault, Transient):
            raise _Abandoned(fault) from error
        try:
            cursor.execute("ROLLBACK TO act")
            cursor.execute("RELEASE act")
        except DATABASE_ERRORS:
            # Without a transaction every further statement would be kept by itself.
            raise _Abandoned(as_fault(error)) from error
        ledger.rewind(mark)
        if fault is None:
            raise
        raise fault from None
    cursor.execute("RELEASE act")
    return value


def _run_act(conn: Connection, ledger: Ledger, job: Job) -> None:
    assert not isinstance(job.work, Submission)
    try:
        job.value = _attempt(conn, ledger, job.work)
    except _Abandoned:
        raise
    except Exception as error:  # noqa: BLE001 - its caller's, with the type it has
        job.error = error


def _fault_of(error: Exception) -> BrokerError:
    if isinstance(error, _Abandoned):
        return error.fault
    if isinstance(error, BrokerError):
        return error
    return as_fault(error)


def _fail(batch: Sequence[Job], fault: BrokerError) -> None:
    for job in batch:
        job.value, job.error = None, fault


def _call_all(calls: Sequence[Callable[[], None]]) -> None:
    for call in calls:
        call()
