"""What changed something or was refused is in the audit log, and nobody can flood the log by being refused."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from coordinator_rig import OPERATOR_TOKEN, Rig, rig

from coordinator.__main__ import main
from coordinator.audit_daily import AuditFiles
from coordinator.buckets import Refusals
from coordinator.config import load_config, settings_digest
from coordinator.context import Context, open_context
from coordinator.offline import told
from coordinator.policy import policy_digest


def events(context: Context) -> list[dict[str, Any]]:
    return [json.loads(r.content) for r in context.store.records()]


def test_strangers_are_recorded_without_a_flood(tmp_path: Path) -> None:
    async def run() -> None:
        async with rig(tmp_path) as r:
            operator, peer = (f"http://127.0.0.1:{port}" for port in r.ports["alice"])
            for _ in range(20):
                assert (await r.http.get(f"{operator}/api/v1/status")).status_code == 401
                assert (await r.http.post(f"{operator}/login", data={"token": "wrong"})).status_code == 401
                assert (await r.http.get(f"{peer}/peer/v1/time")).status_code == 401
            context = r.running["alice"].context
            refused = [e["path"] for e in events(context) if e["kind"] == "refused"]
            assert sorted(refused) == ["login page", "operator API", "peer interface"]
            assert OPERATOR_TOKEN not in json.dumps(events(context))

    asyncio.run(run())


def test_what_was_held_back_is_counted(tmp_path: Path) -> None:
    context = open_context(Rig(tmp_path, ["alice", "bob"]).config_path("alice"))
    now = [1000.0]
    refusals = Refusals(context.store, lambda: now[0])
    for second in (0, 1, 2, 61):
        now[0] = 1000.0 + second
        refusals.stranger("login page", "wrong token")
    assert [(e["reason"], e["left_out_before"]) for e in events(context)] == [("wrong token", 0), ("wrong token", 2)]


def test_a_start_records_settings_and_policy_and_a_job_folder_its_arrival(tmp_path: Path) -> None:
    async def run() -> None:
        async with rig(tmp_path) as r:
            await r.end(await r.submit("alice"))
            found = events(r.running["bob"].context)
            started = next(e for e in found if e["kind"] == "started")
            assert started["settings"] == settings_digest(load_config(r.config_path("bob")))
            assert started["policy"] == policy_digest(r.running["bob"].context.config.policy)
            assert sum(e["kind"] == "bundle" for e in found) == 1

    asyncio.run(run())


def test_settings_have_one_digest(tmp_path: Path) -> None:
    rig = Rig(tmp_path, ["alice", "bob"])
    one = settings_digest(load_config(rig.config_path("alice")))
    assert one == settings_digest(load_config(rig.config_path("alice")))
    other = Rig(tmp_path, ["alice", "bob"], policy={"default": "person"})
    assert one != settings_digest(load_config(other.config_path("alice")))


def test_commands_beside_the_coordinator_are_recorded_by_it(tmp_path: Path) -> None:
    path = Rig(tmp_path, ["alice", "bob"]).config_path("alice")
    context = open_context(path)
    files = AuditFiles(context)
    context.store.note(1.0, "test", "one")

    async def a_moment() -> None:
        task = asyncio.create_task(files.run())
        await asyncio.sleep(0.2)
        task.cancel()

    asyncio.run(a_moment())
    assert main(["backup", str(tmp_path / "copy.db"), "--config", str(path)]) == 0
    assert main(["audit", "export", str(tmp_path / "a.jsonl"), "--config", str(path)]) == 0
    files.take_what_was_told()
    kinds = [e["kind"] for e in events(context)]
    assert kinds[-2:] == ["backup", "exported"]
    assert list(told(context.config.state_dir)) == []


def test_an_export_through_the_api_is_recorded(tmp_path: Path) -> None:
    async def run() -> None:
        async with rig(tmp_path) as r:
            assert (await r.call("alice", "GET", "audit?start=1&end=1")).status_code == 200
            assert events(r.running["alice"].context)[-1]["reason"] == "records 1 to 1 given to the operator"
            assert (await r.call("alice", "GET", "audit?start=99")).status_code == 422
            assert (await r.call("alice", "GET", "audit?start=x")).status_code == 422
            assert (await r.call("alice", "GET", "audit?start=2026-13-01")).status_code == 422

    asyncio.run(run())
