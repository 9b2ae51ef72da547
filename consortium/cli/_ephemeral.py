"""`consortium up --ephemeral`: a throw-away consortium from the shell."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from consortium.cli._common import emit, err, say
from consortium.errors import UsageError


def refuse_without(ephemeral: bool, **options: object) -> None:
    """Options that only mean something for a throw-away consortium. Raises UsageError."""
    if given := [f"--{name}" for name, value in options.items() if value and not ephemeral]:
        raise UsageError("only with --ephemeral", where=" ".join(given), fix="add --ephemeral, or leave it out")


def up(parties: int, workers: int, detach: bool, as_json: bool) -> None:
    """Bring it up, say where everything is, and take it down on Ctrl-C or SIGTERM; with `detach` it stays."""
    from testing import Consortium

    for number in (signal.SIGTERM, signal.SIGINT):  # a shell starts what runs in the background with SIGINT ignored
        signal.signal(number, _interrupt)
    made = Consortium(parties, workers=workers, kept=detach, on_progress=lambda line: err.print(line, markup=False))
    with made:
        found: dict[str, Any] = {
            "name": made.name,
            "parties": {
                party.name: {
                    "workspace": str(party.workspace.root),
                    "status_page": f"http://127.0.0.1:{party.operator_port}/",
                    "token_file": str(party.workspace.token_file(party.name)),
                }
                for party in made.parties.values()
            },
        }
        emit(found, as_json, lambda: _say(found))
        if detach:
            say_end(f"take it down: consortium testing reap {made.name}")
            return
        say_end("Ctrl-C takes it down")
        try:
            signal.pause()
        except KeyboardInterrupt:
            say_end("")


def say_end(text: str) -> None:
    """On standard error: standard output may be JSON."""
    err.print(text, markup=False)


def _say(found: dict[str, Any]) -> None:
    say(found["name"])
    for name, party in found["parties"].items():
        say(f"  {name}: status page {party['status_page']}")
        say(f"    token     {party['token_file']}")
        say(f"    workspace {party['workspace']}")
    first = next(iter(found["parties"].values()))["workspace"]
    say(f"  a job: consortium --workspace {first} job submit jobs/psi")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
