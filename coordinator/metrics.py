"""Prometheus metrics of one coordinator, in a registry of its own so that several can live in one process."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from coordinator.context import Context
from coordinator.model import Job, Phase

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 86400)


class Metrics:
    """What `/metrics` shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        named = self.registry
        self._jobs = Gauge("consortium_jobs", "Jobs by phase", ["phase"], registry=named)
        self._moves = Counter("consortium_job_transitions", "Changes of phase", ["to"], registry=named)
        self._duration = Histogram(
            "consortium_phase_seconds", "Time spent in a phase", ["phase"], buckets=_SECONDS, registry=named
        )
        self._offset = Gauge("consortium_peer_clock_offset_seconds", "Peer's clock minus own", ["peer"], registry=named)
        self._delay = Gauge(
            "consortium_peer_round_trip_seconds", "Shortest recent round trip", ["peer"], registry=named
        )
        self._silence = Gauge(
            "consortium_peer_silence_seconds", "Since both directions worked", ["peer"], registry=named
        )
        self._slots = Gauge("consortium_slots_used", "Slots held by jobs", registry=named)
        self._slots_all = Gauge("consortium_slots", "Slots of this party", registry=named)
        self._height = Gauge("consortium_audit_records", "Records in the audit chain", registry=named)
        self._confirmed = Gauge(
            "consortium_audit_confirmed", "Own audit record that the peer confirmed last", ["peer"], registry=named
        )
        self._fault = Gauge("consortium_audit_fault", "1 if the peer rewrote its audit log", ["peer"], registry=named)
        self.refused = Counter(
            "consortium_messages_refused", "Messages of peers refused", ["peer", "status"], registry=named
        )
        self._since: dict[str, float] = {}

    def moved(self, old: Job, new: Job) -> None:
        """Count a change of phase and the time spent in the phase left."""
        now = time.monotonic()
        if old.phase is not new.phase:
            if old.job_id in self._since:
                self._duration.labels(old.phase).observe(now - self._since[old.job_id])
            self._moves.labels(new.phase).inc()
            self._since[new.job_id] = now
        if new.phase.terminal:
            self._since.pop(new.job_id, None)

    def render(self, context: Context) -> bytes:
        """The text Prometheus reads, with the present state looked up."""
        counts = context.store.phase_counts()
        for phase in Phase:
            self._jobs.labels(phase).set(counts.get(phase, 0))
        for name, state in context.peers.state.items():
            self._silence.labels(name).set(state.lost_for(time.monotonic()))
            ours = context.store.last_head(context.config.party, name)
            self._confirmed.labels(name).set(ours.head.seq if ours else 0)
            self._fault.labels(name).set(name in context.heads.faults)
            if best := state.best:
                self._offset.labels(name).set(best.offset_s)
                self._delay.labels(name).set(best.delay_s)
        self._slots.set(len(context.store.used_slots()))
        self._slots_all.set(context.config.slots)
        self._height.set((context.store.head() or (0, ""))[0])
        return generate_latest(self.registry)
