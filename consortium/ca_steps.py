"""A CA that is replaced, as three steps with an overlap in which peers trust both: where it stands, and what may come.

    none ──begin──> begun ──issue──> issued ──finish──> none

begin: a new CA stands beside the old one in the party file. issue: the gateway's certificate is of the new one. finish:
the old one is gone. Pure: what is seen goes in, a decision comes out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Stage = Literal["none", "begun", "issued"]
Step = Literal["begin", "issue", "finish"]

FOLLOWS: Mapping[Step, Stage] = {"begin": "none", "issue": "begun", "finish": "issued"}
"""A step → the stage that it starts from."""
STEP_FROM: Mapping[Stage, Step] = {stage: step for step, stage in FOLLOWS.items()}
NEXT: Mapping[Stage, str] = {
    "none": "consortium rotate ca begin, to replace the CA",
    "begun": "consortium up; send parties/{party}.yaml to every peer, who compares the new CA's fingerprint by voice "
    "and runs consortium up; then consortium rotate ca issue",
    "issued": "consortium up, then consortium rotate ca finish",
}
FINISHED = "consortium up; send parties/{party}.yaml to every peer, who runs consortium up"


@dataclass(frozen=True)
class Running:
    """What the own coordinator says; empty where it could not be asked, and `problem` says why."""

    digest: str = ""
    """Of the consortium files in force here."""
    certificate: str | None = None
    """Fingerprint of the gateway's certificate in force."""
    peers: Mapping[str, str] = field(default_factory=dict)
    """Peer → digest of the consortium files it says it holds, asked just now; empty: it does not answer."""
    problem: str = ""


@dataclass(frozen=True)
class Seen:
    """Everything that a step is decided by."""

    party: str
    documents: str
    """Digest of the documents in this workspace; empty if they are not right."""
    certificate: str
    """Fingerprint of the gateway's certificate in the stack file."""
    running: Running


def waits_for(seen: Seen, step: Step) -> list[str]:
    """Why a step must wait, each with what would break without it; nothing for a step that may be taken."""
    if step == "begin":
        return []
    if seen.running.problem:
        return [f"the own coordinator cannot be asked whom it has seen with the new party file: {seen.running.problem}"]
    if not seen.documents:
        return [
            "the documents of this workspace are not right, so no peer can be seen to hold the same: consortium lint"
        ]
    found = []
    if step == "finish" and seen.running.certificate != seen.certificate:
        found.append(
            f"{seen.party}'s gateway does not show the new CA's certificate yet: consortium up; peers that took the "
            "last party file would refuse the old one"
        )
    if seen.running.digest != seen.documents:
        found.append(f"{seen.party} itself runs with other documents than those here: consortium up")
    found += [
        f"{peer} was not seen with the new party file yet: new connections with it fail, both ways, until it has run up"
        for peer, digest in sorted(seen.running.peers.items())
        if digest != seen.documents
    ]
    return found


def what_is_next(stage: Stage, party: str, *, finished: bool = False) -> str:
    """For people: what to do after a step."""
    return (FINISHED if finished else NEXT[stage]).format(party=party)
