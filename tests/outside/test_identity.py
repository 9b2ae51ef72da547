"""A member with a right certificate tries to be somebody else, or to bring what is not its own."""

from __future__ import annotations

import contextlib
import socket
import ssl

import pytest

from consortium import ports
from coordinator.model import Draft
from coordinator.statements import ApprovalBody, Kind
from tests.gateway.loopback_gateways import wait_for
from tests.outside.rig import COORDINATOR, Attacked, batch, read_some, signer, statement

GET = "GET /peer/v1/time HTTP/1.1\r\nhost: x\r\n"
STRANGE = "carol"
FORGED = {
    "party": ["x-consortium-party: carol"],
    "party in capitals": ["X-CONSORTIUM-PARTY: carol"],
    "party twice": ["x-consortium-party: carol", "x-consortium-party: dave"],
    "token": ["x-consortium-party: carol", "x-consortium-gateway-token: guessed-guessed-guessed"],
    "token empty": ["x-consortium-gateway-token:"],
    "address": ["x-consortium-address: 127.0.0.1", "x-forwarded-for: 127.0.0.1", "forwarded: for=127.0.0.1"],
    "envoy's own": ["x-envoy-original-path: /api/v1/jobs", "x-original-url: /api/v1/jobs", "x-envoy-internal: true"],
    "folded": ["x-a: 1", " x-consortium-party: carol", "x-consortium-party: a", " carol"],
    "bare line feed": ["x-a: 1\nx-consortium-party: carol"],
    "two hosts": ["host: y"],
    "named as hop": ["connection: x-consortium-party, x-consortium-gateway-token"],
    "operator's token": ["authorization: Bearer operator-token-of-bob"],
}
BROKEN = {
    "underscore": "x_consortium_party: carol",
    "space before colon": "x-consortium-party : carol",
    "no name": ": carol",
    "control character": "x-a: \x01",
    "null": "x-a: 1\0",
}
SMUGGLED = {
    "length and chunks": "content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n",
    "two lengths": "content-length: 0\r\ncontent-length: 30\r\n\r\nGET /api/v1/jobs HTTP/1.1\r\n",
    "negative length": "content-length: -1\r\n\r\n",
    "chunks in disguise": "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks twice": "transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
}


def code(answer: bytes) -> int:
    """The status of a raw answer; 0 when the connection was closed without one."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0


def heard_as(bob: Attacked) -> str:
    """Whom bob's coordinator took the next forger for."""
    return str(bob.refusals()[-1]["peer"])


@pytest.mark.parametrize("case", FORGED)
def test_forged_headers_change_nothing(bob: Attacked, case: str) -> None:
    """The forger is heard as the party of its certificate: what it does wrong is recorded under that name."""
    strange = signer("alice").statement("20261124-x-abcdef", Draft(Kind.APPROVAL, 0, _approval()))
    body = batch(strange.model_copy(update={"party": "carol"}))
    head = "POST /peer/v1/approval HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    lines = "".join(f"{line}\r\n" for line in FORGED[case])
    answer = bob.raw(f"{head}{lines}content-length: {len(body)}\r\n\r\n".encode() + body)
    assert code(answer) == 403, answer
    assert heard_as(bob) == "alice"


def _approval() -> ApprovalBody:
    return ApprovalBody(verdict="approve", proposal_digest="a" * 64, by="person")


@pytest.mark.parametrize("case", BROKEN)
def test_a_header_that_two_readers_could_read_differently_is_refused(bob: Attacked, case: str) -> None:
    assert code(bob.raw(f"{GET}{BROKEN[case]}\r\n\r\n".encode("latin-1"))) in (0, 400)


@pytest.mark.parametrize("case", SMUGGLED)
def test_no_second_request_hides_in_a_first(bob: Attacked, case: str) -> None:
    before = bob.peer_requests()
    answer = bob.raw(f"POST /peer/v1/heartbeat HTTP/1.1\r\nhost: x\r\n{SMUGGLED[case]}".encode())
    assert code(answer) in (0, 400, 501), answer
    assert answer.count(b"HTTP/1.1") <= 1
    assert bob.peer_requests() == before, "the coordinator heard of it"


