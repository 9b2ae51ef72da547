"""A party's word on a proposal: by its policy, or by a person who was shown what is signed."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from test_interfaces import FILES, FOLDER, HEADERS, JOB_ID, Lone, play

from coordinator import policy as policy_module
from coordinator.bundle import digest
from coordinator.model import Job
from coordinator.policy import policy_digest

PERSON = {"default": "person"}


async def propose(b: Lone, **fields: Any) -> None:
    """alice's proposal and its job folder have arrived at bob."""
    await b.send(b.proposal(**fields))
    await b.peer.post(f"/peer/v1/bundle/{JOB_ID}", content=FOLDER, headers=HEADERS)


def known(b: Lone, job_id: str = JOB_ID) -> Job:
    job = b.context.store.load(job_id)
    assert job is not None
    return job


async def settled(b: Lone, wanted: str, limit_s: float = 3) -> Job:
    """The job once bob has said what is wanted."""
    end = time.monotonic() + limit_s
    while not ((said := known(b).approvals().get("bob")) and said.verdict == wanted):
        assert time.monotonic() < end, f"bob said {said}"
        await asyncio.sleep(0.02)
    return known(b)


def rules(**rule: Any) -> dict[str, Any]:
    return {"default": "person", "rules": [{"name": "ours", "datasets": ["table"], **rule}]}


POLICIES: list[tuple[str, dict[str, Any], str]] = [
    ("default", {"default": "approve"}, "approve"),
    ("this program", rules(verdict="approve", programs=[digest(FILES)]), "approve"),
    ("no to the initiator", rules(verdict="deny", initiators=["alice"]), "deny"),
]


@pytest.mark.parametrize(("policy", "said"), [p[1:] for p in POLICIES], ids=[p[0] for p in POLICIES])
def test_the_policy_speaks_for_the_party_and_names_its_rule(tmp_path: Path, policy: dict[str, Any], said: str) -> None:
    async def body(b: Lone) -> None:
        await propose(b, datasets={"bob": ["table"]})
        job = await settled(b, said)
        signed = job.approvals()["bob"]
        b.context.verifier.check(next(s for s in job.statements.values() if s.body is signed))
        why = "rule ours" if policy.get("rules") else "no rule fits, so by default"
        assert (signed.by, signed.reason) == ("policy", why)
        shown = (await b.api("GET", f"jobs/{JOB_ID}")).json()
        assert not shown["approval_wanted"]
        assert why in " ".join(e["reason"] for e in shown["events"])
        if said == "deny":
            assert (await b.api("POST", f"jobs/{JOB_ID}/approve")).status_code == 409

    play(tmp_path, body, policy=lambda p: policy)


@pytest.mark.parametrize("policy", [PERSON, rules(verdict="approve", programs=["0" * 64])], ids=["person", "no fit"])
def test_what_no_rule_fits_waits_for_a_person(tmp_path: Path, policy: dict[str, Any]) -> None:
    async def body(b: Lone) -> None:
        await propose(b, datasets={"bob": ["table"]})
        await asyncio.sleep(0.2)
        assert "bob" not in known(b).approvals()
        assert (await b.api("GET", f"jobs/{JOB_ID}")).json()["approval_wanted"]

    play(tmp_path, body, policy=lambda p: policy)


@pytest.mark.parametrize("verdict", ["approve", "deny"])
def test_a_job_is_judged_when_the_window_of_a_rule_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdict: str
) -> None:
    async def body(b: Lone) -> None:
        opens = time.time() + 0.8
        monkeypatch.setattr(policy_module, "_spans", lambda *_: [(opens, opens + 600)])
        ticking = asyncio.create_task(b.coordinator.worker.tick())
        await propose(b, datasets={"bob": ["table"]})
        await asyncio.sleep(0.3)
        assert "bob" not in known(b).approvals()
        await settled(b, verdict)
        assert time.time() >= opens
        ticking.cancel()

    play(tmp_path, body, policy=lambda p: rules(verdict=verdict, window={"from": "08:00", "to": "18:00"}))


def test_the_audit_log_says_which_policy_was_in_force(tmp_path: Path) -> None:
    async def body(b: Lone) -> None:
        await b.coordinator.start()
        started = next(e for r in b.context.store.records() if (e := json.loads(r.content))["kind"] == "started")
        assert started["policy"] == policy_digest(b.context.config.policy)

    play(tmp_path, body)
