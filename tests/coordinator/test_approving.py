"""A party's word on a proposal: by its policy, or by a person who was shown what is signed."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from coordinator_rig import job_folder
from test_interfaces import FILES, FOLDER, HEADERS, JOB_ID, Lone, play

from coordinator import policy as policy_module
from coordinator import store as store_module
from coordinator.bundle import digest
from coordinator.model import Job
from coordinator.policy import policy_digest
from coordinator.previous import compared
from coordinator.statements import Kind

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


def test_an_approval_is_bound_to_what_was_shown(tmp_path: Path) -> None:
    async def body(b: Lone) -> None:
        await propose(b)
        shown = (await b.api("GET", f"jobs/{JOB_ID}/program")).json()["proposal_digest"]
        assert shown == (await b.api("GET", f"jobs/{JOB_ID}")).json()["proposal_digest"]
        for verb in ("approve", "deny"):
            other = await b.api("POST", f"jobs/{JOB_ID}/{verb}", data={"proposal_digest": "0" * 64})
            assert other.status_code == 409
            assert shown in other.json()["detail"]
        assert "bob" not in known(b).approvals()
        assert (await b.api("POST", f"jobs/{JOB_ID}/approve", data={"proposal_digest": "x"})).status_code == 422
        answer = await b.api("POST", f"jobs/{JOB_ID}/approve", data={"proposal_digest": shown, "reason": "read"})
        assert answer.json()["approvals"]["bob"] == {
            "verdict": "approve", "by": "person", "reason": "read", "proposal_digest": shown
        }  # fmt: skip

    play(tmp_path, body, policy=lambda p: PERSON)


async def submitted(b: Lone, main: str, name: str = "probe", **fields: Any) -> str:
    """A job bob submits, which bob thereby approves."""
    folder = job_folder(["alice", "bob"], main, name=name, **fields)
    job_id = (await b.api("POST", "jobs", files={"bundle": ("x", folder)})).json()["job_id"]
    while "bob" not in known(b, job_id).approvals():
        await asyncio.sleep(0.01)
    return str(job_id)


def test_a_program_is_compared_with_the_last_approved_one_of_its_name(tmp_path: Path) -> None:
    async def body(b: Lone) -> None:
        async def previous(job_id: str = JOB_ID) -> Any:
            return (await b.api("GET", f"jobs/{job_id}/program")).json()["previous"]

        await propose(b)
        assert await previous() is None  # the first of this name
        await submitted(b, "other\n", name="another")
        assert await previous() is None
        old = await submitted(b, "print(1)\n", parameters={"rows": 5})
        found = await previous()
        assert (found["job_id"], found["initiator"], found["by"]) == (old, "bob", "initiator")
        assert abs(found["approved_at"] - time.time()) < 30
        assert "-print(1)\n" in found["diff"]["main.py"]
        assert '-  "rows": 5' in found["proposal_diff"]
        # one of the same initiator goes before a newer one of another
        second = "20261124-probe-bbbbbb"
        await b.send(b.sign("alice", Kind.PROPOSAL, b.proposal().body, job_id=second))
        await b.api("POST", f"jobs/{second}/approve")
        await submitted(b, "print(2)\n")
        found = await previous()
        assert (found["job_id"], found["by"], found["diff"], found["proposal_diff"]) == (second, "person", {}, "")
        # a folder that is gone is no basis, and neither is a denied job
        b.context.bundle_path(known(b, old).proposal.program_digest).unlink()
        third = await submitted(b, "print(3)\n")
        whole = compared(b.context, known(b, second), known(b, third)).text
        assert "+++ b/proposal" in whole
        assert "+print(3)\n" in whole
        assert "-print(2)" in (await previous(third))["diff"]["main.py"]

    play(tmp_path, body, policy=lambda p: PERSON)


@pytest.mark.parametrize(("verb", "other"), [("approve", "deny"), ("deny", "cancel"), ("cancel", "approve")])
def test_a_request_that_comes_again_has_one_effect(tmp_path: Path, verb: str, other: str) -> None:
    async def body(b: Lone) -> None:
        async def ask(verb: str, reason: str = "so", key: str = "k1") -> httpx.Response:
            headers = {"Idempotency-Key": key}
            return await b.api("POST", f"jobs/{JOB_ID}/{verb}", data={"reason": reason}, headers=headers)

        await propose(b)
        first = await ask(verb)
        assert first.status_code == 200
        records = b.context.store.head()
        again = await ask(verb)
        assert again.status_code == 200
        assert again.json()["statements"] == first.json()["statements"]
        assert b.context.store.head() == records
        for verb_, reason in ((other, "so"), (verb, "other")):
            refused = await ask(verb_, reason)
            assert refused.status_code == 409
            assert "was used for another request" in refused.json()["detail"]
        # another key, nothing left to do: harmless, and that key is taken too
        assert (await ask(verb, key="k2")).status_code == 200
        assert (await ask(verb, "other", key="k2")).status_code == 409
        assert (await ask(verb, key="no spaces")).status_code == 422

    play(tmp_path, body, policy=lambda p: PERSON)


def test_a_refused_request_may_be_sent_again_with_its_key(tmp_path: Path) -> None:
    async def body(b: Lone) -> None:
        await b.send(b.proposal())  # the folder is still on its way
        headers = {"Idempotency-Key": "k"}
        assert (await b.api("POST", f"jobs/{JOB_ID}/approve", headers=headers)).status_code == 409
        await b.peer.post(f"/peer/v1/bundle/{JOB_ID}", content=FOLDER, headers=HEADERS)
        assert (await b.api("POST", f"jobs/{JOB_ID}/approve", headers=headers)).status_code == 200

    play(tmp_path, body, policy=lambda p: PERSON)


def test_keys_are_forgotten_after_a_time_and_beyond_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(b: Lone) -> None:
        store = b.context.store
        await propose(b)
        monkeypatch.setattr(store_module, "REQUEST_ROWS", 3)
        now = 10.0**9
        for n in range(5):
            store.remember((f"k{n}", "d"), JOB_ID, now + n)
        assert [n for n in range(5) if store.request(f"k{n}", "d")] == [2, 3, 4]
        store.remember(("k5", "d"), JOB_ID, now + 3 + store_module.REQUEST_S + 0.5)
        assert [n for n in range(6) if store.request(f"k{n}", "d")] == [4, 5]

    play(tmp_path, body, policy=lambda p: PERSON)
