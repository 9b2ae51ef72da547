"""What KusciaAPI says of a job, as models. A peer's node is a stranger: lengths are bounded, unknown fields ignored.

Names and spellings: proto/api/v1alpha1/kusciaapi/job.proto of Kuscia. An answer to `query` has every field; an event of
`watch` leaves out what is empty.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

Word = Annotated[str, StringConstraints(max_length=253)]
Text = Annotated[str, BeforeValidator(lambda v: v[:4000] if isinstance(v, str) else v)]
MANY = 1000


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class JobState(StrEnum):
    """Of a job, and of each of its tasks. Kuscia's phase `initialized` has no word here: it is told as `Unknown`."""

    UNKNOWN = "Unknown"
    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    AWAITING_APPROVAL = "AwaitingApproval"
    APPROVAL_REJECT = "ApprovalReject"
    CANCELLED = "Cancelled"
    SUSPENDED = "Suspended"


def _state(value: object) -> object:
    """A spelling that a later Kuscia brings is `Unknown`: what is not understood is waited for, not judged."""
    return value if value in set(JobState) else JobState.UNKNOWN


State = Annotated[JobState, BeforeValidator(_state)]


class PartyState(_Answer):
    """How one party stands: to the job's stage, or to the question whether it agrees."""

    domain_id: Word
    state: Word = ""


class PartyTask(_Answer):
    """How a task goes at one party."""

    domain_id: Word
    state: State = JobState.UNKNOWN
    err_msg: Text = ""


class TaskState(_Answer):
    """How one task of a job goes. Times: RFC 3339, by the initiator's clock; empty before."""

    task_id: Word = ""
    alias: Word = ""
    state: State = JobState.UNKNOWN
    err_msg: Text = ""
    start_time: Word = ""
    end_time: Word = ""
    progress: float = 0.0
    parties: Annotated[tuple[PartyTask, ...], Field(max_length=MANY)] = ()


class JobStatus(_Answer):
    """How a job goes."""

    state: State = JobState.UNKNOWN
    err_msg: Text = ""
    create_time: Word = ""
    start_time: Word = ""
    end_time: Word = ""
    tasks: Annotated[tuple[TaskState, ...], Field(max_length=MANY)] = ()
    stage_status_list: Annotated[tuple[PartyState, ...], Field(max_length=MANY)] = ()
    approve_status_list: Annotated[tuple[PartyState, ...], Field(max_length=MANY)] = ()

    def answers(self) -> dict[str, str]:
        """Party → `JobAccepted` or `JobRejected`, of those who have answered."""
        return {one.domain_id: one.state for one in self.approve_status_list if one.state}


class TaskParty(_Answer):
    """A party's part in a task."""

    domain_id: Word
    role: Word = ""


class Task(_Answer):
    """One step of a job. `task_input_config`: JSON for SecretFlow's adapter."""

    alias: Word
    app_image: Word
    parties: Annotated[tuple[TaskParty, ...], Field(max_length=MANY)]
    task_input_config: Annotated[str, StringConstraints(max_length=1_000_000)]
    task_id: Word = ""
    dependencies: Annotated[tuple[Word, ...], Field(max_length=MANY)] = ()
    priority: int = 0


class KusciaJob(_Answer):
    """A job as it was made, at every party the same. `custom_fields` are labels: at most 63 characters each."""

    job_id: Word
    initiator: Word
    tasks: Annotated[tuple[Task, ...], Field(max_length=MANY)]
    max_parallelism: int = 1
    custom_fields: Annotated[dict[Word, Word], Field(max_length=MANY)] = {}
    status: JobStatus = JobStatus()

    @property
    def parties(self) -> tuple[str, ...]:
        """Everybody who takes part, in the order of the tasks."""
        return tuple(dict.fromkeys(party.domain_id for task in self.tasks for party in task.parties))

    def request(self) -> dict[str, object]:
        """What makes it."""
        return self.model_dump(mode="json", exclude={"status"})


class EventKind(IntEnum):
    """Of an event of `watch`; ADDED is left out of the text, since it is 0."""

    ADDED = 0
    MODIFIED = 1
    DELETED = 2
    ERROR = 3
    HEARTBEAT = 4


class JobOf(_Answer):
    """A job's name and how it goes."""

    job_id: Word
    status: JobStatus = JobStatus()


class Event(_Answer):
    """Something happened to a job, or nothing did for 10 s."""

    type: EventKind = EventKind.ADDED
    object: JobOf | None = None
