"""Let a recipient have of a payload what its clause allows, and no more.

Nothing withheld: the recipient gets the sender's signed bytes as they are. Something withheld:
a reduced envelope, which the broker signs, with salted digests of every value, so that what
remains can be checked against the original and what was withheld cannot be guessed.
"""

import hmac
from dataclasses import dataclass, field

from broker.core.facts import Categories
from broker.core.identity import AgencyId
from broker.core.message import ValidMessage
from broker.core.outcome import FieldRule, Permitted
from broker.core.plan import Node, make_plan
from broker.core.reduce import Reducer, Withheld, reduced_envelope

BROKER = AgencyId("fame-broker")
PLANS_MAX = 10_000

# Plans made, by clause and message type, with what they were made from: `_plan_of` looks
# whether that is still the same, so that a plan of an older register is never used.
_plans: dict[tuple[object, ...], tuple[tuple[FieldRule, ...], Categories, Node]] = {}


@dataclass(frozen=True, slots=True)
class Minimised:
    """``body`` is the unsigned reduced envelope, or None: the recipient gets the original."""

    body: bytes | None = field(repr=False)
    withheld: tuple[Withheld, ...] = ()


UNTOUCHED = Minimised(None)


def minimise(
    message: ValidMessage,
    permitted: Permitted,
    schemas: Categories,
    salt_key: bytes,
    *,
    broker: AgencyId = BROKER,
) -> Minimised:
    """Return what the recipient that ``permitted`` is about may have of ``message``.

    ``salt_key`` is a secret of 32 bytes, the same for all messages: the salts are derived from
    it and from the message's digest, so that one says nothing about another.
    """
    # step 9, ISP-9.1 to 9.3
    plan = _plan_of(message, permitted, schemas)
    # step 9, ISP-9.6: where a clause withholds what must not be known to exist, whoever got
    # the original now and then would know by that. So nobody ever does.
    if plan.whole or not (plan.hides or plan.touches(message.payload)):
        return UNTOUCHED
    reducer = Reducer(
        salt_key=hmac.digest(salt_key, message.digest, "sha256"),
        hash_key=hmac.digest(salt_key, permitted.protocol.encode(), "sha256"),
    )
    payload = reducer.reduce(message.payload, plan)
    body = reduced_envelope(message, permitted, payload, reducer, broker)
    return Minimised(body, tuple(reducer.withheld))


def _plan_of(message: ValidMessage, permitted: Permitted, schemas: Categories) -> Node:
    header = message.header
    key = (
        permitted.protocol,
        permitted.version,
        permitted.clause,
        permitted.strip_location,
        permitted.reach,
        header.message_type,
        header.schema_version,
    )
    made = _plans.get(key)
    if made is not None and made[0] is permitted.fields and made[1] is schemas:
        return made[2]
    categories = schemas.categories(header.message_type, header.schema_version)
    plan = make_plan(
        permitted.fields,
        categories,
        strip_location=permitted.strip_location,
        reach=permitted.reach,
    )
    if len(_plans) >= PLANS_MAX:
        _plans.clear()
    _plans[key] = (permitted.fields, schemas, plan)
    return plan
