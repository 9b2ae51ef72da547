"""Another configuration while the coordinator runs: all of it or nothing. A wrong one is refused, the old one stays."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import structlog

from coordinator.config import Config, ConfigError, load_config, settings_digest
from coordinator.context import Context, verifier_of
from coordinator.policy import policy_digest
from coordinator.signing import SigningError

log = structlog.get_logger()
AT_START = (
    "consortium",
    "party",
    "ports",
    "bind",
    "ray",
    "kuscia",
    "own",
    "state_dir",
    "jobs_dir",
    "secrets",
    "access_log",
    "audit_heads_s",
)
"""Read once: another value needs a restart."""
Why = Literal["wrong", "restart"]


class ReloadError(Exception):
    """The configuration on the disk is not taken over. `restart`: it is right, but takes a restart."""

    def __init__(self, why: Why, message: str) -> None:
        super().__init__(message)
        self.why = why


@dataclass(frozen=True)
class Reloaded:
    """Digests of all settings before and after, and the fields at the top that differ; equal digests: nothing to do."""

    before: str
    after: str
    changed: tuple[str, ...] = ()


async def reload(context: Context) -> Reloaded:
    """Read the configuration file again and put it in force, with a record in the audit log.

    Raises ReloadError, and records it, for a document that is wrong or needs a restart; StoreError when the record
    cannot be written: then nothing has changed.
    """
    await context.peers.close_retired()
    old = context.config
    try:
        new = read(context.path, old)
        verifier = verifier_of(new, context.signer)
    except (ReloadError, ConfigError, SigningError) as e:
        log.warning("configuration refused", path=str(context.path), reason=str(e))
        context.store.note(time.time(), "reload-refused", f"the old configuration stays: {e}"[:2000], **_about(old))
        await context.store.durable()
        raise e if isinstance(e, ReloadError) else ReloadError("wrong", str(e)) from e
    changed = tuple(name for name in Config.model_fields if getattr(old, name) != getattr(new, name))
    done = Reloaded(settings_digest(old), settings_digest(new), changed)
    if changed:
        about = {f"{key}_before": value for key, value in _about(old).items()} | _about(new)
        failures = context.store.failures
        context.store.note(time.time(), "reloaded", f"another configuration: {', '.join(changed)}", **about)
        _note_revocations(context, old, new)
        await context.store.durable(failures)
        context.adopt(new, verifier)
        log.info("configuration taken over", changed=list(changed), **about)
    return done


def _note_revocations(context: Context, old: Config, new: Config) -> None:
    for peer in sorted(set(new.revoked) - set(old.revoked)):
        why = f"{peer} is trusted no more: nothing of it is let in, open jobs with it end"
        context.store.note(time.time(), "revoked", why, peer=peer)
    for peer in sorted(set(old.revoked) - set(new.revoked)):
        context.store.note(time.time(), "unrevoked", f"{peer} is trusted again", peer=peer)


def read(path: Path, old: Config) -> Config:
    """The configuration on the disk, if it may follow on `old`. Raises ConfigError, ReloadError."""
    new = load_config(path)
    if fixed := [name for name in AT_START if not _same(name, old, new)]:
        raise ReloadError("restart", f"{path}: {', '.join(fixed)}: another value takes a restart")
    if new.members[: len(old.members)] != old.members:
        raise ReloadError(
            "wrong",
            f"{path}: members were {list(old.members)} and are {list(new.members)}: a member's place decides port "
            "numbers, so new ones stand at the end and none goes; whoever leaves is named in `left`",
        )
    return new


def _same(name: str, old: Config, new: Config) -> bool:
    if name == "own":  # more slots may come; one that goes may be in use
        return all(set(getattr(old.own, s).items()) <= set(getattr(new.own, s).items()) for s in ("fed", "spu"))
    if name == "kuscia" and old.kuscia and new.kuscia:  # who the members are may change
        return new.kuscia.model_copy(update={"signing_keys": old.kuscia.signing_keys}) == old.kuscia
    return bool(getattr(old, name) == getattr(new, name))


def _about(config: Config) -> dict[str, Any]:
    return {
        "settings": settings_digest(config),
        "consortium_files": config.consortium_digest,
        "policy": policy_digest(config.policy),
    }
