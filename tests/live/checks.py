"""Judge a history: a class for each way in which a broker of messages can be wrong.

Modelled on Jepsen's checkers of queues. Each is pure, and says in words what it found;
nothing found in a history is clean. Nothing here uses code of the broker: what it believes
of itself must not decide what is right.
"""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import rfc8785

from tests.live.history import BROKER, Ban, History, Kind, Sent, Taken

MARK = re.compile(rb"Zm[a-z]{12}x")  # what the workload writes where the recipient may read it
SECRET = re.compile(rb"Z[mw][a-z]{12}x")  # the same, and what it writes where nobody may
OPEN = frozenset({"pending", "available"})
ENDED_WITHOUT = frozenset({"refused", "undeliverable", "expired"})


def mark_of(body: bytes) -> bytes:
    """Return the mark inside ``body``, or nothing."""
    found = MARK.search(body)
    return b"" if found is None else found.group()


def _hits(ban: Ban, sent: Sent) -> bool:
    return ban.what in sent.under


def _accepted(history: History) -> dict[bytes, float]:
    """Return when the sender was first told yes, by mark."""
    first: dict[bytes, float] = {}
    for event in history.of_kind(Kind.OK):
        first.setdefault(event.mark, event.at)
    return first


def lost(history: History) -> Iterator[str]:
    """Acknowledged, but not kept; or kept, and neither taken nor lawfully refused."""
    known = history.known()
    kept = {(row.sender, row.message_id) for row in history.kept}
    taken = {(mark_of(one.body), one.recipient) for one in history.taken}
    states = {(row.message_id, row.recipient): row.state for row in history.outcomes}
    collected = _collections(history)
    for mark, at in _accepted(history).items():
        sent = known[mark]
        if (sent.sender, sent.message_id) not in kept:
            yield f"{sent.message_id} was acknowledged and is not kept"
            continue
        state = states.get((sent.message_id, sent.recipient), "without a delivery")
        if (mark, sent.recipient) in taken:
            continue
        forbidden = any(_hits(ban, sent) and ban.until >= at for ban in history.bans)
        given = (sent.message_id, sent.recipient) in collected
        if not (forbidden and (state == "refused" or given)):
            yield f"{sent.message_id} was acknowledged, is {state}, and was never taken"


def _collections(history: History) -> set[tuple[str, str]]:
    """Return the message and recipient of what was given out of a mailbox, by the ledger.

    It is on record before the bytes are given: when a process dies between the two and the
    rules forbid the second reading, the recipient has seen nothing, or less than is on record.
    """
    entries = map(_read, (entry.written for entry in history.ledger))
    given = {_delivery(entry) for entry in entries if _fact(entry, "way") == "collected"}
    return {(row.message_id, row.recipient) for row in history.outcomes if row.delivery_id in given}


def duplicate(history: History) -> Iterator[str]:
    """More than one effect for a message and recipient without the mark that tells so."""
    marks: dict[tuple[bytes, str], set[str]] = defaultdict(set)
    for one in history.taken:
        marks[mark_of(one.body), one.recipient].add(one.delivery_id)
    for (mark, recipient), ids in marks.items():
        if len(ids) > 1:
            yield f"{mark.decode()} reached {recipient} under {len(ids)} delivery ids"
    rows = Counter((row.sender, row.message_id) for row in history.kept)
    for (sender, message_id), count in rows.items():
        if count > 1:
            yield f"{message_id} of {sender} is kept {count} times"


def phantom(history: History) -> Iterator[str]:
    """Taken or kept, but never sent."""
    invoked = {event.mark for event in history.of_kind(Kind.INVOKE)}
    ids = {event.message_id for event in history.of_kind(Kind.INVOKE)}
    for one in history.taken:
        if mark_of(one.body) not in invoked:
            yield f"{one.recipient} took {one.delivery_id}, which nobody sent"
    for row in history.kept:
        if row.sender != BROKER and row.message_id not in ids:
            yield f"{row.message_id} is kept, and nobody sent it"


