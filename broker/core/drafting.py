"""A register in which a draft is in force, to ask what it would do. Nothing is decided by one.

A draft begins some day, and lacks signatures: asked of messages that came before that day it
would refuse them all, which nobody wants to know. So it counts here as signed by all and in
force from the beginning of time. Its end, its review date and what it stands on count as ever.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from broker.core.policy_log import digest_of_agreement
from broker.core.protocol import Register, compile_register
from broker.core.sharing import (
    BEGINNING_OF_TIME,
    STOPPED_STATES,
    UNSIGNED_STATES,
    SharingProtocol,
    Vocabulary,
    parse_protocol,
)
from broker.core.table import Table


def parse_draft(content: Mapping[str, object], register: Register, file: str) -> SharingProtocol:
    """Return the draft of one file, read with the agencies and gateways of ``register``.

    Raises:
        Mistake: it is not complete, or names what does not exist.
    """
    types = {name: agency.type for name, agency in register.agencies.items()}
    vocabulary = Vocabulary(
        types,
        register.gateways,
        frozenset(register.purposes),
        register.lists,
        register.clock_rules,
    )
    return parse_protocol(Table(content, file), vocabulary)


def with_drafts(register: Register, drafts: Iterable[SharingProtocol]) -> Register:
    """Return ``register`` with the drafts in force, each in place of every version before it.

    Raises:
        Mistake: one stands on what is not there, or binds an agency that it may not.
    """
    wanted = {one.protocol_id: _in_force(one) for one in drafts}
    kept = [one for one in register.protocols.values() if one.protocol_id not in wanted]
    below = {old: wanted[name].reference for old, name in _replaced(register, wanted).items()}
    protocols = [
        replace(one, parent=below.get(one.parent or "", one.parent))
        for one in (*kept, *wanted.values())
    ]
    return compile_register(
        agencies=register.agencies,
        gateways=register.gateways,
        purposes=register.purposes,
        lists=register.lists,
        protocols=protocols,
        digest="draft",
        calendar=register.calendar,
        clock_rules=register.clock_rules,
    )


def changed(before: Register, after: Register) -> tuple[SharingProtocol, ...]:
    """Return the newest version of each protocol of ``after`` that ``before`` does not hold so.

    Who signed it when makes no difference; that it is stopped does.
    """
    newest: dict[str, SharingProtocol] = {}
    for one in sorted(after.protocols.values(), key=lambda one: one.version):
        newest[one.protocol_id] = one
    known = {reference: _said(one) for reference, one in before.protocols.items()}
    return tuple(one for one in newest.values() if known.get(one.reference) != _said(one))


def _said(protocol: SharingProtocol) -> tuple[str, bool]:
    return digest_of_agreement(protocol.terms), protocol.status in STOPPED_STATES


def _in_force(draft: SharingProtocol) -> SharingProtocol:
    status = "ACTIVE" if draft.status in UNSIGNED_STATES else draft.status
    return replace(draft, status=status, in_force_from=BEGINNING_OF_TIME)


def _replaced(register: Register, wanted: Mapping[str, SharingProtocol]) -> dict[str, str]:
    """Return the references that a draft replaces, each with the id: others stand on them."""
    return {
        reference: one.protocol_id
        for reference, one in register.protocols.items()
        if one.protocol_id in wanted
    }
