"""docs/faults.md, made of what was seen: the same results give the same text."""

from __future__ import annotations

from consortium import files
from consortium.folders import INSTALLATION
from testing.faults import FAULTS
from testing.matrix.cases import ENTRIES, Case, Entry, Role, all_cases
from testing.matrix.play import TIMEOUTS
from testing.matrix.results import Results, Seen

DOCUMENT = INSTALLATION / "docs" / "faults.md"
_HEAD = """# What a fault does to a job

This document is made by `make faults` from what was seen (`docs/faults.json`); edit `testing/matrix/document.py`.

The job has two parties and one attempt: alice is the initiator, bob approves. A fault strikes one of them in one
phase, lasts for as long as its row says, and is undone. Then nothing may hang, the two parties must give the job the
same label, no process, Ray job, slot or actor of the job may be left at either, both audit logs must verify and know
every job, and a job without a fault must succeed.

| phase | the fault strikes when |
|---|---|
| pending | the proposal is at both parties and bob has not approved; bob approves during the fault if he can |
| preparing | the struck party's checks run: they are made 3 s longer, so the strike is inside them |
| starting | both drivers are launched and load: their program takes 4 s longer before it asks for its session |
| running | both drivers are connected (`sf.init` is done) |
| ending | the struck party has signed its outcome; behind the barrier of `sf.shutdown` the other's driver stays 12 s |

A phase is seen by asking the operator's API, every 50 ms or less often: the strike comes up to some 0.3 s after the
phase was seen. What a fault does before it is in force (a gateway that is restarted, say) comes on top of that.

`✓` succeeded at both, `✗` failed at both, each followed by the causes that were seen; `!` was not as it must be;
`not run` was not played yet. Timeouts of the run: """


def render(results: Results) -> str:
    """The whole text."""
    cases = all_cases()
    played = [results.cases[c.key] for c in cases if c.key in results.cases]
    wrong = sum(not seen.passed for seen in played)
    count = f"{len(played)} of {len(cases)} cases were played, {wrong} not as they must be."
    timeouts = ", ".join(f"`{name}` {value:g}" for name, value in TIMEOUTS.items())
    parts = [f"{_HEAD}{timeouts}.", "", count, *_faults()]
    for family in dict.fromkeys(entry.family for entry in ENTRIES.values()):
        parts += [f"## {family.capitalize()}", ""]
        for entry in ENTRIES.values():
            if entry.family == family:
                parts += _table(entry, results)
    return "\n".join(parts).rstrip() + "\n"


def write(results: Results) -> None:
    """Write docs/faults.md."""
    files.write(DOCUMENT, render(results))


def _faults() -> list[str]:
    rows = [
        f"| `{kind.name}({', '.join(kind.parameters)})` | {kind.family} | {kind.text} |" for kind in FAULTS.values()
    ]
    return ["", "## The faults", "", "| `testing.faults` | family | what it does |", "|---|---|---|", *rows, ""]


def _table(entry: Entry, results: Results) -> list[str]:
    rows = [
        f"| {phase} | " + " | ".join(_cell(results.cases.get(Case(entry, phase, role).key)) for role in Role) + " |"
        for phase in entry.phases
    ]
    lasts = f"Lasts {entry.lasts_s:g} s at most."
    head = f"| phase | {' | '.join(f'strikes the {role}' for role in Role)} |"
    return [f"### {entry.name}", "", f"{entry.text} {lasts}", "", head, "|---|---|---|", *rows, ""]


def _cell(seen: Seen | None) -> str:
    if seen is None:
        return "not run"
    signs = {"succeeded": "✓", "failed": "✗"}
    ended = " ".join(dict.fromkeys(signs.get(phase, phase) for phase in seen.ended.values()))
    causes = "; ".join(f"{party}: {cause}" for party, cause in seen.causes.items() if cause)
    problems = "".join(f" **! {problem}**" for problem in seen.problems)
    return _escaped(f"{ended} {causes}{problems}".strip())


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
