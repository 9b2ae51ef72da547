"""Whole jobs in Kuscia mode: two coordinators, each with its own node, nothing between them but what Kuscia carries."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.bundle import read_job_file, unpack
from coordinator.config import ConfigError
from coordinator.context import open_context
from coordinator.kuscia.compile import Agreed, compiled
from coordinator.model import Draft
from coordinator.signing import Signer
from coordinator.statements import Kind
from tests.coordinator.coordinator_rig import OPERATOR_TOKEN, job_folder
from tests.coordinator.kuscia_jobs import PSI, folder
from tests.coordinator.kuscia_nodes import Held, Network
from tests.coordinator.kuscia_rig import KusciaRig

Body = Callable[[KusciaRig], Awaitable[None]]
PERSON = {"policy": {"default": "person"}}


def play(home: Path, body: Body, network: Network | None = None, **config: Any) -> None:
    async def run() -> None:
        async with KusciaRig(home, network=network, **config) as rig:
            await rig.start()
            await body(rig)

    asyncio.run(run())


async def met(condition: Callable[[], bool], limit_s: float = 15) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


async def records(rig: KusciaRig, party: str) -> list[dict[str, Any]]:
    answer = await rig.call(party, "GET", "audit")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    return [json.loads(line["content"]) for line in lines if "content" in line]


def test_a_job_goes_through_with_the_records_of_ray_mode(tmp_path: Path) -> None:
    async def body(rig: KusciaRig) -> None:
        job_id = await rig.propose()
        assert await rig.end(job_id) == "succeeded"
        for party in rig.parties:
            view = await rig.job(party, job_id)
            assert (view["attempt"], view["initiator"], view["bundle_ready"]) == (1, "alice", True)
            assert view["approvals"][party]["by"] == ("initiator" if party == "alice" else "policy")
            assert view["outcomes"][party]["status"] == "succeeded"
            mine = [r for r in await records(rig, party) if r.get("job_id") == job_id]
            assert [(r["kind"], r["from"], r["to"]) for r in mine][:1] == [("created", None, "proposed")]
            moves = [r["to"] for r in mine if r["from"] != r["to"]]
            assert moves == ["proposed", "approved", "starting", "running", "ending", "succeeded"]
            assert {"at", "kind", "job_id", "attempt", "from", "to", "reason", "statements"} == set(mine[-1])
        assert rig.network.nodes["bob"].calls["job/approve"] == 1
        result = await rig.call("alice", "GET", f"jobs/{job_id}/result")
        assert result.status_code == 404
        assert f"data of the own node: intersect.output_ds as {job_id}-1-0-0" in result.json()["detail"]

    play(tmp_path, body)


def test_a_person_is_shown_job_yaml_and_says_yes(tmp_path: Path) -> None:
    async def body(rig: KusciaRig) -> None:
        job_id = await rig.propose(description="first")
        await rig.until(job_id, "proposed", "bob")
        program = (await rig.call("bob", "GET", f"jobs/{job_id}/program")).json()
        assert "data_prep/psi" in program["files"]["job.yaml"]
        shown = {"proposal_digest": program["proposal_digest"], "reason": "read"}
        assert (await rig.job("bob", job_id))["approval_wanted"]
        assert rig.network.nodes["bob"].jobs[f"{job_id}-1"].phase == "AwaitingApproval"
        assert (await rig.call("bob", "POST", f"jobs/{job_id}/approve", data=shown)).status_code == 200
        assert await rig.end(job_id) == "succeeded"
        second = await rig.propose(description="second")
        await rig.until(second, "proposed", "bob")
        previous = (await rig.call("bob", "GET", f"jobs/{second}/program")).json()["previous"]
        assert previous["job_id"] == job_id
        assert "+description: second" in previous["diff"]["job.yaml"]

    play(tmp_path, body, **PERSON)


def test_the_status_page_shows_the_node_in_place_of_peers(tmp_path: Path) -> None:
    async def body(rig: KusciaRig) -> None:
        job_id = await rig.propose(description="read this")
        await rig.until(job_id, "proposed", "bob")
        async with httpx.AsyncClient(base_url=rig.operator_url("bob"), follow_redirects=True) as page:
            assert (await page.post("/login", data={"token": OPERATOR_TOKEN})).status_code == 200
            home, job = (await page.get("/")).text, (await page.get(f"/jobs/{job_id}")).text
            assert "own Kuscia node</dt><dd>answers" in home
            assert "read this" in home
            assert 'id="peers-title"' not in home
            assert "data_prep/psi" in job
            rig.network.nodes["bob"].down = True
            await met(lambda: bool(rig.running["bob"].context.node.failing))
            assert "The own Kuscia does not answer as it should" in (await page.get("/")).text

    play(tmp_path, body, **PERSON)


def test_denied(tmp_path: Path) -> None:
    async def body(rig: KusciaRig) -> None:
        job_id = await rig.propose(max_attempts=3)
        await rig.until(job_id, "proposed", "bob")
        await rig.call("bob", "POST", f"jobs/{job_id}/deny", data={"reason": "no legal basis"})
        assert await rig.end(job_id) == "cancelled"
        assert (await rig.job("alice", job_id))["reason"] == "bob denied the job"
        assert (await rig.job("bob", job_id))["reason"] == "bob denied the job: no legal basis"
        await asyncio.sleep(0.5)
        assert list(rig.network.nodes["alice"].jobs) == [f"{job_id}-1"]

    play(tmp_path, body, **PERSON)


@pytest.mark.parametrize(("tries", "label"), [(2, "succeeded"), (1, "failed")])
def test_a_failure_is_tried_again_as_often_as_agreed(tmp_path: Path, tries: int, label: str) -> None:
    async def body(rig: KusciaRig) -> None:
        job_id = await rig.propose(max_attempts=tries)
        assert await rig.end(job_id) == label
        assert list(rig.network.nodes["bob"].jobs) == [f"{job_id}-{n + 1}" for n in range(tries)]
        for party in rig.parties:
            view = await rig.job(party, job_id)
            assert view["attempt"] == tries
            first = view["attempts"][0]["outcomes"][party]
            assert (first["status"], first["cause"]) == ("failed", "kuscia-failed")
            assert "Task[intersect]" in first["error"]

    play(tmp_path, body, Network(["alice", "bob"], fate=lambda name: "Failed" if name.endswith("-1") else "Succeeded"))


@pytest.mark.parametrize("who", ["alice", "bob"])
def test_cancelled_while_it_runs(tmp_path: Path, who: str) -> None:
    async def body(rig: KusciaRig) -> None:
        job_id = await rig.propose(max_attempts=3)
        await rig.until(job_id, "running")
        await rig.call(who, "POST", f"jobs/{job_id}/cancel", data={"reason": "enough"})
        assert await rig.end(job_id) == "cancelled"
        assert (await rig.job(who, job_id))["reason"] == f"{who} cancelled: enough"
        other = "bob" if who == "alice" else "alice"
        assert f"Party: {who} execute the cmd: Cancel." in (await rig.job(other, job_id))["reason"]

    play(tmp_path, body, Network(["alice", "bob"], fate=lambda _: ""))


def test_cancelled_before_anybody_answered_and_between_two_attempts(tmp_path: Path) -> None:
    async def body(rig: KusciaRig) -> None:
        waits = await rig.propose()
        await rig.until(waits, "proposed", "bob")
        await rig.call("alice", "POST", f"jobs/{waits}/cancel")
        assert await rig.end(waits) == "cancelled"
        again = await rig.propose(max_attempts=3)
        await rig.until(again, "proposed", "bob")
        await rig.call("bob", "POST", f"jobs/{again}/approve")
        await met(lambda: f"{again}-2" in rig.network.nodes["alice"].jobs)
        rig.network.fate = lambda _: ""
        await rig.call("alice", "POST", f"jobs/{again}/cancel")
        assert await rig.end(again) == "cancelled"

    play(tmp_path, body, Network(["alice", "bob"], fate=lambda _: "Failed"), **PERSON)


def test_suspended_and_restarted_by_the_other_party(tmp_path: Path) -> None:
    async def body(rig: KusciaRig) -> None:
        job_id = await rig.propose()
        await rig.until(job_id, "running")
        early = await rig.call("bob", "POST", f"jobs/{job_id}/restart")
        assert (early.status_code, "only a job that is suspended can restart" in early.text) == (409, True)
        assert (await rig.call("bob", "POST", f"jobs/{job_id}/suspend", data={"reason": "tonight"})).status_code == 200
        await rig.until(job_id, "suspended")
        assert (await rig.job("bob", job_id))["parties"] == {"alice": "suspended", "bob": "suspended"}
        rig.network.fate = lambda _: "Succeeded"
        assert (await rig.call("alice", "POST", f"jobs/{job_id}/restart")).status_code == 200
        assert await rig.end(job_id) == "succeeded"
        kinds = {r["kind"]: r["reason"] for r in await records(rig, "bob")}
        assert kinds["suspend-wanted"] == "suspend by a person: tonight"

    play(tmp_path, body, Network(["alice", "bob"], fate=lambda _: ""))


def test_a_node_that_is_away_or_will_not_is_told_to_whoever_suspends(tmp_path: Path) -> None:
    async def body(rig: KusciaRig) -> None:
        job_id = await rig.propose()
        await rig.until(job_id, "running")
        node = rig.network.nodes["bob"]
        node.down = True
        away = await rig.call("bob", "POST", f"jobs/{job_id}/suspend")
        assert (away.status_code, job_id in away.text) == (502, True)
        node.down = False
        node.jobs[f"{job_id}-1"].phase = "Suspended"  # before the coordinator has seen it
        refused = await rig.call("bob", "POST", f"jobs/{job_id}/suspend")
        assert refused.status_code == 409
        assert "the own Kuscia does not suspend it" in refused.text or "only a job that is running" in refused.text

    play(tmp_path, body, Network(["alice", "bob"], fate=lambda _: ""))


def test_the_end_of_a_long_log(tmp_path: Path) -> None:
    async def body(rig: KusciaRig) -> None:
        job_id = await rig.propose()
        await rig.until(job_id, "running")
        rig.network.nodes["bob"].logs[f"{job_id}-1-0"] = "".join(f"row {n}\n" for n in range(10_000))
        text = (await rig.call("bob", "GET", f"jobs/{job_id}/logs")).text
        assert "row 9999\n== train ==\n" in text
        assert "row 1\n" not in text

    play(tmp_path, body, Network(["alice", "bob"], fate=lambda _: ""), limits={"log_bytes": 1000})


def test_logs_are_those_of_the_own_tasks(tmp_path: Path) -> None:
    async def body(rig: KusciaRig) -> None:
        job_id = await rig.propose()
        await rig.until(job_id, "running")
        rig.network.nodes["bob"].logs[f"{job_id}-1-0"] = "read 7 rows\nécrit\n"
        text = (await rig.call("bob", "GET", f"jobs/{job_id}/logs")).text
        assert text.startswith("== intersect ==\nread 7 rows\nécrit\n== train ==\n(")
        rig.network.nodes["bob"].down = True
        assert (await rig.call("bob", "GET", f"jobs/{job_id}/logs")).status_code == 502

    play(tmp_path, body, Network(["alice", "bob"], fate=lambda _: ""))


def test_a_node_that_is_away_is_waited_for_and_said(tmp_path: Path) -> None:
    async def body(rig: KusciaRig) -> None:
        node = rig.network.nodes["alice"]
        node.down = True
        await met(lambda: bool(rig.running["alice"].context.node.failing))
        job_id = await rig.propose()
        status = (await rig.call("alice", "GET", "status")).json()
        assert "answers 503" in status["kuscia"]["error"]
        assert status["peers"] == {}
        node.down = False
        assert await rig.end(job_id) == "succeeded"
        assert (await rig.call("alice", "GET", "status")).json()["kuscia"]["error"] == ""
        kinds = [r["kind"] for r in await records(rig, "alice")]
        assert kinds.count("kuscia-silent") == kinds.count("kuscia-answers") >= 1
        found = {f["check"]: f["code"] for f in (await rig.call("alice", "GET", "findings")).json()["findings"]}
        assert found == {"folder": "", "kuscia": "", "peer": "", "dataset": ""}

    play(tmp_path, body)


def test_what_is_wrong_with_routes_and_data_is_named(tmp_path: Path) -> None:
    async def body(rig: KusciaRig) -> None:
        async def look(**asked: str) -> dict[tuple[str, str], str]:
            answer = await rig.call("alice", "GET", "findings", params=asked)
            return {(one["check"], one["subject"]): one["what"] for one in answer.json()["findings"]}

        node = rig.network.nodes["alice"]
        assert set((await look()).values()) == {""}
        node.routes["bob"] = "Failed"
        node.tables.discard("patients")
        found = await look(peer="bob")
        assert "not agreed on a token yet: TokenNotGenerate" in found["peer", "bob"]
        assert found["dataset", "customers"] == ""
        assert "no table 'patients'" in found["dataset", "patients"]
        del node.routes["bob"]
        assert "knows no way to bob" in (await look())["peer", "bob"]
        node.down = True
        assert "answers 503" in (await look())["peer", "bob"]
        assert (await rig.call("alice", "GET", "findings", params={"peer": "carol"})).status_code == 404

    play(tmp_path, body)


def test_a_wrong_token_is_said_and_mended_without_a_restart_of_the_node(tmp_path: Path) -> None:
    async def body(rig: KusciaRig) -> None:
        node = rig.network.nodes["bob"]
        right, node.token = node.token, "another"
        job_id = await rig.propose()
        await met(lambda: "does not take the token" in rig.running["bob"].context.node.failing)
        findings = (await rig.call("bob", "GET", "findings")).json()["findings"]
        assert ("kuscia", "kuscia") in {(f["check"], f["code"]) for f in findings}
        node.token = right
        assert await rig.end(job_id) == "succeeded"

    play(tmp_path, body)


@pytest.mark.parametrize("path", ["job/create", "job/approve", "job/cancel"])
def test_an_answer_that_is_lost_does_no_harm(tmp_path: Path, path: str) -> None:
    async def body(rig: KusciaRig) -> None:
        for node in rig.network.nodes.values():
            node.lose.add(path)
        job_id = await rig.propose()
        if path == "job/cancel":
            await rig.until(job_id, "running")
            await rig.call("bob", "POST", f"jobs/{job_id}/cancel")
        else:
            rig.network.fate = lambda _: "Succeeded"
        assert await rig.end(job_id) == ("cancelled" if path == "job/cancel" else "succeeded")
        assert list(rig.network.nodes["alice"].jobs) == [f"{job_id}-1"]

    play(tmp_path, body, Network(["alice", "bob"], fate=lambda _: ""))


def test_documents_that_differ_hold_a_yes_back(tmp_path: Path) -> None:
    async def body(rig: KusciaRig) -> None:
        job_id = await rig.propose()
        await rig.until(job_id, "proposed", "bob")
        await met(lambda: bool(rig.running["bob"].context.undelivered))
        assert "the consortium files differ" in (await rig.job("bob", job_id))["undelivered"]["alice"]
        assert (await rig.job("bob", job_id))["approvals"]["bob"]["verdict"] == "approve"
        config = json.loads(rig.config_path("bob").read_text())
        rig.config_path("bob").write_text(json.dumps(config | {"consortium_digest": "c" * 64}))
        assert (await rig.call("bob", "POST", "reload")).status_code == 200
        assert await rig.end(job_id) == "succeeded"

    play(tmp_path, body, consortium_digest=lambda party: ("c" if party == "alice" else "d") * 64)


def test_a_node_that_says_yes_by_itself_is_found_out(tmp_path: Path) -> None:
    async def body(rig: KusciaRig) -> None:
        job_id = await rig.propose()
        assert await rig.end(job_id) == "cancelled"
        assert "enableWorkloadApprove must be true" in (await rig.job("bob", job_id))["reason"]

    play(tmp_path, body, Network(["alice", "bob"], fate=lambda _: "", approves=False), **PERSON)


async def forged(
    rig: KusciaRig, change: Callable[[dict[str, Any]], None], key: Ed25519PrivateKey | None = None, at: str = "bob"
) -> str:
    """A KusciaJob in alice's name that a node has from elsewhere than her coordinator; its name."""
    job_id = await rig.propose()
    await met(lambda: f"{job_id}-1" in rig.network.nodes["alice"].jobs)
    context = rig.running["alice"].context
    job = context.store.load(job_id)
    assert job is not None
    fake_id = f"{job_id[:-6]}aaaaaa"
    signer = Signer("demo", "alice", key or rig._keys["alice"])
    proposal = signer.statement(fake_id, Draft(Kind.PROPOSAL, 0, job.proposal))
    text = unpack(context.bundle_path(job.proposal.program_digest).read_bytes(), 10**6)["job.yaml"].decode()
    made = compiled(Agreed(proposal, text, read_job_file({"job.yaml": text.encode()})), 1).request()
    change(made)
    rig.network.nodes[at].jobs[str(made["job_id"])] = Held(json.loads(json.dumps(made)))
    return str(made["job_id"])


