"""`consortium backup` against a real coordinator: what it leaves can be restored, or it leaves nothing."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from consortium.cli import backup as commands
from consortium.client import Coordinator as Client
from coordinator.app import Coordinator
from coordinator.backup import restore
from coordinator.config import load_config
from coordinator.context import load_signer, open_context
from coordinator.offline import read_last, read_link
from tests.consortium.conftest import Command
from tests.coordinator.coordinator_rig import OPERATOR_TOKEN, Rig, job_folder


class Served:
    """alice's coordinator on a real port, with one job of hers."""

    def __init__(self, folder: Path) -> None:
        self.rig = Rig(folder, ["alice", "bob"])
        self.config = load_config(self.rig.config_path("alice"))
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.coordinator = self.run(self._start())
        self.api = f"http://127.0.0.1:{self.coordinator.ports[0]}"
        files = {"bundle": ("b.tar", job_folder(["alice", "bob"]))}
        headers = {"authorization": f"Bearer {OPERATOR_TOKEN}"}
        assert httpx.post(f"{self.api}/api/v1/jobs", files=files, headers=headers, trust_env=False).status_code == 201

    async def _start(self) -> Coordinator:
        made = Coordinator(open_context(self.rig.config_path("alice")))
        await made.start()
        return made

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def close(self) -> None:
        self.run(self.coordinator.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)


@pytest.fixture
def served(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    made = Served(tmp_path / "rig")
    monkeypatch.setenv("CONSORTIUM_API", made.api)
    monkeypatch.setenv("CONSORTIUM_TOKEN", OPERATOR_TOKEN)
    monkeypatch.chdir(tmp_path)
    yield made
    made.close()


def keys(served: Served) -> list[str]:
    return ["--key", f"alice={served.rig.public('alice')}"]


def here(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in tmp_path.iterdir() if p.name != "rig")


def answer(out: str) -> Any:
    """The command's JSON; the coordinator, which runs in this process, logs to the same place."""
    return json.JSONDecoder().raw_decode(out[out.index("{\n") :])[0]


def test_what_was_fetched_is_restored_with_the_same_audit_head(
    command: Command, served: Served, tmp_path: Path
) -> None:
    said = command("backup", "alice.tar", *keys(served), "--json")
    assert said.code == 0, said.err
    made, target = answer(said.out), tmp_path / "alice.tar"
    assert (made["file"], made["party"], made["consortium"], made["job_folders"]) == ("alice.tar", "alice", "demo", 1)
    assert made["bytes"] == target.stat().st_size
    assert target.stat().st_mode & 0o777 == 0o600
    assert f"{made['bytes']:,} bytes are here" in said.err
    assert here(tmp_path) == ["alice.tar"]
    elsewhere = served.config.model_copy(update={"state_dir": tmp_path / "new"})
    label = restore(elsewhere, *load_signer(elsewhere), target)
    head = read_link(tmp_path / "new" / "coordinator.db", made["audit_seq"])
    assert (head.hash, label.audit_hash) == (made["audit_hash"], made["audit_hash"])
    assert read_last(tmp_path / "new" / "coordinator.db") == made["audit_seq"] + 1  # and that it was restored


def test_nothing_is_overwritten(command: Command, served: Served, tmp_path: Path) -> None:
    (tmp_path / "old.tar").write_text("old")
    said = command("backup", "old.tar", *keys(served))
    assert (said.code, (tmp_path / "old.tar").read_text()) == (2, "old")
    assert "exists already" in said.err
    assert read_kinds(served).count("backup") == 0  # nothing was asked for


def test_not_even_what_came_meanwhile(
    command: Command, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = commands._checked

    def late(*given: Any) -> Any:
        (tmp_path / "new.tar").write_text("somebody else's")
        return real(*given)

    monkeypatch.setattr(commands, "_checked", late)
    assert command("backup", "new.tar", *keys(served)).code == 2
    assert (tmp_path / "new.tar").read_text() == "somebody else's"
    assert here(tmp_path) == ["new.tar"]


def read_kinds(served: Served) -> list[str]:
    async def kinds() -> list[str]:
        return [json.loads(r.content)["kind"] for r in served.coordinator.context.store.records()]

    found: list[str] = served.run(kinds())
    return found


def test_progress_and_text(command: Command, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "PROGRESS", 1000)
    said = command("backup", "alice.tar", *keys(served), "--party", "alice")
    assert said.code == 0
    assert "alice.tar: " in said.out
    assert "alice of demo up to audit record" in said.out
    assert "… " in said.err


@pytest.mark.parametrize(
    ("more", "code", "why"),
    [
        (["--party", "bob"], 1, "is a backup of alice of consortium demo, this is bob of demo"),
        (["--key", "alice=AAAA"], 2, "cannot be used"),
        (["--key", "bob={bob}"], 1, "is a backup of alice, keys are here of ['bob']"),
        (["--key", "alice={bob}"], 1, "audit log of alice"),
        ([], 2, "no workspace"),
    ],
    ids=["another party", "no key", "another's key", "a wrong key", "no keys"],
)
def test_what_cannot_be_checked_is_not_kept(
    command: Command, served: Served, tmp_path: Path, more: list[str], code: int, why: str
) -> None:
    more = [m.format(bob=served.rig.public("bob")) for m in more]
    said = command("backup", "alice.tar", *more, *(keys(served) if "--party" in more else []))
    assert said.code == code
    assert why in said.err
    assert here(tmp_path) == []


def test_errors_of_the_other_side(
    command: Command, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def says(status: int, detail: str) -> None:
        def handle(_: httpx.Request) -> httpx.Response:
            return httpx.Response(status, json={"detail": detail})

        fake = Client("http://node:1", "t", transport=httpx.MockTransport(handle))
        monkeypatch.setattr(commands, "coordinator", lambda *_, **__: fake)

    says(409, "another backup is being made or sent")
    said = command("backup", "a.tar", *keys(served))
    assert (said.code, "being made or sent" in said.err) == (5, True)
    says(507, "alice makes no backup: 5 bytes are free")
    said = command("backup", "a.tar", *keys(served), "--json")
    assert (said.code, answer(said.out)["exit_code"]) == (1, 1)
    assert "5 bytes are free" in answer(said.out)["error"]["value"]
    assert here(tmp_path) == []


@pytest.mark.parametrize("end", [100, 10_000, -200], ids=["in the label", "in the database", "in the last folder"])
def test_a_broken_transfer_leaves_nothing(
    command: Command, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: int
) -> None:
    assert command("backup", "good.tar", *keys(served)).code == 0
    content = (tmp_path / "good.tar").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        size = max(m.offset_data + m.size for m in tar)
    part = content[:size][:end]
    fake = Client("http://node:1", "t", transport=httpx.MockTransport(lambda _: httpx.Response(200, content=part)))
    monkeypatch.setattr(commands, "coordinator", lambda *_, **__: fake)
    said = command("backup", "bad.tar", *keys(served))
    assert said.code == 1
    assert "it was not kept" in said.err
    assert here(tmp_path) == ["good.tar"]


def test_a_folder_that_is_not_there(command: Command, served: Served) -> None:
    said = command("backup", "none/alice.tar", *keys(served))
    assert said.code == 1
    assert "cannot be written" in said.err


def test_a_wrong_token(command: Command, served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONSORTIUM_TOKEN", "wrong")
    assert command("backup", "alice.tar", *keys(served)).code == 5
    assert here(tmp_path) == []
