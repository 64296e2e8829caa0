"""Metrics for Prometheus, in a registry of the broker's own.

Label values come from the register, the catalogue and `Reason` only: whoever calls cannot
make a new time series, nor put a name into one.
"""

from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

import broker
from broker.core.message import Header
from broker.core.outcome import Decision, Permitted
from broker.core.reasons import Reason

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

Rows = Iterable[tuple[str, float]]


class Metrics:
    """Every metric of one broker process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.received = self._counter(
            "fame_messages_received", "Messages accepted.", "agency", "type"
        )
        self.rejected = self._counter(
            "fame_messages_rejected", "Submissions turned away, by reason code.", "stage", "code"
        )
        self.decisions = self._counter(
            "fame_policy_decisions", "Decisions for one recipient each.", "decision", "agreement"
        )
        self.overrides = self._counter(
            "fame_policy_overrides", "Disclosures that passed without consent.", "agreement"
        )
        self.deliveries = self._counter(
            "fame_delivery_attempts", "Attempts to hand a message over.", "adapter", "outcome"
        )
        self.tokens = self._counter("fame_tokens", "Requests for an access token.", "outcome")
        stages = Histogram(
            "fame_pipeline_stage_duration_seconds",
            "Time in one stage of the submit path.",
            ["stage"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.examine = stages.labels("examine")
        self.decide = stages.labels("decide")
        self.minimise = stages.labels("minimise")
        self.commit = stages.labels("commit")
        self._bound: dict[tuple[str, ...], Counter] = {}
        self.in_flight = Gauge(
            "fame_submissions_in_flight", "Submissions that have come.", registry=self.registry
        )
        self.waiting = Gauge(
            "fame_submissions_waiting", "Those that wait for a turn.", registry=self.registry
        )
        self.queue_depth = self._gauge(
            "fame_queue_depth_messages", "Deliveries that the recipient does not have yet.", "route"
        )
        self.oldest_undelivered = self._gauge(
            "fame_oldest_undelivered_seconds", "Age of the oldest of them.", "route"
        )
        self.dead_letters = self._gauge(
            "fame_dead_letters", "Deliveries given up that no operator has dealt with.", "route"
        )
        self.quarantined = self._gauge(
            "fame_quarantined_records", "Records of a topic that could not be used.", "route"
        )
        self.records = self._counter(
            "fame_transport_records", "Records given to the cluster.", "route", "outcome"
        )
        self.log_lines_lost = self._gauge(
            "fame_log_lines_lost", "Log lines that could not be written, since the start."
        )
        self.ledger_entries = self._gauge("fame_ledger_entries", "Entries in the ledger.")
        build = Gauge(
            "fame_build_info", "The running version.", ["version"], registry=self.registry
        )
        build.labels(broker.__version__).set(1)

    def decided(self, decision: Decision) -> None:
        """Count one decision, by the sharing protocol it rests on (none: blank)."""
        outcome = "permitted" if isinstance(decision, Permitted) else "refused"
        self._count(self.decisions, outcome, decision.protocol or "")
        if isinstance(decision, Permitted) and decision.override is not None:
            self._count(self.overrides, decision.protocol)

    def accepted(self, header: Header) -> None:
        """Count one message that was accepted; its sender and type are registered ones."""
        self._count(self.received, header.sender, header.message_type)

    def attempted(self, adapter: str, outcome: str) -> None:
        """Count one attempt to deliver."""
        self._count(self.deliveries, adapter, outcome)

    def carried(self, recipient: str, outcome: str) -> None:
        """Count one record that the cluster has, or did not take."""
        self._count(self.records, recipient, outcome)

    def turned_away(self, stage: str, reason: Reason) -> None:
        """Count one submission that was not accepted."""
        self._count(self.rejected, stage, reason.value)

    def _count(self, counter: Counter, *labels: str) -> None:
        # prometheus_client checks and looks up labels under a lock each time: 2 µs.
        key = (str(id(counter)), *labels)
        child = self._bound.get(key)
        if child is None:
            child = self._bound[key] = counter.labels(*labels)
        child.inc()

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(name, words, labels, registry=self.registry)

    def _gauge(self, name: str, words: str, *labels: str) -> Gauge:
        return Gauge(name, words, labels, registry=self.registry)

    def render(self) -> bytes:
        """Return the text that Prometheus collects."""
        return generate_latest(self.registry)

    def ask(self, name: str, words: str, label: str, read: Callable[[], Rows]) -> None:
        """Register a gauge whose rows, ``(label value, number)``, are read when collected."""
        self.registry.register(_Asked(name, words, label, read))


class _Asked:
    """A gauge that holds nothing itself."""

    def __init__(self, name: str, words: str, label: str, read: Callable[[], Rows]) -> None:
        self._name, self._words, self._label, self._read = name, words, label, read

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(self._name, self._words, labels=[self._label])
        for value, number in self._read():
            family.add_metric([value], number)
        yield family