def aborted_read(history: History) -> Iterator[str]:
    """Taken, although its sender was told no."""
    refused = {event.mark for event in history.of_kind(Kind.FAIL)} - _accepted(history).keys()
    for one in history.taken:
        if mark_of(one.body) in refused:
            yield f"{one.recipient} took {one.delivery_id}, whose sender was told no"


def unauthorised(history: History) -> Iterator[str]:
    """Taken while what it rests on was forbidden, or by another than its recipient."""
    known = history.known()
    for one in history.taken:
        sent = known.get(mark_of(one.body))
        if sent is None:
            continue
        if one.recipient != sent.recipient:
            yield f"{one.recipient} took {one.delivery_id}, meant for {sent.recipient}"
        for ban in history.bans:
            if _hits(ban, sent) and ban.since <= one.at <= ban.until:
                late = one.at - ban.since
                to = f"handed over to {one.recipient} {late:.2f} s after"
                yield f"{one.delivery_id} was {to} {ban.what} was {ban.how}"


def over_shared(history: History) -> Iterator[str]:
    """A withheld value at any recipient, or any secret where nobody should find one."""
    known = history.known()
    for one in history.taken:
        sent = known.get(mark_of(one.body))
        for secret in () if sent is None else sent.withheld:
            if secret in one.body:
                yield f"{one.recipient} was shown a withheld value in {one.delivery_id}"
    owners = {s: sent.message_id for sent in history.sent for s in (sent.mark, *sent.withheld)}
    for place, content in history.places.items():
        for secret in set(SECRET.findall(content)) & owners.keys():
            yield f"a value of {owners[secret]} is in {place}"


def order_inversion(history: History) -> Iterator[str]:
    """A later message of one sender, recipient and subject taken before an earlier one."""
    known = history.known()
    latest: dict[tuple[str, str, str], int] = {}
    seen: set[bytes] = set()
    for one in sorted(history.taken, key=lambda one: one.at):
        sent = known.get(mark_of(one.body))
        if sent is None or sent.mark in seen:
            continue  # a repetition is told by its delivery id, and changes no order
        seen.add(sent.mark)
        before = latest.get(sent.stream, -1)
        if sent.ordinal < before:
            where = f"of {sent.sender} to {sent.recipient} about {sent.subject}"
            yield f"{sent.message_id} ({sent.ordinal}) {where} was taken after number {before}"
        latest[sent.stream] = max(before, sent.ordinal)


def unaudited(history: History) -> Iterator[str]:
    """Without its ledger entry: what is kept, what was taken, what has ended; or entries twice."""
    entries = [_read(entry.written) for entry in history.ledger]
    accepted = Counter(str(e["submission"]) for e in entries if e.get("kind") == "submission")
    for row in history.kept:
        if accepted[row.submission] != 1:
            yield f"{row.message_id} has {accepted[row.submission]} entries of its acceptance"
    rows = {row.submission for row in history.kept}
    for submission in accepted.keys() - rows:
        yield f"the ledger has {submission}, which is not kept"
    ended = _endings(entries)
    # What is open has no end to be told yet; that it is open is what `stuck` says.
    open_ = {row.delivery_id for row in history.outcomes if row.state in OPEN}
    for one in history.taken:
        if one.delivery_id in open_ or "L2" in ended[one.delivery_id]:
            continue
        if not _in_doubt(entries, one):
            yield f"{one.delivery_id} was taken by {one.recipient}, and the ledger does not say so"
    for outcome in history.outcomes:
        if outcome.state in ENDED_WITHOUT and outcome.state not in ended[outcome.delivery_id]:
            yield f"{outcome.delivery_id} is {outcome.state}, and the ledger does not say so"
        if outcome.state == "delivered" and "L2" not in ended[outcome.delivery_id]:
            yield f"{outcome.delivery_id} is delivered, and the ledger does not say so"
    yield from _twice(entries)


