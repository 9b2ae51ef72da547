"""What Prometheus is shown of the present: looked up when it asks, so that nothing can be out of date."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.metrics_core import Metric

from coordinator import views
from coordinator.context import Context
from coordinator.model import Phase


class Look:
    """A collector over one context."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def collect(self) -> Iterator[Metric]:
        """All gauges."""
        yield from _jobs(self._context)
        yield from _peers(self._context)
        yield from _leases(self._context)
        yield from _chain(self._context)
        yield from _surroundings(self._context)


def render(context: Context) -> bytes:
    """The text Prometheus reads."""
    gauges = CollectorRegistry()
    gauges.register(Look(context))
    return generate_latest(context.metrics.registry) + generate_latest(gauges)


def _jobs(context: Context) -> Iterator[Metric]:
    counts = context.store.phase_counts()
    jobs = Gauge("consortium_jobs", "Jobs kept here, by phase at this party.", labels=["phase"])
    for phase in Phase:
        jobs.add_metric([phase], counts.get(phase, 0))
    yield jobs
    yield Gauge("consortium_slots", "Slots of this party.", context.config.slots)
    yield Gauge("consortium_slots_used", "Slots held by jobs.", len(context.store.used_slots()))
    yield Gauge("consortium_queue_jobs", "Approved jobs that wait for a start.", counts.get(Phase.APPROVED, 0))
    wanted, since = context.store.approvals_wanted(context.config.party)
    yield Gauge("consortium_approvals_wanted", "Jobs that wait for this party's yes or no.", wanted)
    age_s = max(0.0, time.time() - since) if since is not None else 0.0
    yield Gauge(
        "consortium_approval_wait_seconds", "Age of the job that waits longest for this party; 0 if none.", age_s
    )


def _peers(context: Context) -> Iterator[Metric]:
    up = Gauge("consortium_peer_up", "1 while both directions to a peer's coordinator work.", labels=["peer"])
    silence = Gauge("consortium_peer_silence_seconds", "Time since both directions worked.", labels=["peer"])
    offset = Gauge("consortium_peer_clock_offset_seconds", "Peer's clock minus own, best of several.", labels=["peer"])
    delay = Gauge("consortium_peer_round_trip_seconds", "Shortest recent round trip to a peer.", labels=["peer"])
    height = Gauge("consortium_peer_audit_records", "Records in a peer's audit log, as it last said.", labels=["peer"])
    confirmed = Gauge("consortium_audit_confirmed_records", "Own records that a peer confirmed.", labels=["peer"])
    fault = Gauge("consortium_peer_audit_fault", "1 when a peer's audit log contradicts itself.", labels=["peer"])
    known, now = views.peers(context), time.monotonic()
    for name in sorted(context.config.peers):
        state = context.peers.state[name]
        up.add_metric([name], known[name]["up"])
        silence.add_metric([name], state.lost_for(now))
        audit = known[name]["audit"]
        height.add_metric([name], audit["seq"])
        confirmed.add_metric([name], audit["confirmed"])
        fault.add_metric([name], bool(audit["fault"]))
        if best := state.best:
            offset.add_metric([name], best.offset_s)
            delay.add_metric([name], best.delay_s)
    yield from (up, silence, offset, delay, height, confirmed, fault)
    bound_s = context.config.limits.clock_skew_ms / 1000
    yield Gauge("consortium_clock_offset_limit_seconds", "Offset at which an attempt is refused.", bound_s)


def _leases(context: Context) -> Iterator[Metric]:
    """One row per held slot and peer: the slot names the attempt, and there are few of them."""
    lease = Gauge(
        "consortium_lease_age_seconds",
        "Time since a peer showed the attempt in this slot alive.",
        labels=["slot", "peer"],
    )
    now = time.monotonic()
    for slot, job_id in context.store.used_slots().items():
        job = context.store.load(job_id)
        if job is None or job.phase not in (Phase.STARTING, Phase.RUNNING):
            continue
        attempt = (job_id, job.attempt)
        watched = context.watched_since.get(attempt, now)
        for peer in job.others:
            lease.add_metric(
                [str(slot), peer], now - max(watched, context.peers.state[peer].alive.get(attempt, watched))
            )
    yield lease
    yield Gauge(
        "consortium_lease_limit_seconds", "Lease age that ends an attempt.", context.config.timeouts.peer_lost_after_s
    )


def _chain(context: Context) -> Iterator[Metric]:
    seq = (context.store.head() or (0, ""))[0]
    yield Gauge("consortium_audit_records", "Records in this party's audit log.", seq)
    last = next(context.store.records(seq), None)
    if last is not None:
        at = json.loads(last.content)["at"]
        yield Gauge(
            "consortium_audit_last_record_timestamp_seconds", "When the last record was written, Unix time.", at
        )


def _surroundings(context: Context) -> Iterator[Metric]:
    ends = Gauge(
        "consortium_certificate_expiry_timestamp_seconds",
        "End of a certificate, Unix time; absent when it cannot be read here.",
        labels=["certificate"],
    )
    for name, at in views.certificate_ends(context).items():
        ends.add_metric([name], at)
    yield ends
    disk = shutil.disk_usage(context.config.state_dir)
    yield Gauge("consortium_state_disk_free_bytes", "Free space where the state is kept.", disk.free)
    yield Gauge("consortium_state_disk_size_bytes", "Size of the file system with the state.", disk.total)
    ray_s = time.monotonic() - context.ray_failing_since if context.ray_failing_since else 0.0
    yield Gauge(
        "consortium_ray_silence_seconds", "Time since the own Ray stopped answering; 0 while it answers.", ray_s
    )
    info = Gauge("consortium_info", "1; who this is.", labels=["consortium", "party"])
    info.add_metric([context.config.consortium, context.config.party], 1)
    yield info
