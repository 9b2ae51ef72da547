"""Messages that come twice, late, or from another job, sent with a party's own statements by its own way out."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

from consortium import ports
from testing.consortium import Consortium
from testing.faults.fault import fault
from testing.faults.hands import SYSTEM_PYTHON, read, write
from testing.nodes import Node
from testing.run import Run

_SEND = """
import base64, collections, json, os, sys, time, urllib.error, urllib.request
work = json.load(open(sys.argv[1]))
token = open("/etc/consortium/secrets/operator.token").read().strip()
answers = collections.Counter()
def ask(url, body=None, headers={}):
    headers = {"content-type": "application/json", **headers}
    request = urllib.request.Request(url, body and json.dumps(body).encode(), headers)
    try:
        return urllib.request.urlopen(request, timeout=10).read()
    except urllib.error.HTTPError as error:
        answers[error.code] += 1
    except OSError:
        answers["none"] += 1
def own(job):
    view = ask("http://127.0.0.1:8080/api/v1/jobs/" + job, headers={"Authorization": "Bearer " + token})
    return [s for s in json.loads(view)["statements"] if s["party"] == work["party"]] if view else []
secret = open("/etc/consortium/secrets/gateway.token").read().strip()
word = base64.b64encode(("coordinator:" + secret).encode()).decode()
def send(statement):
    headers = {"x-consortium-coordinator": "Basic " + word}
    if ask(work["to"] + "/peer/v1/" + statement["kind"], {"statements": [statement]}, headers) is not None:
        answers[200] += 1
def keep():
    with open(sys.argv[1] + ".answers.new", "w") as file:
        json.dump(answers, file)
    os.replace(sys.argv[1] + ".answers.new", sys.argv[1] + ".answers")
while True:
    for job in work["jobs"]:
        for statement in own(job):
            for _ in range(work["times"]):
                send({**statement, "job_id": work["as_job"] or job})
    keep()
    if not work["again_s"]:
        break
    time.sleep(work["again_s"])
"""


@fault("messages")
def duplicated(
    consortium: Consortium, run: Run, sender: str, receiver: str, times: int = 3, again_s: float = 0.2
) -> Iterator[str]:
    """A party sends each of its own statements of a job again and again, for as long as the fault lasts."""
    head = consortium.party(sender).head
    work = {"jobs": [run.job_id], "times": times, "again_s": again_s, "as_job": ""}
    path = _prepare(consortium, head, sender, receiver, work)
    try:
        head.container.exec_run(_command(path), detach=True)
        yield f"{sender} sends {receiver} each of its statements of {run.job_id} {times} times every {again_s:g} s"
    finally:
        head.run("pkill", "-f", f" {path}$")
        head.run("sh", "-c", f"rm -f {path}*")


@fault("messages")
def replayed(consortium: Consortium, old: Run, run: Run, sender: str, receiver: str) -> Iterator[str]:
    """A party's statements of an old job come again: as they were, and under the name of the present job.

    Raises AssertionError if one under another name is taken: its signature is for the old one.
    """
    head = consortium.party(sender).head
    taken = _once(consortium, head, sender, receiver, old.job_id, "")
    forged = _once(consortium, head, sender, receiver, old.job_id, run.job_id)
    if forged.get("200"):
        raise AssertionError(f"{receiver} took statements of {old.job_id} as {run.job_id}: {forged}")
    yield (
        f"{sender} sent {receiver} its statements of {old.job_id} again (answers {_told(taken)}), and as statements of "
        f"{run.job_id} (answers {_told(forged)})"
    )


def _once(consortium: Consortium, head: Node, sender: str, receiver: str, old: str, as_job: str) -> Mapping[str, int]:
    work = {"jobs": [old], "times": 1, "again_s": 0, "as_job": as_job}
    path = _prepare(consortium, head, sender, receiver, work)
    try:
        head.check(*_command(path))
        found: dict[str, int] = json.loads(read(head, f"{path}.answers"))
        return found
    finally:
        head.run("sh", "-c", f"rm -f {path}*")


def _prepare(consortium: Consortium, head: Node, sender: str, receiver: str, work: dict[str, Any]) -> str:
    party = consortium.party(sender)
    port = ports.outbound_port(party.model.consortium.members, receiver, ports.COORDINATOR)
    path = f"/run/consortium-messages-{secrets.token_hex(4)}.json"
    write(head, path, json.dumps({**work, "party": sender, "to": f"http://{party.gateway.name}:{port}"}))
    return path


def _command(path: str) -> list[str]:
    return [SYSTEM_PYTHON, "-I", "-c", _SEND, path]


def _told(answers: Mapping[str, int]) -> str:
    return ", ".join(f"{count} times {status}" for status, count in sorted(answers.items())) or "none"