@pytest.mark.parametrize(
    "opening", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", b"GET /peer/v1/time\r\n\r\n"]
)
def test_only_http_1_1_is_spoken(bob: Attacked, opening: bytes) -> None:
    """HTTP/2 would put any number of requests on one connection, past the bound of connections."""
    answer = bob.raw(opening)
    assert code(answer) in (0, 400, 426)
    assert not answer.startswith(b"\0\0"), "settings of HTTP/2 came back"


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/jobs",
        "/peer/v1/../../api/v1/jobs",
        "/peer/%2e%2e/api/v1/jobs",
        "/peer%2f..%2fapi/v1/jobs",
        "//api/v1/jobs",
        "http://x/api/v1/jobs",
        "/metrics",
    ],
)
def test_the_operators_paths_are_not_there_for_a_peer(bob: Attacked, path: str) -> None:
    answer = bob.raw(f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer operator-token-of-bob\r\n\r\n".encode())
    assert code(answer) in (400, 404), answer


def test_a_replayed_proposal_changes_nothing_and_no_other_may_bring_it(bob: Attacked) -> None:
    job = "20261124-replayed-abcdef"
    proposal = statement("alice", job)
    assert bob.send(proposal).status == 200
    before = bob.operator("GET", f"/api/v1/jobs/{job}").json()
    records = bob.records(job)
    assert records
    for _ in range(3):  # each from a new connection
        assert bob.send(proposal).status == 200
    assert bob.operator("GET", f"/api/v1/jobs/{job}").json() == before
    assert bob.records(job) == records
    answer = bob.send(proposal, party="carol")
    assert (answer.status, "comes from its author alice only, not from carol" in answer.text) == (403, True)
    assert heard_as(bob) == "carol"


def test_an_old_proposal_is_no_job_again(bob: Attacked) -> None:
    old = statement("alice", "20251124-old-abcdef", created_at=1.0, deadline=1000.0)
    answer = bob.send(old)
    assert (answer.status, "the deadline passed" in answer.text) == (409, True)


def test_a_proposal_of_another_consortium_is_not_ours(bob: Attacked) -> None:
    """The same key may sign for two consortiums: a signature counts in one."""
    other = signer("alice")
    other.consortium = "another"
    proposal = statement("alice", "20261124-other-abcdef")
    signed = other.statement(proposal.job_id, Draft(Kind.PROPOSAL, 0, proposal.body))
    answer = bob.send(signed)
    assert (answer.status, "the signature is not alice's" in answer.text) == (403, True)


@pytest.mark.parametrize("sender", ["alice", "carol"])
def test_nobody_signs_for_another(bob: Attacked, sender: str) -> None:
    """carol's name under alice's signature, from alice, and from carol herself."""
    forged = statement("alice", "20261124-forged-abcdef").model_copy(update={"party": "carol"})
    answer = bob.send(forged, party=sender)
    assert (answer.status, "the signature is not carol's" in answer.text) == (403, True)


def test_a_changed_proposal_is_a_lie_that_is_kept(bob: Attacked) -> None:
    job = "20261124-changed-abcdef"
    assert bob.send(statement("alice", job)).status == 200
    assert bob.send(statement("alice", job, program_digest="b" * 64)).status == 200
    found = bob.operator("GET", f"/api/v1/jobs/{job}").json()
    assert (found["phase"], len(found["conflicts"])) == ("diverged", 1)


def test_a_member_without_a_part_in_a_job_neither_learns_of_it_nor_ends_it(bob: Attacked) -> None:
    job = "20261124-private-abcdef"
    assert bob.send(statement("alice", job)).status == 200
    answer = bob.ask("GET", f"/peer/v1/jobs/{job}/decision?attempt=1", party="carol")
    unknown = bob.ask("GET", "/peer/v1/jobs/20261124-nothing-abcdef/decision?attempt=1", party="carol")
    assert answer.text.replace("private", "nothing") == unknown.text
    assert (answer.status, unknown.status) == (404, 404)
    assert bob.operator("GET", f"/api/v1/jobs/{job}").json()["attempts"] == []
    cancel = bob.ask("POST", f"/peer/v1/bundle/{job}", b"\0" * 1024, party="carol")
    assert cancel.status == 404


def test_a_certificate_for_one_name_opens_no_service_of_another(bob: Attacked) -> None:
    """alice's certificate, carol's service name: the handshake ends, and the coordinator hears nothing."""
    before, logged = bob.peer_requests(), len(bob.gateway.log)
    plain = socket.create_connection((bob.gateway.address, ports.GATEWAY_PUBLIC_PORT), timeout=20)
    with (
        plain,
        contextlib.suppress(ssl.SSLError, ConnectionError),
        bob.tls("alice").wrap_socket(plain, server_hostname=COORDINATOR.format(STRANGE)) as secure,
    ):
        secure.sendall(f"{GET}\r\n".encode())
        assert read_some(secure) == b""
    assert bob.peer_requests() == before
    # bob's own heartbeats are logged between
    wait_for(lambda: "rejected" in [line["service"] for line in bob.gateway.log[logged:]])