def _read(written: bytes) -> dict[str, object]:
    try:
        read = json.loads(written)
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def _endings(entries: list[dict[str, object]]) -> Mapping[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        if entry.get("kind") == "evidence":
            found[_delivery(entry)].add(str(entry.get("level")))
    return found


def _fact(entry: dict[str, object], name: str) -> str:
    facts = entry.get("facts")
    return str(facts.get(name, "")) if isinstance(facts, dict) else ""


def _delivery(entry: dict[str, object]) -> str:
    return _fact(entry, "delivery")


def _in_doubt(entries: list[dict[str, object]], one: Taken) -> bool:
    """Whether the ledger says that the recipient may have it, though nobody says so.

    A process that dies with the recipient's answer in its hand cannot record it, and a
    recipient can hang up without one; when the rules then stop the next attempt, the entry
    of that end has to say after how many attempts it may have arrived.
    """
    return any(
        _delivery(entry) == one.delivery_id
        and entry.get("level") in ENDED_WITHOUT
        and int(_fact(entry, "in_doubt") or 0) > 0
        for entry in entries
    )


def _twice(entries: list[dict[str, object]]) -> Iterator[str]:
    levels = Counter(
        (_delivery(e), str(e.get("level"))) for e in entries if e.get("kind") == "evidence"
    )
    for (delivery, level), count in levels.items():
        if count > 1:
            yield f"{delivery} has {count} entries of {level}"


def ledger_broken(history: History) -> Iterator[str]:
    """Not a chain of canonical entries with their RFC 6962 leaf hashes, counted from 0."""
    for expected, entry in enumerate(history.ledger):
        if entry.sequence != expected:
            yield f"entry {entry.sequence} stands where {expected} belongs"
            return
        if hashlib.sha256(b"\0" + entry.written).digest() != entry.leaf:
            yield f"entry {expected} does not have its leaf hash"
        read = _read(entry.written)
        if read.get("seq") != expected or rfc8785.dumps(read) != entry.written:  # type: ignore[arg-type]
            yield f"entry {expected} is not canonical, or names another number"


def receipts_differ(history: History) -> Iterator[str]:
    """Two receipts for one id; or two bodies accepted under it."""
    receipts: dict[bytes, set[bytes]] = defaultdict(set)
    bodies: dict[tuple[str, str], set[bytes]] = defaultdict(set)
    known = history.known()
    for event in history.of_kind(Kind.OK):
        receipts[event.mark].add(event.receipt)
        bodies[known[event.mark].sender, event.message_id].add(event.mark)
    for mark, seen in receipts.items():
        if len(seen) > 1:
            yield f"{known[mark].message_id} got {len(seen)} different receipts"
    for (_sender, message_id), marks in bodies.items():
        if len(marks) > 1:
            yield f"{len(marks)} different bodies were accepted as {message_id}"


def stuck(history: History) -> Iterator[str]:
    """Still open after the drain, or a client that never learned the fate of its message."""
    for row in history.outcomes:
        if row.state in OPEN:
            yield f"{row.delivery_id} is {row.state} after the drain"
    told = {event.mark for event in history.events if event.kind in {Kind.OK, Kind.FAIL}}
    for mark in {event.mark for event in history.events} - told:
        yield f"{mark.decode()} was never answered"


Check = Callable[[History], Iterator[str]]
CHECKS: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        lost,
        duplicate,
        phantom,
        aborted_read,
        unauthorised,
        over_shared,
        order_inversion,
        unaudited,
        ledger_broken,
        receipts_differ,
        stuck,
    )
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What each check found; a clean history has none."""

    found: Mapping[str, tuple[str, ...]]

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not any(self.found.values())

    @property
    def red(self) -> frozenset[str]:
        """The checks that found something."""
        return frozenset(name for name, words in self.found.items() if words)

    def __str__(self) -> str:
        """Return the findings, a line each; a few of each check are enough to begin with."""
        lines = [f"{name}: {words}" for name, found in self.found.items() for words in found[:5]]
        return "\n".join(lines) or "clean"


def judge(history: History) -> Verdict:
    """Put every check to ``history``."""
    return Verdict({name: tuple(check(history)) for name, check in CHECKS.items()})
