"""Both HTTP interfaces, with one coordinator and no network: who may call, what is refused, what is never told."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from builders import proposal
from coordinator_rig import GATEWAY_TOKEN, OPERATOR_TOKEN, Rig, job_folder
from kuscia_jobs import folder as pipeline_folder

from coordinator.app import Coordinator
from coordinator.buckets import Guard
from coordinator.bundle import digest, pack, unpack
from coordinator.context import open_context
from coordinator.driver_log import Log
from coordinator.launcher import LauncherError
from coordinator.model import Checks, Draft, Phase
from coordinator.signing import Signer
from coordinator.statements import (
    ApprovalBody,
    CancelBody,
    DecisionBody,
    Kind,
    OutcomeBody,
    PrepareBody,
    ProposalBody,
    Statement,
)

FOLDER = job_folder(["alice", "bob", "carol"])
FILES = unpack(FOLDER, 10**6)
JOB_ID = "20261124-probe-abcdef"
HEADERS = {"x-consortium-party": "alice", "x-consortium-gateway-token": GATEWAY_TOKEN}
NO_BYTES = b""

ASKED = PrepareBody(promise_s=1, job_name=f"{JOB_ID}-1", consortium_digest="c" * 64)


class Lone:
    """bob's coordinator, alone, and the keys of alice, carol and mallory to speak to it."""

    def __init__(self, folder: Path, **overrides: Any) -> None:
        rig = Rig(folder, ["alice", "bob", "carol", "dave"], **overrides)
        self.coordinator = Coordinator(open_context(rig.config_path("bob")))
        self.context = self.coordinator.context
        self.signers = {p: Signer("demo", p, rig._keys[p]) for p in rig.parties}
        self.peer = self._client(self.coordinator.peer_app(), "http://bob-peer")
        self.operator = self._client(self.coordinator.operator_app(), "http://bob")

    @staticmethod
    def _client(app: Any, base: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base)

    def sign(self, party: str, kind: Kind, body: Any, attempt: int = 0, job_id: str = JOB_ID) -> Statement:
        return self.signers[party].statement(job_id, Draft(kind, attempt, body))

    def proposal(self, party: str = "alice", **overrides: Any) -> Statement:
        import time

        now = time.time()
        fields = {
            "parties": ("alice", "bob", "carol"),
            "program_digest": digest(FILES),
            "bundle_bytes": len(pack(FILES)),
        }
        fields |= {"created_at": now, "deadline": now + 100} | overrides
        return self.sign(party, Kind.PROPOSAL, ProposalBody.model_validate(proposal(**fields).body.model_dump()))

    async def send(self, *statements: Statement, sender: str = "alice", path: str = "") -> httpx.Response:
        body = {"statements": [s.model_dump(mode="json") for s in statements]}
        headers = HEADERS | {"x-consortium-party": sender}
        return await self.peer.post(f"/peer/v1/{path or statements[0].kind}", json=body, headers=headers)

    async def api(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {OPERATOR_TOKEN}"} | more.pop("headers", {})
        return await self.operator.request(method, f"/api/v1/{path}", headers=headers, **more)


def play(folder: Path, body: Callable[[Lone], Awaitable[None]], **overrides: Any) -> None:
    async def run() -> None:
        lone = Lone(folder, **overrides)
        await body(lone)
        await lone.coordinator.stop()

    asyncio.run(run())


HEADER_ATTACKS: list[tuple[str, list[tuple[str, str]], int]] = [
    ("none", [], 401),
    ("no token", [("x-consortium-party", "alice")], 401),
    ("wrong token", [("x-consortium-party", "alice"), ("x-consortium-gateway-token", "x" * 24)], 401),
    (
        "token twice",
        [("x-consortium-party", "alice"), *[("x-consortium-gateway-token", GATEWAY_TOKEN)] * 2],
        401,
    ),
    ("not a member", [("x-consortium-party", "mallory"), ("x-consortium-gateway-token", GATEWAY_TOKEN)], 403),
    ("itself", [("x-consortium-party", "bob"), ("x-consortium-gateway-token", GATEWAY_TOKEN)], 403),
    (
        "two names",
        [
            ("x-consortium-party", "alice"),
            ("x-consortium-party", "carol"),
            ("x-consortium-gateway-token", GATEWAY_TOKEN),
        ],
        403,
    ),
    ("good", list(HEADERS.items()), 200),
]


@pytest.mark.parametrize(("headers", "status"), [a[1:] for a in HEADER_ATTACKS], ids=[a[0] for a in HEADER_ATTACKS])
def test_only_the_gateway_speaks_for_peers(tmp_path: Path, headers: list[tuple[str, str]], status: int) -> None:
    async def body(b: Lone) -> None:
        assert (await b.peer.get("/peer/v1/time", headers=headers)).status_code == status

    play(tmp_path, body)


def test_statements_and_refusals(tmp_path: Path) -> None:
    async def body(b: Lone) -> None:
        first = b.proposal()
        cancel = b.sign("carol", Kind.CANCEL, CancelBody(reason="x"))
        assert (await b.send(cancel, sender="carol")).status_code == 404  # before the proposal: to be sent again
        assert (await b.send(first, sender="carol")).status_code == 403  # carol may not bring alice's proposal
        for _ in range(2):
            assert (await b.send(first)).status_code == 200
        # another initiator, forged author, stranger to the job, wrong place, wrong kind in the batch
        assert (await b.send(b.proposal("carol"), sender="carol")).status_code == 409
        forged = cancel.model_copy(update={"party": "alice"})
        assert (await b.send(forged)).status_code == 403
        dave = b.sign("dave", Kind.CANCEL, CancelBody())
        assert (await b.send(dave, sender="dave")).status_code == 403
        assert (await b.send(cancel, sender="carol", path="outcome")).status_code == 422
        other = b.sign("carol", Kind.CANCEL, CancelBody(), job_id="20261124-probe-bbbbbb")
        assert (await b.send(cancel, other, sender="carol")).status_code == 422
        prepare = b.sign("carol", Kind.PREPARE, ASKED, 1)
        assert (await b.send(prepare, sender="carol")).status_code == 409
        mine = b.sign("bob", Kind.OUTCOME, OutcomeBody(status="succeeded", ended_at=1), 1)
        assert "no record" in (await b.send(mine)).text
        wrong = ApprovalBody(verdict="approve", proposal_digest="f" * 64, by="person")
        refused = await b.send(b.sign("carol", Kind.APPROVAL, wrong), sender="carol")
        assert refused.status_code == 409
        assert "f" * 64 in refused.text
        kinds = [e["kind"] for e in (json.loads(r.content) for r in b.context.store.records())]
        assert kinds.count("refused") >= 8
        assert (await b.send(cancel, sender="carol")).status_code == 200
        await asyncio.sleep(0.2)

    play(tmp_path, body, policy=lambda p: {"default": "person"})


def test_a_party_that_signs_two_outcomes_is_shown_with_both(tmp_path: Path) -> None:
    async def body(b: Lone) -> None:
        await b.send(b.proposal())
        for status in ("succeeded", "failed"):
            s = b.sign("alice", Kind.OUTCOME, OutcomeBody(status=status, ended_at=1), 1)  # type: ignore[arg-type]
            assert (await b.send(s)).status_code == 200
        for _ in range(100):
            await asyncio.sleep(0.02)
            seen = (await b.api("GET", f"jobs/{JOB_ID}")).json()
            if seen["phase"] == "diverged":
                break
        assert seen["phase"] == "diverged"
        assert [s["body"]["status"] for s in seen["conflicts"][0]] == ["succeeded", "failed"]
        b.context.store.close()
        await b.coordinator.worker.close()

    play(tmp_path, body, policy=lambda p: {"default": "person"})


BAD_PROPOSALS: list[tuple[str, dict[str, Any], str]] = [
    ("without us", {"parties": ("alice", "carol")}, "bob is not among"),
    ("without itself", {"parties": ("bob", "carol")}, "initiator alice is not among"),
    ("stranger", {"parties": ("alice", "bob", "mallory")}, "not members"),
    ("big folder", {"bundle_bytes": 50_000_000}, "limit 10000000"),
    ("many attempts", {"max_attempts": 20}, "max_attempts 20, limit 3"),
    ("for ever", {"deadline": 1e11}, "deadline"),
    ("too late", {"created_at": 1.0, "deadline": 2.0}, "deadline passed"),
]


@pytest.mark.parametrize(("fields", "words"), [p[1:] for p in BAD_PROPOSALS], ids=[p[0] for p in BAD_PROPOSALS])
def test_bad_proposals(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    async def body(b: Lone) -> None:
        answer = await b.send(b.proposal(**fields))
        assert answer.status_code == 409
        assert words in answer.text
        assert b.context.store.job_ids() == []

    play(tmp_path, body)


def raw(b: Lone) -> dict[str, Any]:
    return {"statements": [b.proposal().model_dump(mode="json")]}


MALFORMED: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("unknown field", lambda d: d["statements"][0].update(extra=1)),
    ("unknown field in the body", lambda d: d["statements"][0]["body"].update(extra=1)),
    ("unknown kind", lambda d: d["statements"][0].update(kind="order")),
    ("kind that is a list", lambda d: d["statements"][0].update(kind=["proposal"])),
    ("body of another kind", lambda d: d["statements"][0].update(body={"reason": "x"})),
    ("attempt of a proposal", lambda d: d["statements"][0].update(attempt=1)),
    ("job id with a path", lambda d: d["statements"][0].update(job_id="../../etc")),
    ("party name", lambda d: d["statements"][0].update(party="Alice!")),
    ("long text", lambda d: d["statements"][0]["body"].update(description="x" * 3000)),
    ("large parameters", lambda d: d["statements"][0]["body"].update(parameters={"x": "y" * 70_000})),
    ("party twice", lambda d: d["statements"][0]["body"].update(parties=["alice", "alice"])),
    ("stranger's data", lambda d: d["statements"][0]["body"].update(datasets={"dave": ["x"]})),
    ("program outside", lambda d: d["statements"][0]["body"].update(program="a/../../b")),
    ("deadline before creation", lambda d: d["statements"][0]["body"].update(deadline=1)),
    ("none", lambda d: d.update(statements=[])),
    ("body missing", lambda d: d["statements"][0].update(body=None)),
]


@pytest.mark.parametrize("spoil", [m[1] for m in MALFORMED], ids=[m[0] for m in MALFORMED])
def test_malformed_messages(tmp_path: Path, spoil: Callable[[dict[str, Any]], object]) -> None:
    async def body(b: Lone) -> None:
        message = raw(b)
        spoil(message)
        answer = await b.peer.post("/peer/v1/proposal", json=message, headers=HEADERS)
        assert answer.status_code == 422, answer.text

    play(tmp_path, body)


def test_oversize_bodies_announced_or_not(tmp_path: Path) -> None:
    async def body(b: Lone) -> None:
        async def flood() -> Any:
            for _ in range(200):
                yield b"x" * 10_000

        for content in (b"x" * 1_100_000, flood()):
            answer = await b.peer.post("/peer/v1/cancel", content=content, headers=HEADERS)
            assert answer.status_code == 413
        answer = await b.peer.post("/peer/v1/bundle/" + JOB_ID, content=b"x" * 11_100_000, headers=HEADERS)
        assert answer.status_code == 413
        liar = HEADERS | {"content-length": "-5"}
        assert (await b.peer.post("/peer/v1/cancel", content=NO_BYTES, headers=liar)).status_code == 413

    play(tmp_path, body)


def test_job_folders_must_be_the_proposed_ones(tmp_path: Path) -> None:
    async def body(b: Lone) -> None:
        async def bring(data: bytes, sender: str = "alice") -> int:
            headers = HEADERS | {"x-consortium-party": sender}
            return (await b.peer.post(f"/peer/v1/bundle/{JOB_ID}", content=data, headers=headers)).status_code

        assert await bring(FOLDER) == 404
        await b.send(b.proposal())
        assert await bring(FOLDER, "carol") == 404
        assert await bring(b"no tar") == 422
        assert await bring(job_folder(["alice", "bob"])) == 409
        early = await b.api("POST", f"jobs/{JOB_ID}/approve")
        assert early.status_code == 409
        assert "has not arrived" in early.text
        assert (await b.api("GET", f"jobs/{JOB_ID}/program")).status_code == 404
        assert await bring(FOLDER) == 200
        assert await bring(FOLDER) == 200

    play(tmp_path, body, policy=lambda p: {"default": "person"})


def test_what_became_of_an_attempt(tmp_path: Path) -> None:
    async def body(b: Lone) -> None:
        def ask(attempt: int) -> Any:
            return b.peer.get(f"/peer/v1/jobs/{JOB_ID}/decision?attempt={attempt}", headers=HEADERS)

        assert (await ask(1)).status_code == 404
        await b.send(b.proposal())
        for _ in range(2):  # bob has promised nothing: it refuses now, once, and says so
            known = (await ask(1)).json()["statements"]
            assert [(s["kind"], s["body"]["verdict"], s["body"]["code"]) for s in known] == [
                ("promise", "refuse", "absent")
            ]
        decision = b.sign("alice", Kind.DECISION, DecisionBody(verdict="abort", reason="x"), 2)
        assert (await b.send(decision, sender="carol")).status_code == 200  # passed on by carol
        assert [s["kind"] for s in (await ask(2)).json()["statements"]] == ["decision"]
        assert (await ask(0)).status_code == 422

    play(tmp_path, body, policy=lambda p: {"default": "person"})


def test_nobody_comes_in_without_the_token(tmp_path: Path) -> None:
    async def body(b: Lone) -> None:
        schema = b.coordinator.operator_app().openapi()
        for path, methods in schema["paths"].items():
            for method in methods:
                b.context.guard = Guard(OPERATOR_TOKEN)  # nobody may guess as often as there are routes
                url = path.replace("{job_id}", JOB_ID).replace("{name}", "x")
                for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic eDp5"}):
                    files = {"bundle": ("x", b"x")} if url == "/api/v1/jobs" and method == "post" else None
                    answer = await b.operator.request(method, url, headers=headers, files=files)
                    public = url in ("/healthz", "/metrics")
                    assert answer.status_code == (200 if public else 401), (method, url, answer.text)
        assert "consortium_jobs" in (await b.operator.get("/metrics")).text

    play(tmp_path, body)


def test_submitting(tmp_path: Path) -> None:
    async def body(b: Lone) -> None:
        async def submit(folder: bytes, key: str | None = None) -> httpx.Response:
            headers = {"idempotency-key": key} if key else {}
            return await b.api("POST", "jobs", files={"bundle": ("job.tar", folder)}, headers=headers)

        good = job_folder(["alice", "bob"], datasets={"bob": ["table"]})
        made = await submit(good, "k1")
        assert made.status_code == 201
        assert re.fullmatch(r"\d{8}-probe-[a-z2-7]{6}", made.json()["job_id"])
        again = await submit(good, "k1")
        assert (again.status_code, again.json()["job_id"]) == (200, made.json()["job_id"])
        assert (await submit(job_folder(["bob", "alice"]), "k1")).status_code == 409
        assert (await submit(good, "no spaces")).status_code == 422
        for folder, words in (
            (b"x", "not an uncompressed tar"),
            (job_folder(["alice", "carol"]), "must include bob"),
            (job_folder(["bob", "mallory"]), "not members"),
            (job_folder(["alice", "bob"], datasets={"bob": ["nothing"]}), "has no ['nothing']"),
            (job_folder(["alice", "bob"], max_attempts=9), "at most 3"),
            (pipeline_folder(), "in Ray mode, where a job is a program"),
        ):
            answer = await submit(folder)
            assert answer.status_code == 422
            assert words in answer.text
        assert (await submit(good)).status_code == 201
        answer = await submit(good)
        assert answer.status_code == 429
        listed = (await b.api("GET", "jobs")).json()["jobs"]
        assert len(listed) == 2
        assert (await b.api("GET", "jobs/20261124-none-aaaaaa")).status_code == 404
        assert (await b.api("GET", "jobs/nonsense")).status_code == 422
        # the other may not take part any more: the limit counts open jobs, at its own door too
        assert (await b.send(b.proposal())).status_code == 429

    play(tmp_path, body, limits={"open_jobs": 2})


def test_outputs_stay_inside_their_folder(tmp_path: Path) -> None:
    async def body(b: Lone) -> None:
        made = (await b.api("POST", "jobs", files={"bundle": ("x", job_folder(["alice", "bob"]))})).json()
        job_id = made["job_id"]
        output = b.context.attempt_dir(job_id, made["attempt"]) / "output"
        assert (await b.api("GET", f"jobs/{job_id}/files")).json() == {"files": []}
        output.mkdir(parents=True)
        (output / "table.csv").write_text("1")
        (output / "result.json").write_text("{broken")
        (output / "secret").symlink_to("/etc/passwd")
        assert (await b.api("GET", f"jobs/{job_id}/files/table.csv")).text == "1"
        names = [f["name"] for f in (await b.api("GET", f"jobs/{job_id}/files")).json()["files"]]
        assert names == ["result.json", "table.csv"]
        for name, status in (("secret", 404), ("none", 404), ("..%2f..%2fx", 404), (".hidden", 422)):
            assert (await b.api("GET", f"jobs/{job_id}/files/{name}")).status_code == status
        assert (await b.api("GET", f"jobs/{job_id}/result")).status_code == 500
        assert (await b.api("GET", f"jobs/{job_id}/logs")).status_code == 502  # no Ray here
        lines = (await b.api("GET", "audit")).text.splitlines()
        assert [json.loads(lines[0])["party"], json.loads(lines[1])["seq"]] == ["bob", 1]
        b.context.store.close()

    play(tmp_path, body)


def test_status_page(tmp_path: Path) -> None:
    async def body(b: Lone) -> None:
        await b.send(b.proposal(parameters={"x": "<script>alert(1)</script>"}))
        page = b.operator
        assert "Operator" in (await page.get("/")).text
        assert (await page.get(f"/jobs/{JOB_ID}")).status_code == 303
        assert (await page.post("/login", data={"token": "wrong"})).status_code == 401
        assert (await page.post(f"/jobs/{JOB_ID}/approve", data={"csrf": "x"})).status_code == 401
        answer = await page.post("/login", data={"token": OPERATOR_TOKEN})
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        home = await page.get("/")
        assert JOB_ID in home.text
        assert "default-src 'none'" in home.headers["content-security-policy"]
        assert not re.search(r"(src|href)=\"(https?:)?//", home.text)
        csrf = re.search(r'name="csrf" value="([^"]+)"', home.text).group(1)  # type: ignore[union-attr]
        shown = (await page.get(f"/jobs/{JOB_ID}")).text
        assert "<script>" not in shown
        assert "has not arrived" in shown
        await b.peer.post(f"/peer/v1/bundle/{JOB_ID}", content=FOLDER, headers=HEADERS)
        assert "CONSORTIUM_SESSION" in (await page.get(f"/jobs/{JOB_ID}")).text
        for form in ({}, {"csrf": "wrong"}):
            assert (await page.post(f"/jobs/{JOB_ID}/approve", data=form)).status_code == 403
        assert (await page.post(f"/jobs/{JOB_ID}/explode", data={"csrf": csrf})).status_code == 404
        for seen in ({}, {"digest": "0" * 64}):  # the form says which proposal the person saw
            answer = await page.post(f"/jobs/{JOB_ID}/approve", data={"csrf": csrf} | seen)
            assert answer.status_code == 409
            assert "<h1>Conflict</h1>" in answer.text
        seen = {"digest": re.search(r'name="digest" value="([^"]+)"', home.text).group(1)}  # type: ignore[union-attr]
        assert (await page.post(f"/jobs/{JOB_ID}/approve", data={"csrf": csrf} | seen)).status_code == 303
        assert (await page.post(f"/jobs/{JOB_ID}/deny", data={"csrf": csrf})).status_code == 409
        assert (await page.post(f"/jobs/{JOB_ID}/cancel", data={"csrf": csrf})).status_code == 303
        said = b.context.store.load(JOB_ID)
        assert said is not None
        assert said.approvals()["bob"].verdict == "approve"
        assert "bob" in said.cancels()
        assert (await page.post("/logout", data={"csrf": csrf})).status_code == 303
        assert "Operator" in (await page.get("/")).text

    play(tmp_path, body, policy=lambda p: {"default": "person"})


def test_a_followed_log_that_breaks_off_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(b: Lone) -> None:
        texts = iter(["one\n", "one\n", "one\ntwo\n"])

        async def logs(_: str) -> Log:
            try:
                text = next(texts)
                return Log(text, len(text))
            except StopIteration:
                raise LauncherError("Ray is gone") from None

        monkeypatch.setattr(b.context.launcher, "logs", logs)
        await b.send(b.proposal())
        answer = await b.api("GET", f"jobs/{JOB_ID}/logs?follow=true")
        assert answer.status_code == 200
        assert answer.text.startswith("one\ntwo\n\n(this is not the end: ")
        assert "Ray is gone" in answer.text
        assert (await b.api("GET", f"jobs/{JOB_ID}/logs?follow=true")).status_code == 502  # from the beginning
        assert (await b.api("GET", f"audit?start={2**63}")).status_code == 422

    play(tmp_path, body, policy=lambda p: {"default": "person"})


def test_in_doubt_it_asks_the_others_and_believes_only_signatures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(b: Lone) -> None:
        async def fine(_context: Any, _job: Any, attempt: int) -> Checks:
            return Checks(attempt)

        monkeypatch.setattr("coordinator.prepare.run_checks", fine)
        told: list[Statement] = []

        def answer(request: httpx.Request) -> httpx.Response:
            if "decision" in request.url.path:
                return httpx.Response(200, json={"statements": [s.model_dump(mode="json") for s in told]})
            return httpx.Response(200, json={})

        gone = httpx.MockTransport(lambda _: httpx.Response(503))
        b.context.peers._http["alice"] = httpx.AsyncClient(transport=gone, base_url="http://alice")
        b.context.peers._http["carol"] = httpx.AsyncClient(
            transport=httpx.MockTransport(answer), base_url="http://carol"
        )

        async def until(phase: Phase, slot: int | None) -> None:
            for _ in range(300):
                job = b.context.store.load(JOB_ID)
                assert job is not None
                if job.phase is phase and job.slot == slot:
                    return
                await asyncio.sleep(0.02)
            raise AssertionError(f"{job.phase}, slot {job.slot}: {job.reason}")

        ticking = asyncio.create_task(b.coordinator.worker.tick())
        asked = b.proposal()
        await b.send(asked)
        await b.peer.post(f"/peer/v1/bundle/{JOB_ID}", content=FOLDER, headers=HEADERS)
        yes = ApprovalBody(verdict="approve", proposal_digest=asked.digest(), by="person")
        for party in ("alice", "carol"):
            assert (await b.send(b.sign(party, Kind.APPROVAL, yes), sender=party)).status_code == 200
        await b.send(b.sign("alice", Kind.PREPARE, ASKED, 1))
        await until(Phase.PROMISED, 0)
        await until(Phase.PROMISED, None)  # the promise ended: the slot is free, the promise stands
        abort = b.sign("alice", Kind.DECISION, DecisionBody(verdict="abort", reason="as alice said"), 1)
        told.append(abort.model_copy(update={"signature": "AAAA"}))
        await asyncio.sleep(0.5)
        await until(Phase.PROMISED, None)
        told[:] = [b.sign("alice", Kind.CANCEL, CancelBody())]
        await asyncio.sleep(0.5)
        await until(Phase.PROMISED, None)
        told[:] = [abort]
        await until(Phase.APPROVED, None)
        ticking.cancel()

    play(tmp_path, body, timeouts={"promise_s": 0.4})
