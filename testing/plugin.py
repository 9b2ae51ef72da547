"""The pytest plugin: the fixture `consortium`, and the nodes' logs in the report of a test that fails.

Its options come from the fixture `consortium_options`, which a project overrides:

    @pytest.fixture(scope="session")
    def consortium_options():
        return {"parties": 3, "workers": {"bob": 2}, "timeouts": {"peer_lost_after_s": 5}}

The scope is that of the ini option `consortium_scope` (session or module). `--consortium-attach NAME` uses one that is
up already (`consortium up --ephemeral --detach`), which saves the bring-up while a test is being written.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from testing.consortium import Consortium

SCOPES = ("session", "module")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    parser.addini(
        "consortium_scope", "scope of the fixture `consortium`: session (default) or module", default="session"
    )
    group = parser.getgroup("consortium")
    group.addoption("--consortium-attach", metavar="NAME", help="use this consortium, which is up, and leave it up")


def _scope(fixture_name: str, config: pytest.Config) -> Any:
    scope = config.getini("consortium_scope")
    if scope not in SCOPES:
        raise pytest.UsageError(f"consortium_scope = {scope}: must be one of {', '.join(SCOPES)}")
    return scope


@pytest.fixture(scope=_scope)
def consortium_options() -> dict[str, Any]:
    """Arguments of `testing.Consortium`; override it."""
    return {}


@pytest.fixture(scope=_scope)
def consortium(request: pytest.FixtureRequest, consortium_options: dict[str, Any]) -> Iterator[Consortium]:
    """A consortium that is up: real stacks, real nodes, real gateways."""
    from testing.consortium import Consortium

    if name := request.config.getoption("--consortium-attach"):
        yield Consortium.attach(name)
        return
    with Consortium(**consortium_options) as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what the nodes logged, and where the jobs are, to the report of a failed test."""
    report = yield
    if call.when == "call" and report.failed:
        for made in _consortiums(item):
            for title, text in [*_jobs(made), *made.logs().items()]:
                report.sections.append((f"{made.name}: {title}", text))
    return report


def _consortiums(item: pytest.Item) -> list[Consortium]:
    if "testing.consortium" not in sys.modules:  # then no test has had one, and importing it takes a second
        return []
    from testing.consortium import Consortium

    return [value for value in getattr(item, "funcargs", {}).values() if isinstance(value, Consortium)]


def _jobs(made: Consortium) -> Iterator[tuple[str, str]]:
    """The events of every job that did not succeed, as each party saw them."""
    from consortium.errors import ConsortiumError

    for run in made.runs:
        for party in run.parties:
            try:
                view = run.view(party)
            except ConsortiumError as error:
                yield f"job {run.job_id} at {party}", str(error)
                continue
            if view["phase"] != "succeeded":
                events = "\n".join(str(event) for event in view["events"])
                yield f"job {run.job_id} at {party}: {view['phase']}: {view['reason']}", events
