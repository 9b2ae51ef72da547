"""`consortium lint --strict`: every policy check, less what gitops.yaml excepts by name and with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from consortium.documents import read_workspace
from consortium.errors import DocumentErrors, Problem
from consortium.gitops import document_checks, repository_checks
from consortium.gitops.finding import Finding
from consortium.gitops.settings import load_gitops
from consortium.validation import did_you_mean

CHECKS: Mapping[str, str] = {
    "action-digest": "actions of GitHub are named by commit",
    "approval-datasets": "a rule that approves lists its datasets",
    "approval-programs": "a rule that approves lists programs by digest",
    "approval-until": "a rule that approves has a last day",
    "approve-by-default": "what no rule fits is for a person, or denied",
    "ca-days": f"a party's CA is valid for {document_checks.MIN_DAYS} days more",
    "certificate-days": f"the gateway's certificate is valid for {document_checks.MIN_DAYS} days more",
    "clock-skew": f"clocks differ by at most {document_checks.MAX_SKEW_MS} ms when a job starts",
    "code-owners": "each party file has its party as owner in CODEOWNERS",
    "dataset-in-checkout": "datasets lie outside of the workspace",
    "engine-plaintext": "the engine is reached over a socket, SSH or TLS",
    "image-digest": "images are named by digest, none is `latest`",
    "key-in-git": "no private key is committed",
    "min-free-bytes": f"no jobs are taken with less than {document_checks.MIN_FREE_BYTES // 10**6} MB of disk",
    "mirror-plaintext": "package mirrors are reached over https",
    "operator-plaintext": "the operator's port listens on loopback only",
    "peer-lost-after": f"a dead peer ends a job within {document_checks.MAX_PEER_LOST_S} s",
    "private-in-git": "nothing of .private is committed",
    "private-not-ignored": "git ignores .private",
    "program": "the Pulumi program is the one of the installed package",
    "pull-request-target": "no pipeline runs a stranger's pull request with secrets",
    "secrets-provider": "the stack's secrets are encrypted",
}
"""Every check and what it demands. That versions are exact and timeouts fit together `consortium lint` says itself."""


@dataclass(frozen=True)
class Strict:
    """What was found, and what was found and excepted."""

    findings: tuple[Finding, ...]
    excepted: tuple[Finding, ...]
    exceptions: Mapping[str, str]

    def as_rows(self) -> list[dict[str, str]]:
        """What was excepted, with its reason."""
        return [{"check": f.check, "where": f.where, "reason": self.exceptions[f.check]} for f in self.excepted]


def strict(workspace: Path, now: datetime | None = None) -> Strict:
    """Every finding in the workspace. Raises DocumentErrors for a wrong gitops.yaml, ConsortiumError without git."""
    settings, file = load_gitops(workspace)
    unknown = [name for name in settings.exceptions if name not in CHECKS]
    if unknown:
        raise DocumentErrors(
            Problem(
                "an exception from a check that does not exist",
                where=file.where(("exceptions", name)),
                value=name,
                allowed=", ".join(CHECKS),
                fix=did_you_mean(name, CHECKS),
            )
            for name in unknown
        )
    found = [
        *document_checks.documents(read_workspace(workspace), workspace, now or datetime.now(UTC)),
        *repository_checks.repository(workspace, settings),
    ]
    return Strict(
        tuple(finding for finding in found if finding.check not in settings.exceptions),
        tuple(finding for finding in found if finding.check in settings.exceptions),
        settings.exceptions,
    )
