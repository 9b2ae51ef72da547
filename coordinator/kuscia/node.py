"""The party's own node as its coordinator holds it: the way to it, and what it said last."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass, field

from coordinator.config import ConfigError, Kuscia
from coordinator.kuscia.api import KusciaApi
from coordinator.kuscia.channel import Channel, tls
from coordinator.kuscia.errors import KusciaError
from coordinator.kuscia.models import JobState, KusciaJob
from coordinator.model import Job
from coordinator.statements import job_name

_SHOWN = frozenset({JobState.RUNNING, JobState.FAILED, JobState.SUCCEEDED})


@dataclass
class Node:
    """Lost in a crash, by design: the node says it all again."""

    api: KusciaApi
    url: str
    told: dict[str, KusciaJob] = field(default_factory=dict)  # name of a KusciaJob of a job not ended -> as last seen
    refused: dict[str, str] = field(default_factory=dict)  # name of a KusciaJob -> why the node will not make it
    turned_away: dict[str, JobState] = field(default_factory=dict)  # KusciaJobs answered with no -> when they were so
    failing: str = ""  # why it does not answer as it should; empty while it does
    failing_since: float | None = None  # monotonic seconds

    def fails(self, error: KusciaError) -> bool:
        """Note that a call failed; True for the first after it was well."""
        first = not self.failing
        self.failing, self.failing_since = str(error)[:1000], self.failing_since or time.monotonic()
        return first

    def parties_of(self, job: Job) -> dict[str, str]:
        """Party -> how it stands to the job, as the node told it last; parties of which it told nothing are missing."""
        newest = (self.told.get(job_name(job.job_id, n)) for n in (job.attempt + 1, job.attempt))
        found = next((there for there in newest if there), None)
        if found is None:
            return {}
        if found.status.state is JobState.SUSPENDED:  # tasks that were stopped are told as failed
            return dict.fromkeys(found.parties, "suspended")
        words = {"JobAccepted": "approved", "JobRejected": "denied"}
        told = {p: words[answer] for p, answer in found.status.answers().items() if answer in words}
        running = [(one.domain_id, one.state) for task in found.status.tasks for one in task.parties]
        return told | {party: state.lower() for party, state in running if state in _SHOWN}

    def answers(self) -> bool:
        """Note that it answered; True for the first after it was not well."""
        back = bool(self.failing)
        self.failing, self.failing_since = "", None
        return back


def open_node(settings: Kuscia, token: str) -> Node:
    """Raises ConfigError naming the file that cannot be used."""
    try:
        context = tls(settings.ca_file, settings.certificate_file, settings.key_file)
    except (OSError, ssl.SSLError) as e:
        files = f"{settings.ca_file}, {settings.certificate_file}, {settings.key_file}"
        raise ConfigError(f"kuscia: {files}: cannot be used for TLS: {e}") from e
    return Node(KusciaApi(Channel(settings.url, context, token)), settings.url)
