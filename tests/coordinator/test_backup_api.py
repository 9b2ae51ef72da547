"""The backup that the operator fetches: good while jobs are written, one at a time, and nothing of it stays behind."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from coordinator_rig import OPERATOR_TOKEN, job_folder
from test_interfaces import Lone, play

from coordinator import api_backup
from coordinator import backup as backups
from coordinator.accept import keep_bundle
from coordinator.backup import restore
from coordinator.backup_file import Label, check_backup
from coordinator.submit import submit

AUTH = {"authorization": f"Bearer {OPERATOR_TOKEN}"}


def checked(lone: Lone, path: Path, content: bytes) -> Label:
    path.write_bytes(content)
    return check_backup(path, lone.context.verifier.keys, "demo", "bob")


def left(lone: Lone) -> list[str]:
    """What of a backup is still on the disk: files with a name, and files that are only held open."""
    state = lone.context.config.state_dir
    named = [str(p) for p in state.rglob("*backup*")]
    return named + [link for link in map(_target, Path("/proc/self/fd").iterdir()) if api_backup.OUTGOING in link]


def _target(fd: Path) -> str:
    try:
        return os.readlink(fd)
    except FileNotFoundError:
        return ""


def fill(lone: Lone, megabytes: int) -> None:
    """So many job folders, more than any socket buffers."""
    for n in range(megabytes):
        keep_bundle(lone.context, {"main.py": bytes([n]) * 1_000_000})


async def until_free(lone: Lone) -> httpx.Response:
    """A backup, as soon as no other one is under way."""
    async with httpx.AsyncClient(trust_env=False, headers=AUTH, timeout=20) as client:
        for _ in range(100):
            answer = await client.get(url(lone))
            if answer.status_code != 409:
                break
            await asyncio.sleep(0.05)
        return answer


async def let_go(lone: Lone) -> None:
    """Nothing is left, at the latest a moment after the client has its last byte: only then the file is closed."""
    for _ in range(100):
        if not (found := left(lone)):
            return
        await asyncio.sleep(0.05)
    assert found == []


def url(lone: Lone) -> str:
    return f"http://127.0.0.1:{lone.coordinator.ports[0]}/api/v1/backup"


def test_good_backups_while_jobs_are_written(tmp_path: Path) -> None:
    async def body(b: Lone) -> None:
        await b.coordinator.worker.close()  # the load is the submissions
        labels, written, ended = [], 0, False

        async def writer() -> None:
            nonlocal written
            while not ended:
                submit(b.context, job_folder(["alice", "bob", "carol"], main=f"print({written % 20})"))
                await b.context.store.durable()
                written += 1
                await asyncio.sleep(0.005)

        task = asyncio.create_task(writer())
        for n in range(3):
            await asyncio.sleep(0.2)
            answer = await b.api("GET", "backup")
            assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-tar")
            assert int(answer.headers["content-length"]) == len(answer.content)
            labels.append(checked(b, tmp_path / f"{n}.tar", answer.content))
            assert left(b) == []
        ended = True
        await task
        assert labels[0].audit_seq < labels[1].audit_seq < labels[2].audit_seq
        told = [e for e in (json.loads(r.content) for r in b.context.store.records()) if e["kind"] == "backup"]
        assert [e["reason"] for e in told] == [
            f"the state was given to the operator, up to record {label.audit_seq}" for label in labels
        ]

    play(tmp_path, body)


def test_what_is_restored_has_the_head_of_the_backup(tmp_path: Path) -> None:
    async def body(b: Lone) -> None:
        submit(b.context, job_folder(["alice", "bob", "carol"]))
        await b.context.store.durable()
        head = b.context.store.head()
        label = checked(b, tmp_path / "b.tar", (await b.api("GET", "backup")).content)
        assert (label.audit_seq, label.audit_hash) == head
        empty = b.context.config.model_copy(update={"state_dir": tmp_path / "elsewhere"})
        assert restore(empty, b.context.signer, b.context.verifier, tmp_path / "b.tar") == label

    play(tmp_path, body)


def test_without_the_token_there_is_none(tmp_path: Path) -> None:
    async def body(b: Lone) -> None:
        for headers in ({}, {"authorization": "Bearer wrong"}):
            assert (await b.operator.get("/api/v1/backup", headers=headers)).status_code == 401
        assert (await b.peer.get("/api/v1/backup", headers=AUTH)).status_code in (401, 404)

    play(tmp_path, body)


def test_one_at_a_time_and_nothing_stays_when_the_client_goes_away(tmp_path: Path) -> None:
    async def body(b: Lone) -> None:
        await b.coordinator.start()
        fill(b, 20)
        client = httpx.AsyncClient(trust_env=False, headers=AUTH, timeout=20)
        async with client, client.stream("GET", url(b)) as first:
            assert first.status_code == 200
            parts = first.aiter_raw()  # kept: letting go of it would end the connection
            await anext(parts)
            assert len(left(b)) == 1  # open, without a name
            second = await client.get(url(b))
            assert second.status_code == 409
            assert "one is made at a time" in second.text
        # the client went away with most of it unread
        answer = await until_free(b)
        assert len(checked(b, tmp_path / "b.tar", answer.content).bundles) == 20
        await let_go(b)

    play(tmp_path, body)


def test_a_client_that_takes_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_backup, "STALLED_S", 0.5)

    async def body(b: Lone) -> None:
        await b.coordinator.start()
        fill(b, 20)
        with socket.create_connection(("127.0.0.1", b.coordinator.ports[0])) as silent:
            request = f"GET /api/v1/backup HTTP/1.1\r\nHost: b\r\nAuthorization: {AUTH['authorization']}\r\n\r\n"
            silent.sendall(request.encode())
            while not left(b):
                await asyncio.sleep(0.01)
            begun = time.monotonic()
            answer = await until_free(b)
            assert answer.status_code == 200
            assert time.monotonic() - begun > 0.3
            await let_go(b)

    play(tmp_path, body)


def test_no_room(tmp_path: Path) -> None:
    async def body(b: Lone) -> None:
        answer = await b.api("GET", "backup")
        assert answer.status_code == 507
        assert f"{10**18} must stay free (min_free_bytes): make room there" in answer.json()["detail"]
        assert left(b) == []

    play(tmp_path, body, limits={"min_free_bytes": 10**18})


def test_the_disk_gets_full_meanwhile_then_there_is_room_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def body(b: Lone) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(backups, "whole_file", full)
            answer = await b.api("GET", "backup")
        assert (answer.status_code, left(b)) == (507, [])
        assert "No space left on device" in answer.json()["detail"]
        assert (await b.api("GET", "backup")).status_code == 200

    play(tmp_path, body)


def test_a_damaged_state_is_not_given_out_and_what_a_killed_coordinator_left_is_removed(tmp_path: Path) -> None:
    async def body(b: Lone) -> None:
        leftover = b.context.config.state_dir / api_backup.OUTGOING
        (leftover / ".backup-x").mkdir(parents=True)
        digest = keep_bundle(b.context, {"main.py": b"print(1)"})
        path = b.context.bundle_path(digest)
        good = path.read_bytes()
        path.write_bytes(good.replace(b"print", b"prinf"))
        answer = await b.api("GET", "backup")
        assert answer.status_code == 503
        assert "this job folder is damaged" in answer.json()["detail"]
        path.write_bytes(good)
        assert (await b.api("GET", "backup")).status_code == 200
        assert left(b) == []

    play(tmp_path, body)