def _other_columns(made: dict[str, Any]) -> None:
    config = json.loads(made["tasks"][0]["task_input_config"])
    config["sf_node_eval_param"]["attrs"][0]["ss"] = ["income"]
    made["tasks"][0]["task_input_config"] = json.dumps(config, sort_keys=True, separators=(",", ":"))


def _another_task(made: dict[str, Any]) -> None:
    made["tasks"].append({**made["tasks"][1], "alias": "more", "task_id": "x"})


def _another_yaml(made: dict[str, Any]) -> None:
    config = json.loads(made["tasks"][0]["task_input_config"])
    config["consortium"]["job.yaml"] += "\n# harmless\n"
    made["tasks"][0]["task_input_config"] = json.dumps(config, sort_keys=True, separators=(",", ":"))


def _ninth_try(made: dict[str, Any]) -> None:
    made["job_id"] = made["job_id"][:-1] + "9"


@pytest.mark.parametrize("change", [_other_columns, _another_task, _another_yaml, _ninth_try])
def test_a_kuscia_job_that_is_not_what_was_signed_is_answered_with_no(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    async def body(rig: KusciaRig) -> None:
        name = await forged(rig, change)
        await met(lambda: rig.network.nodes["bob"].jobs.get(name, Held({})).phase == "ApprovalReject")
        assert (await rig.job("bob", name.rsplit("-", 1)[0]))["phase"] == "unknown"
        assert [r["peer"] for r in await records(rig, "bob") if r["kind"] == "refused"] == ["alice"]

    play(tmp_path, body, Network(["alice", "bob"], fate=lambda _: ""))


def test_a_stranger_signs_nothing(tmp_path: Path) -> None:
    async def body(rig: KusciaRig) -> None:
        name = await forged(rig, lambda made: None, Ed25519PrivateKey.generate())
        await met(lambda: rig.network.nodes["bob"].jobs.get(name, Held({})).phase == "ApprovalReject")
        assert "the signature is not alice's" in str(await records(rig, "bob"))

    play(tmp_path, body, Network(["alice", "bob"], fate=lambda _: ""))


def test_what_is_no_job_of_the_consortium_is_left_alone_and_an_orphan_is_not(tmp_path: Path) -> None:
    async def body(rig: KusciaRig) -> None:
        def plain(made: dict[str, Any]) -> None:
            made["tasks"][0]["task_input_config"] = "{}"

        other = await forged(rig, plain)
        await met(lambda: other in rig.network.nodes["bob"].jobs)
        await asyncio.sleep(0.5)
        assert rig.network.nodes["bob"].jobs[other].phase == "AwaitingApproval"
        orphan = await forged(rig, lambda made: None, at="alice")
        await met(lambda: rig.network.nodes["alice"].jobs[orphan].phase == "Cancelled")
        assert "orphan" in [r["kind"] for r in await records(rig, "alice")]

    play(tmp_path, body, Network(["alice", "bob"], fate=lambda _: ""))


def test_a_job_that_is_changed_after_the_yes_is_ended(tmp_path: Path) -> None:
    async def body(rig: KusciaRig) -> None:
        job_id = await rig.propose()
        await rig.until(job_id, "running")
        _other_columns(rig.network.nodes["bob"].jobs[f"{job_id}-1"].spec)
        assert await rig.end(job_id) == "cancelled"
        assert "not what was agreed: tasks of" in (await rig.job("bob", job_id))["reason"]

    play(tmp_path, body, Network(["alice", "bob"], fate=lambda _: ""))


def test_too_long_too_late_and_a_program(tmp_path: Path) -> None:
    async def body(rig: KusciaRig) -> None:
        long = await rig.propose()
        assert await rig.end(long) == "cancelled"
        assert "ran longer than 1 s" in (await rig.job("alice", long))["reason"]
        rig.network.cut.add("bob")
        late = await rig.propose(start_within_s=0.5)
        await rig.until(late, "cancelled", "alice")
        assert "deadline passed" in (await rig.job("alice", late))["reason"]
        assert "in Kuscia mode a job is a pipeline" in await rig.submit_refused("alice", job_folder(["alice", "bob"]))
        assert "has no ['more']" in await rig.submit_refused(
            "alice",
            folder(datasets={"alice": ["more"], "bob": ["patients"]}, pipeline={
                "x": {**PSI, "inputs": ["alice/more", "bob/patients"]}
            }),
        )  # fmt: skip

    def quick(party: str) -> dict[str, Any]:
        return {"job_s": 1}

    play(tmp_path, body, Network(["alice", "bob"], fate=lambda _: ""), timeouts=quick)


def test_the_node_is_made_anew_and_knows_nothing(tmp_path: Path) -> None:
    async def body(rig: KusciaRig) -> None:
        job_id = await rig.propose()
        await rig.until(job_id, "running")
        for node in rig.network.nodes.values():
            node.jobs.clear()
        assert await rig.end(job_id) == "failed"
        assert "no longer has this KusciaJob" in (await rig.job("bob", job_id))["reason"]

    play(tmp_path, body, Network(["alice", "bob"], fate=lambda _: ""))


def test_both_coordinators_are_started_anew_in_the_middle(tmp_path: Path) -> None:
    async def body(rig: KusciaRig) -> None:
        job_id = await rig.propose(max_attempts=2)
        await rig.until(job_id, "running")
        for party in rig.parties:
            await rig.stop(party)
        rig.network.fate = lambda name: "Failed" if name.endswith("-1") else "Succeeded"
        await met(lambda: rig.network.nodes["alice"].jobs[f"{job_id}-1"].phase == "Failed")
        await rig.start()
        assert await rig.end(job_id) == "succeeded"
        assert sorted(rig.network.nodes["alice"].jobs) == [f"{job_id}-1", f"{job_id}-2"]

    play(tmp_path, body, Network(["alice", "bob"], fate=lambda _: ""))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"slots": 1}, "peers, slots: with kuscia there are none"),
        ({"kuscia": None}, "ray, kuscia: exactly one of them"),
        ({"kuscia": {"signing_keys": {}}}, "kuscia.signing_keys are []"),
        ({"kuscia": {"url": "http://node:8082"}}, "should match pattern '^https://"),
        ({"kuscia": {"ca_file": "/nowhere"}}, "/nowhere"),
    ],
)
def test_a_configuration_that_cannot_be(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    rig = KusciaRig(tmp_path)
    path = rig.config_path("alice")
    config = json.loads(path.read_text())
    for name, value in change.items():
        config[name] = {**config[name], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(config))
    with pytest.raises(ConfigError) as refused, contextlib.closing(open_context(path).store):
        pass
    assert why in str(refused.value)
    asyncio.run(rig.http.aclose())


def test_no_room_for_another_proposal(tmp_path: Path) -> None:
    async def body(rig: KusciaRig) -> None:
        await rig.until(await rig.propose(), "running")
        second = await rig.propose(description="one too many")
        await rig.until(second, "cancelled", "alice")
        assert (await rig.job("alice", second))["reason"] == "bob denied the job"
        assert "open_jobs_per_peer" in str([r for r in await records(rig, "bob") if r["kind"] == "refused"])
        assert len(list((tmp_path / "bob" / "state" / "bundles").iterdir())) == 1

    def limits(party: str) -> dict[str, int]:
        return {"open_jobs_per_peer": 1 if party == "bob" else 9}

    play(tmp_path, body, Network(["alice", "bob"], fate=lambda _: ""), limits=limits)


def test_a_kuscia_job_of_this_name_that_is_not_the_partys_own_is_ended(tmp_path: Path) -> None:
    async def body(rig: KusciaRig) -> None:
        node = rig.network.nodes["alice"]
        node.down = True
        name = f"{await rig.propose()}-1"
        task = {"alias": "x", "task_id": "x", "app_image": "x", "task_input_config": "{}", "dependencies": []}
        tasks = [task | {"parties": [{"domain_id": "alice"}]}]
        node.jobs[name] = Held({"job_id": name, "initiator": "alice", "tasks": tasks}, phase="Running")
        node.down = False
        await rig.until(name[:-2], "cancelled", "alice")
        assert "not what was agreed: tasks of" in (await rig.job("alice", name[:-2]))["reason"]

    play(tmp_path, body, Network(["alice", "bob"], fate=lambda _: ""))


def test_a_job_yaml_that_is_lost_before_the_start_is_said(tmp_path: Path) -> None:
    async def body(rig: KusciaRig) -> None:
        node = rig.network.nodes["alice"]
        node.down = True
        job_id = await rig.propose()
        for bundle in (tmp_path / "alice" / "state" / "bundles").iterdir():
            bundle.unlink()
        node.down = False
        await rig.until(job_id, "failed", "alice")
        assert "its job.yaml cannot be read" in (await rig.job("alice", job_id))["reason"]

    play(tmp_path, body)
