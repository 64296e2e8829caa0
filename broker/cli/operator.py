"""The operators' interface of a running broker."""

from collections.abc import Iterator, Mapping
from typing import Any

import httpx2

from broker.cli.client import ask
from broker.core.outcome import DiscardCause

BROKER = "fame-broker"
PAGE = 100


def dead_letters(made: httpx2.Client) -> Iterator[Mapping[str, Any]]:
    """Yield every delivery that was given up and that nobody has dealt with, page by page."""
    after: dict[str, str] = {}
    while True:
        params = {"limit": str(PAGE), **after}
        page = ask(made, "GET", "/operator/dead-letters", params=params).json()["dead_letters"]
        yield from page
        if len(page) < PAGE:
            return
        after = {"after": page[-1]["delivery_id"]}


def replay_delivery(made: httpx2.Client, delivery: str) -> Mapping[str, Any]:
    """Put ``delivery`` back into the queue and return what the broker says."""
    return dict(ask(made, "POST", f"/operator/deliveries/{delivery}/replay").json())


def discard_delivery(made: httpx2.Client, delivery: str, why: DiscardCause) -> Mapping[str, Any]:
    """Let ``delivery`` go and return what the broker says."""
    path = f"/operator/deliveries/{delivery}/discard"
    headers = {"content-type": "application/json"}
    return dict(ask(made, "POST", path, json={"why": why.value}, headers=headers).json())
