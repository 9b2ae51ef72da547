"""What `consortium rotate ca` does. Each step may be cut off and run again; `ca_steps` says whether it may be taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from consortium import ca_steps, trust
from consortium.ca_steps import FOLLOWS, STEP_FROM, Running, Seen, Stage, Step
from consortium.documents import load_consortium, load_model, load_party
from consortium.errors import ConsortiumError, DocumentErrors, UsageError
from consortium.keyring import Keyring
from consortium.partyfile import write_party
from consortium.spec import Party
from consortium.trust_checks import issued_by
from consortium.workspace import Workspace

Ask = Callable[[str], Mapping[str, Any]]
"""GET a path of the own coordinator's API. Raises ConsortiumError."""


@dataclass(frozen=True)
class Progress:
    """Where the replacement stands, what this run changed, and what comes next. Fingerprints are of CAs."""

    party: str
    stage: Stage
    changed: tuple[str, ...]
    ca: str
    next_ca: str | None
    waits_for: tuple[str, ...]
    """Why the next step must wait; after --force what this one broke."""
    next: str


def look(workspace: Workspace, party: str, ask: Ask) -> Progress:
    """Where it stands. Changes nothing. Raises DocumentErrors, PulumiFailed, ConsortiumError."""
    rotation = _Rotation(workspace, party)
    step = STEP_FROM[rotation.stage()]
    return rotation.progress([] if step == "begin" else ca_steps.waits_for(rotation.seen(ask), step))


def take(workspace: Workspace, party: str, step: Step, ask: Ask, *, force: bool = False) -> Progress:
    """Take a step, unless it is taken already or must wait; `force` takes it all the same.

    Raises DocumentErrors, PulumiFailed, UsageError for a step out of order, ConsortiumError for one that must wait.
    """
    rotation = _Rotation(workspace, party)
    stage = rotation.stage()
    if _done_already(step, stage):
        return rotation.progress([])
    if stage != FOLLOWS[step]:
        raise UsageError(
            f"{step} does not follow yet",
            where=str(workspace.party_file(party)),
            value=f"the replacement of the CA is: {stage}",
            fix=f"consortium rotate ca {'begin' if stage == 'none' else 'issue'}",
        )
    waits = [] if step == "begin" else ca_steps.waits_for(rotation.seen(ask), step)
    if waits and not force:
        raise ConsortiumError(
            f"{step} must wait: connections would fail",
            where=str(workspace.party_file(party)),
            value="\n".join(waits),
            fix=f"wait, or, if a key is stolen, take it at once: consortium rotate ca {step} --force",
        )
    {"begin": rotation.begin, "issue": rotation.issue, "finish": rotation.finish}[step]()
    return rotation.progress(waits, finished=step == "finish")


def _done_already(step: Step, stage: Stage) -> bool:
    return (step, stage) in {("begin", "begun"), ("begin", "issued"), ("issue", "issued"), ("finish", "none")}


class _Rotation:
    """The keys and the party file of one institution, and the three steps on them."""

    def __init__(self, workspace: Workspace, party: str) -> None:
        self._workspace, self._party = workspace, party
        self._file = workspace.party_file(party)
        self._consortium = load_consortium(workspace.root).name
        self._keys = Keyring(workspace, party, self._consortium)

    @property
    def _public(self) -> Party:
        return load_party(self._workspace.root, self._party)

    def _next(self) -> str | None:
        """The new CA's certificate; None before it stands in the party file."""
        return self._keys.ca_of("nextCaKey", self._public) if self._keys.has("nextCaKey") else None

    def stage(self) -> Stage:
        """Where it stands, by keys and not by places. Raises ConsortiumError for documents that fit no stage."""
        following = self._next()
        if following is None:
            self._keys.ca("caKey", self._public)  # the party file speaks of the key held here
            if len(self._public.ca_certificates) > 1:
                raise ConsortiumError(
                    "the party file holds a CA certificate whose key is not here",
                    where=str(self._file),
                    value=", ".join(trust.fingerprint(ca) for ca in self._public.ca_certificates),
                    fix="take it out, or put back the stack file that belongs to it",
                )
            return "none"
        return "issued" if issued_by(self._keys.certificate, following) else "begun"

    def seen(self, ask: Ask) -> Seen:
        """What the documents, the stack file and the own coordinator say."""
        try:
            documents = load_model(self._workspace.root, self._party).digest()
        except DocumentErrors:
            documents = ""
        held = self._keys.certificate
        return Seen(self._party, documents, trust.fingerprint(held) if held else "", _running(ask))

    def begin(self) -> None:
        """A second CA, in the party file behind the first."""
        if not self._keys.has("nextCaKey"):
            self._keys.set("nextCaKey", trust.make_ca(self._party, self._consortium).key)
        made = trust.make_ca(self._party, self._consortium, key=self._keys.secret("nextCaKey"))
        self._write([self._keys.ca("caKey", self._public).certificate, made.certificate])

    def issue(self) -> None:
        """The gateway's certificate is of the new CA from now on."""
        self._keys.issue(self._keys.ca("nextCaKey", self._public))

    def finish(self) -> None:
        """The old CA goes: first from the party file, then its key."""
        self._write([self._keys.ca("nextCaKey", self._public).certificate])
        self._keys.succeed_ca()

    def _write(self, certificates: list[str]) -> None:
        old = self._public
        public = old.model_dump(mode="json", exclude_none=True) | {"ca_certificates": certificates}
        if write_party(self._file, public, old):
            self._keys.changed.append("party file")

    def progress(self, waits: list[str], *, finished: bool = False) -> Progress:
        """What there is now."""
        stage, following = self.stage(), self._next()
        present = next((ca for ca in self._public.ca_certificates if ca != following), following)
        assert present is not None
        return Progress(
            party=self._party,
            stage=stage,
            changed=tuple(self._keys.changed),
            ca=trust.fingerprint(present),
            next_ca=trust.fingerprint(following) if following else None,
            waits_for=tuple(waits),
            next=ca_steps.what_is_next(stage, self._party, finished=finished),
        )


def _running(ask: Ask) -> Running:
    try:
        status, told = ask("/status"), ask("/presented")["parties"]
    except ConsortiumError as error:
        return Running(problem=error.what)
    peers = {name: (told.get(name, {}).get("presented") or {}).get("consortium_digest", "") for name in status["peers"]}
    return Running(str(status["consortium_digest"]), status["certificate"], peers)
