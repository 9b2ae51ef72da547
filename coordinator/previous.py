"""The last program of the same name that this party approved: what a new one is compared with."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.accept import RefusedError
from coordinator.bundle import BundleError, unpack
from coordinator.compare import changed_files, changed_terms
from coordinator.context import Context
from coordinator.model import Job
from coordinator.statements import Kind


@dataclass(frozen=True)
class Previous:
    """An approved job, and what is different now; `diff`: path -> unified diff."""

    job_id: str
    initiator: str
    program_digest: str
    approved_at: float  # seconds since 1970, own clock
    by: str  # policy, person or initiator
    diff: dict[str, str]
    proposal_diff: str  # what is proposed besides the files: parameters, datasets, parties, versions

    @property
    def text(self) -> str:
        """All of it as one unified diff; empty when the same was approved then."""
        return self.proposal_diff + "".join(self.diff.values())


def job_folder(context: Context, job: Job) -> dict[str, bytes]:
    """The job's files. Raises RefusedError 404 while they are not here."""
    try:
        data = context.bundle_path(job.proposal.program_digest).read_bytes()
        return unpack(data, context.config.limits.bundle_bytes)
    except (OSError, BundleError) as e:
        raise RefusedError(404, f"job {job.job_id}: its job folder is not here yet: {e}") from e


def approved_before(context: Context, job: Job) -> Job | None:
    """The newest other job of this name that this party approved and whose files are here: of the same initiator if
    there is one, else of anyone."""
    for job_id in context.store.approved_before(job.job_id, job.proposal.name, job.initiator):
        found = context.store.load(job_id)
        if found and context.bundle_path(found.proposal.program_digest).exists():
            return found
    return None


def compared(context: Context, earlier: Job, job: Job) -> Previous:
    """What is different now. Reads both folders and compares: to be called beside the loop."""
    said = earlier.approvals()[earlier.me]
    return Previous(
        job_id=earlier.job_id,
        initiator=earlier.initiator,
        program_digest=earlier.proposal.program_digest,
        approved_at=_approved_at(context, earlier),
        by=said.by,
        diff=changed_files(job_folder(context, earlier), job_folder(context, job)),
        proposal_diff=changed_terms(earlier.proposal, job.proposal),
    )


def _approved_at(context: Context, job: Job) -> float:
    """When the own approval was written."""
    own = [Kind.APPROVAL, 0, job.me]
    for event in context.store.events_of(job.job_id):
        if any(statement[:3] == own for statement in event.get("statements", [])):
            return float(event["at"])
    raise AssertionError(f"{job.job_id}: approved without an event")  # both are written in one transaction
