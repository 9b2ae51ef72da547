"""Policy checks on documents that are right as documents. Pure: models and a moment in, findings out."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from consortium import trust
from consortium.document import Document, Stack
from consortium.documents import Documents
from consortium.gitops.finding import Finding
from consortium.settings import LocalLimits, StackSettings
from consortium.spec import Consortium, Party
from consortium.trust_checks import PARSE_ERRORS

MIN_DAYS = 30
MAX_PEER_LOST_S = 60
MAX_SKEW_MS = 1000
MIN_FREE_BYTES = 100_000_000

_BY_DIGEST = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")


def agreement(document: Document[Consortium]) -> Iterator[Finding]:
    """Checks on consortium.yaml."""
    model, where = document.model, document.file.where
    if model is None:
        return
    if model.timeouts.peer_lost_after_s > MAX_PEER_LOST_S:
        yield Finding(
            "peer-lost-after",
            "a job holds data and ports for so long after a peer is gone",
            where=where(("timeouts", "peer_lost_after_s")),
            value=f"{model.timeouts.peer_lost_after_s:g} s",
            allowed=f"at most {MAX_PEER_LOST_S} s",
            fix="agree on less; heartbeat_s follows: at most a third of it",
        )
    if model.limits.clock_skew_ms > MAX_SKEW_MS:
        yield Finding(
            "clock-skew",
            "two parties' audit logs could not be laid side by side",
            where=where(("limits", "clock_skew_ms")),
            value=f"{model.limits.clock_skew_ms} ms",
            allowed=f"at most {MAX_SKEW_MS} ms",
            fix="agree on less, and run NTP at every party",
        )


def party(name: str, document: Document[Party], now: datetime) -> Iterator[Finding]:
    """Checks on a party file. While a CA is being replaced there are two, and the later one counts."""
    if document.model is None:
        return
    days = [left for pem in document.model.ca_certificates if (left := _days(pem, now)) is not None]
    if days and max(days) < MIN_DAYS:
        yield Finding(
            "ca-days",
            f"the CA of {name} ends soon, and its gateway's certificate with it",
            where=document.file.where(("ca_certificates",)),
            value=f"{max(days)} days",
            allowed=f"at least {MIN_DAYS} days",
            fix=f"{name}'s operator replaces the CA: docs/runbook.md, Certificates and keys",
        )


def stack(name: str, found: Stack, workspace: Path, now: datetime) -> Iterator[Finding]:
    """Checks on the private settings of one institution."""
    days = _days(found.certificate, now) if found.certificate else None
    if days is not None and days < MIN_DAYS:
        yield Finding(
            "certificate-days",
            "the gateway's certificate ends soon",
            where=found.file.where(("config", "consortium:gatewayCertificate")),
            value=f"{days} days",
            allowed=f"at least {MIN_DAYS} days",
            fix=f"consortium rotate certificate --party {name}, then consortium up",
        )
    raw = found.file.data if isinstance(found.file.data, dict) else {}
    if not raw.get("encryptionsalt") and not raw.get("secretsprovider"):
        yield Finding(
            "secrets-provider",
            "the stack names nothing that encrypts its secrets",
            where=found.file.name,
            allowed="encryptionsalt (a passphrase) or secretsprovider",
            fix=f"consortium join {name}",
        )
    if found.settings:

        def at(*loc: str | int) -> str:
            return found.file.where((*found.settings_loc, *loc))

        yield from _endpoints(found.settings, at)
        yield from _image(found.settings, at)
        yield from _approvals(found.settings, at)
        yield from _data(found.settings, at, workspace)


def _endpoints(settings: StackSettings, at: Callable[..., str]) -> Iterator[Finding]:
    if settings.engine.startswith(("tcp://", "http://")):
        yield Finding(
            "engine-plaintext",
            "whoever reads this connection reads every key, and whoever reaches the port is root",
            where=at("engine"),
            value=settings.engine,
            allowed="unix://, ssh://, https://",
            fix="engine: ssh://USER@HOST",
        )
    if not ipaddress.ip_address(settings.operator.bind).is_loopback:
        yield Finding(
            "operator-plaintext",
            "the operator's port has no TLS: its token would travel in clear",
            where=at("operator", "bind"),
            value=settings.operator.bind,
            allowed="127.0.0.1, ::1",
            fix="bind: 127.0.0.1, and ssh -L from elsewhere, or a proxy with TLS on this machine",
        )
    for name, url in (("apt", settings.package_mirror.apt), ("pip", settings.package_mirror.pip)):
        if url and url.startswith("http://"):
            yield Finding(
                "mirror-plaintext",
                "packages come over a connection that anybody on the way can change",
                where=at("package_mirror", name),
                value=url,
                allowed="https://",
                fix="use the mirror's https address; ca_bundle takes its CA",
            )


def _image(settings: StackSettings, at: Callable[..., str]) -> Iterator[Finding]:
    if settings.image and not _BY_DIGEST.fullmatch(settings.image):
        yield Finding(
            "image-digest",
            "a tag can be moved to another image, `latest` above all",
            where=at("image"),
            value=settings.image,
            allowed="NAME@sha256:DIGEST, or no image: then it is the one that `consortium image bake` makes",
            fix="docker image inspect --format '{{index .RepoDigests 0}}' IMAGE",
        )


def _approvals(settings: StackSettings, at: Callable[..., str]) -> Iterator[Finding]:
    if settings.policy.default == "approve":
        yield Finding(
            "approve-by-default",
            "programs that nobody has read run on this institution's data",
            where=at("policy", "default"),
            value="approve",
            allowed="person, deny",
            fix="default: person, and a rule for what may pass",
        )
    for index, rule in enumerate(settings.policy.rules):
        if rule.verdict != "approve":
            continue
        for field, wrong, allowed in (
            ("programs", rule.programs is None, "digests of programs that a person has read"),
            ("datasets", rule.datasets == "any", "a list of datasets"),
            ("until", rule.until is None, "the last day on which the rule counts"),
        ):
            if wrong:
                yield Finding(
                    f"approval-{field}",
                    f"the rule {rule.name!r} approves without a limit in `{field}`",
                    where=at("policy", "rules", index),
                    allowed=allowed,
                    fix=f"name {field} in the rule",
                )


def _data(settings: StackSettings, at: Callable[..., str], workspace: Path) -> Iterator[Finding]:
    root = workspace.resolve()
    for name, dataset in settings.datasets.items():
        if (root / dataset.path).resolve().is_relative_to(root):
            yield Finding(
                "dataset-in-checkout",
                "the dataset lies in the folder that is committed; a pipeline's checkout does not have it",
                where=at("datasets", name, "path"),
                value=dataset.path,
                allowed="a path outside of the workspace",
                fix=f"move it, and consortium join PARTY --dataset {name}=/srv/data/{Path(dataset.path).name}",
            )
    if settings.limits.min_free_bytes < MIN_FREE_BYTES:
        yield Finding(
            "min-free-bytes",
            "jobs are taken until the disk has no room for the audit log",
            where=at("limits", "min_free_bytes"),
            value=str(settings.limits.min_free_bytes),
            allowed=f"at least {MIN_FREE_BYTES}",
            fix=f"min_free_bytes: {LocalLimits.model_fields['min_free_bytes'].default}",
        )


def documents(found: Documents, workspace: Path, now: datetime) -> Iterator[Finding]:
    """Every check on every document."""
    left = found.consortium.model.left if found.consortium.model else ()
    yield from agreement(found.consortium)
    for name, document in found.parties.items():
        if name not in left:
            yield from party(name, document, now)
    for name, its in found.stacks.items():
        yield from stack(name, its, workspace, now)


def _days(pem: str, now: datetime) -> int | None:
    """None for what is no certificate: `consortium lint` says so."""
    try:
        return trust.days_left(pem, now)
    except PARSE_ERRORS:
        return None
