"""This party's own rule on proposals of others. What it leaves open is for a person."""

from __future__ import annotations

from coordinator.config import Config
from coordinator.model import Job
from coordinator.statements import ApprovalBody


def judge(config: Config, job: Job) -> ApprovalBody | None:
    """The policy's yes, or None: a person decides. A list says yes only when everything it names fits."""
    rule, proposal = config.policy, job.proposal
    if rule.approve == "person":
        return None
    if rule.approve == "list":
        asked = proposal.datasets.get(config.party, ())
        fits = (
            rule.programs is None or proposal.program_digest in rule.programs,
            rule.initiators is None or job.initiator in rule.initiators,
            rule.datasets is None or set(asked) <= set(rule.datasets),
        )
        if not all(fits):
            return None
    return ApprovalBody(verdict="approve", proposal_digest=job.signed_proposal.digest(), by="policy")
