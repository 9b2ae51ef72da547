"""Every line of a coordinator's process is JSON, says where it belongs, and holds no secret."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import httpx
from coordinator_rig import GATEWAY_TOKEN, OPERATOR_TOKEN, Rig


def lines_of(path: Path) -> list[dict[str, Any]]:
    found = []
    for line in path.read_text("utf-8").splitlines():
        entry = json.loads(line)  # raises at the first line that is none
        assert {"timestamp", "level", "logger", "event"} <= set(entry), entry
        found.append(entry)
    return found


def test_a_real_process_writes_json_whatever_goes_wrong(tmp_path: Path) -> None:
    """A job, a peer that vanishes, a refused message, and an error nobody foresaw."""
    log = tmp_path / "alice" / "coordinator.log"

    async def run() -> None:
        async with Rig(tmp_path, ["alice", "bob"]) as r:
            r.spawn("alice")
            await r.start("bob")
            await r.wait_up("alice")
            job_id = await r.submit("bob")
            assert await r.end(job_id) == "succeeded"
            url = f"http://127.0.0.1:{r.ports['alice'][1]}/peer/v1/proposal"
            headers = {"x-consortium-party": "bob", "x-consortium-gateway-token": GATEWAY_TOKEN}
            signed = (await r.job("bob", job_id))["statements"]
            lying = next(s for s in signed if s["kind"] == "proposal") | {"signature": "A" * 86 + "=="}
            assert (await r.http.post(url, json={"statements": [lying]}, headers=headers)).status_code == 403
            await r.stop("bob")
            await asyncio.sleep(1)
            db = sqlite3.connect(tmp_path / "alice" / "state" / "coordinator.db")
            db.executescript("DROP TABLE receipts;")  # what no code expects
            db.close()
            answer = await r.submit("alice")
            for _ in range(100):
                if "step failed" in log.read_text("utf-8"):
                    break
                await asyncio.sleep(0.05)
            try:
                assert (await r.call("alice", "GET", f"jobs/{answer}")).status_code == 200
            except httpx.HTTPError as e:
                raise AssertionError("the coordinator does not answer any more") from e
            r.children["alice"].terminate()
            r.children["alice"].wait(10)

    asyncio.run(run())
    text = log.read_text("utf-8")
    assert OPERATOR_TOKEN not in text
    assert GATEWAY_TOKEN not in text
    lines = lines_of(log)
    events = {entry["event"]: entry for entry in lines}
    assert events["listening"]["level"] == "info"
    refused = events["message refused"]
    assert (refused["level"], refused["peer"]) == ("warning", "bob")
    assert events["peer does not answer"]["peer"] == "bob"
    failed = events["step failed"]
    assert failed["level"] == "error"
    assert failed["job_id"]
    assert "no such table: receipts" in failed["exception"]
    steps = [entry for entry in lines if entry["logger"] == "coordinator.worker" and "phase" in entry]
    assert {"job_id", "attempt", "phase", "was"} <= set(steps[0])
    assert any(entry["logger"].startswith("uvicorn") for entry in lines)


def test_a_refused_start_is_one_line_of_json(tmp_path: Path) -> None:
    async def run() -> None:
        async with Rig(tmp_path, ["alice", "bob"]) as r:
            r.config_path("alice").write_text('{"no": "settings"}')
            assert r.spawn("alice").wait(20) == 2

    asyncio.run(run())
    (line,) = lines_of(tmp_path / "alice" / "coordinator.log")
    assert line["level"] == "critical"
    assert "coordinator.json" in line["event"]
