"""What the doctor makes of what it saw: order, ways that only the gateway can go, a table that leaves nothing out."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import httpx

from consortium.client import Coordinator
from consortium.doctor.finding import CHECKS, Finding, first_wrong
from consortium.doctor.walk import walk
from consortium.doctor.wire import Shown, judge, look
from consortium.errors import ConsortiumError
from coordinator.findings import FIXES
from tests import builders

MODEL = builders.model(
    "alice", "bob", parties={name: {"gateway": {"host": f"{name}.invalid", "port": 8443}} for name in ("alice", "bob")}
)
PAGE = Path(__file__).parents[2] / "docs" / "doctor.md"


def told(check: str, subject: str, code: str = "") -> dict[str, str]:
    return {"check": check, "subject": subject, "code": code, "what": f"{code} at {subject}", "fix": "mend it"}


def coordinator(*findings: dict[str, str], status: int = 200) -> Coordinator:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, json={"findings": findings} if status == 200 else {"detail": "no"})

    return Coordinator("http://own.invalid", "token", transport=httpx.MockTransport(answer))


def walked(own: Any, peers: tuple[str, ...] = ("bob",)) -> dict[tuple[str, str], Finding]:
    return {(one.check, one.subject): one for one in walk(MODEL, peers, own)}


def test_what_others_rest_on_is_mended_first() -> None:
    wrong = [Finding(check, "bob", False, check) for check in reversed(CHECKS)]
    first = first_wrong([Finding("document", "alice", True, ""), *wrong])
    assert first == Finding("document", "bob", False, "document")
    assert first_wrong([Finding(check, "bob", True, "") for check in CHECKS]) is None


def test_a_way_that_only_the_gateway_can_go_is_no_fault() -> None:
    seen = walked(lambda: coordinator(told("peer", "bob")))
    assert seen["dns", "bob"].ok
    assert "through the own gateway" in seen["dns", "bob"].what
    assert not seen["dns", "alice"].ok  # nobody tells that the own door can be reached


def test_a_way_that_nobody_can_go_stays_a_fault() -> None:
    seen = walked(lambda: coordinator(told("peer", "bob", "unreachable")))
    assert not seen["dns", "bob"].ok
    assert not seen["peer", "bob"].ok
    assert seen["peer", "bob"].fix == "mend it"


def test_a_kuscia_nodes_door_is_only_knocked_at() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        door = Shown("127.0.0.1", listening.getsockname()[1])
        seen = look(door.host, door.port)
        assert (seen.tls, seen.certificate) == ("", "")
        kuscia = MODEL.model_copy(update={"consortium": MODEL.consortium.model_copy(update={"mode": "kuscia"})})
        found = list(judge(seen, kuscia, "bob", "alice"))
    assert [(one.check, one.ok) for one in found] == [("dns", True), ("tcp", True)]


def test_a_coordinator_that_refuses_or_cannot_be_opened_is_a_finding() -> None:
    def closed() -> Coordinator:
        raise ConsortiumError("the operator's token is missing", fix="consortium join alice")

    assert not walked(lambda: coordinator(status=401))["coordinator", "alice"].ok
    assert walked(closed)["coordinator", "alice"].fix == "consortium join alice"


def test_a_party_without_peers_is_looked_at_alone() -> None:
    assert set(walked(lambda: coordinator(told("ray", "alice")), peers=())) == {
        ("coordinator", "alice"),
        ("ray", "alice"),
    }


def test_every_fault_that_a_coordinator_names_has_a_fix() -> None:
    assert all(fix.format(subject="bob") for fix in FIXES.values())


PAINS = """
secretflow: 1142 317 1669 869 2018 1922 453 266 529 1399 1281 408 486 547 364 1520 1613
rayfed: 84
kuscia: 22 89 67 90 405 257 423 721 511 472 391 300 377 240 319
NVFlare: 5248 5247 2420 5115 5220
FLIP: 680
"""
"""Issues in which users of the field say what they struggle with."""


def test_the_table_of_symptoms_names_every_check_and_every_issue() -> None:
    table = PAGE.read_text().partition("## Symptoms")[2]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")]
    named = {word for _, _, by in rows for word in re.findall(r"`([a-z]+)`", by)}
    assert named == set(CHECKS)
    seen: dict[str, set[str]] = {}
    for _, where, _ in rows:
        project = ""
        for name, number in re.findall(r"(\w*)#(\d+)", where):
            project = name or project
            seen.setdefault(project, set()).add(number)
    wanted = dict(line.split(": ") for line in PAINS.strip().splitlines())
    assert seen == {project: set(numbers.split()) for project, numbers in wanted.items()}
