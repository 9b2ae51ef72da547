"""The OpenAPI documents say what the interfaces do: compared word for word, then tried with generated requests.

Requests are made from the checked-in documents and sent to a real coordinator: valid ones, broken ones, wrong methods.
Every status must be documented and every body must be of the documented form.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from coordinator_rig import OPERATOR_TOKEN
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from test_interfaces import FOLDER, HEADERS, JOB_ID, Lone

from coordinator.__main__ import main
from coordinator.openapi import text

FOLDER_OF_DOCUMENTS = Path(__file__).parents[2] / "docs" / "openapi"
BEHIND = {502, 503, 507}  # what stands behind a coordinator may fail: Ray, a peer, the disk

CHECKS: list[Any] = [
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
]
FEW = settings(max_examples=10, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))

operator = schemathesis.openapi.from_path(str(FOLDER_OF_DOCUMENTS / "operator.json"))
peer = schemathesis.openapi.from_path(str(FOLDER_OF_DOCUMENTS / "peer.json"))


class Served:
    """bob's coordinator on two ports, with one job that alice proposed and one of its own."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.bob = self.run(self._start(folder))
        self.operator, self.peer = (f"http://127.0.0.1:{port}" for port in self.bob.coordinator.ports)

    async def _start(self, folder: Path) -> Lone:
        bob = Lone(folder, policy=lambda _: {"default": "person"}, limits={"open_jobs": 20})
        await bob.coordinator.start()
        return bob

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    async def propose(self) -> None:
        await self.bob.send(self.bob.proposal())
        await self.bob.peer.post(f"/peer/v1/bundle/{JOB_ID}", content=FOLDER, headers=HEADERS)

    def close(self) -> None:
        self.run(self.bob.coordinator.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    made = Served(tmp_path_factory.mktemp("bob"))
    made.run(made.propose())
    yield made
    made.close()


@pytest.mark.parametrize("which", ["operator", "peer"])
def test_the_documents_are_those_of_the_applications(
    which: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bob = Lone(tmp_path)
    app = {"operator": bob.coordinator.operator_app, "peer": bob.coordinator.peer_app}[which]()
    assert main(["openapi", which]) == 0
    printed = capsys.readouterr().out
    assert printed == text(app)
    path = FOLDER_OF_DOCUMENTS / f"{which}.json"
    fix = f"python -m coordinator openapi {which} > docs/openapi/{which}.json"
    assert path.read_text("utf-8") == printed, f"the document is of another version of the interface; renew it: {fix}"
    bob.context.store.close()


def ask(case: Any, url: str, headers: dict[str, str]) -> None:
    """Send one generated request and check its answer."""
    answer = case.call(base_url=url, headers=headers, timeout=20)
    assert answer.status_code < 500 or answer.status_code in BEHIND, answer.text
    case.validate_response(answer, checks=CHECKS, headers=headers)


@operator.parametrize()
@FEW
def test_the_operators_interface(case: Any, served: Served) -> None:
    ask(case, served.operator, {"Authorization": f"Bearer {OPERATOR_TOKEN}"})


@operator.include(path_regex="job_id").parametrize()
@FEW
def test_the_operators_interface_about_a_job_that_is_there(case: Any, served: Served) -> None:
    case.path_parameters["job_id"] = JOB_ID
    ask(case, served.operator, {"Authorization": f"Bearer {OPERATOR_TOKEN}"})


@schemathesis.serializer("application/x-tar")
def tar(_: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


# One handler and one form serve every kind of statement, and making one up takes long: three kinds stand for all.
@peer.exclude(path_regex="/(approval|prepare|promise|ready|go|outcome)$").parametrize()
@settings(FEW, max_examples=5)
def test_the_peers_interface(case: Any, served: Served) -> None:
    ask(case, served.peer, HEADERS)
