"""Local flows (tier 3): what two parties agree between them, only ever narrower than its parent.

From the day it begins, a local flow takes the place of the flow of the same id above it, for
its parties alone. Suspended or ended, it does not bring back what it had narrowed (ISP-3.12).
"""

from collections.abc import MutableMapping
from dataclasses import replace

from broker.core.clause import Clause, Pair
from broker.core.sharing import END_OF_TIME, LOCAL_TIER
from broker.core.table import Mistake
from broker.core.widening import differences


def narrowed_locally(index: MutableMapping[Pair, list[Clause]]) -> None:
    """End every clause where a local one takes its place.

    Raises:
        Mistake: a local flow has none above it, or lets pass what that one does not.
    """
    for clauses in index.values():
        for local in [one for one in clauses if one.protocol.tier == LOCAL_TIER]:
            clauses.remove(local)
            parent = _parent(local, clauses)
            place = clauses.index(parent)
            clauses[place : place + 1] = [local, _ended(parent, local)]


def _ended(parent: Clause, local: Clause) -> Clause:
    start = local.protocol.in_force_from or END_OF_TIME
    end = min(parent.protocol.in_force_until or END_OF_TIME, start)
    protocol = replace(parent.protocol, in_force_until=end)
    return replace(
        parent,
        protocol=protocol,
        chain=(protocol, *parent.chain[1:]),
        stands_until=min(parent.stands_until, end),
    )


def _parent(local: Clause, clauses: list[Clause]) -> Clause:
    above = local.chain[1].reference
    for clause in clauses:
        if clause.clause_id == local.clause_id and clause.protocol.reference == above:
            wider = _wider(clause, local)
            if wider:
                raise _mistake(local, f"a local flow only narrows {above}: {wider}")
            return clause
    raise _mistake(local, f"give it the id, parties and message types of a flow of {above}")


def _wider(parent: Clause, local: Clause) -> str:
    """Return how ``local`` is wider; the dates cannot be, since its chain holds the parent."""
    if not local.versions <= parent.versions:
        return f"{local.message_type} in more versions"
    if not local.purposes <= parent.purposes:
        return "for more purposes"
    found = [one for one in differences(parent, local) if one.aspect != "dates"]
    return found[0].words if found else ""


def _mistake(local: Clause, cure: str) -> Mistake:
    return Mistake(local.protocol.file, f"flow {local.clause_id}", "", cure)
