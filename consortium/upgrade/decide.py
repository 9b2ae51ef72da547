"""Whether this institution may go over to other versions now. Pure: what was seen in, problems out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from consortium.errors import Problem
from consortium.versions import Maintenance

SHORT = 12
WHERE = "consortium.yaml: maintenance"
NOW = "`--now` does it all the same, and jobs with a party that has not gone over are refused until it has"


@dataclass(frozen=True)
class Runs:
    """What the own coordinator has in force. `window`: (from, to) of the maintenance that it knows of."""

    versions: Mapping[str, str]
    files: str
    window: tuple[datetime, datetime] | None = None
    held: str = ""
    active: Mapping[str, int] = field(default_factory=dict)
    """Phase → jobs that are neither waiting nor ended."""


@dataclass(frozen=True)
class Peer:
    """What a peer presents: digest of its consortium files and its coordinator's release, or why it does not."""

    files: str = ""
    release: str = ""
    error: str = ""


@dataclass(frozen=True)
class Seen:
    """All that the decision rests on."""

    now: datetime
    party: str
    agreed: Mapping[str, str]
    """As it is for this release: after the window's versions, if it is the one that brings them."""
    files: str
    """Digest of that."""
    brings: Mapping[str, str]
    window: Maintenance | None
    runs: Runs | None
    peers: Mapping[str, Peer] = field(default_factory=dict)
    placement: str = "docker"
    own_image: bool = False
    """The settings name the image: its packages are not this release's."""
    image: str = ""
    image_here: bool = True
    begun: bool = False
    """An upgrade was begun here and not ended."""

    @property
    def changes(self) -> dict[str, tuple[str, str]]:
        """Of what was agreed: version → (what runs, what this release brings)."""
        if self.runs is None:
            return {}
        names = {*self.agreed, *(self.window.versions.agreed() if self.window else ())}
        pairs = {name: (self.runs.versions.get(name, ""), self.brings.get(name, "")) for name in sorted(names)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1] and not self._of_image(name)}

    @property
    def nothing_to_do(self) -> bool:
        """It has gone over already, and no earlier try is left unfinished."""
        return self.runs is not None and not self.changes and not self.begun

    def _of_image(self, name: str) -> bool:
        return self.own_image and name != "coordinator"

    def misfits(self) -> Iterator[Problem]:
        """What this release brings, and the agreement does not name."""
        for name, wanted in self.agreed.items():
            if (found := self.brings.get(name, "")) != wanted and not self._of_image(name):
                yield Problem(
                    f"this release brings another version of {name} than was agreed",
                    where=f"consortium.yaml: versions.{name}",
                    value=found,
                    allowed=wanted,
                    fix="install the release that was agreed; or agree on a window: consortium upgrade propose",
                )

    def not_now(self) -> Iterator[Problem]:
        """Why the time is not right."""
        window = self.window
        if window is None or not window.brought_by(self.brings):
            yield Problem(
                "other versions, and no maintenance window that all agreed on",
                where=WHERE,
                value=said(self.changes),
                fix=f"consortium upgrade propose; {NOW}",
            )
        elif self.now < window.from_:
            yield Problem(
                "the maintenance window has not begun",
                where=WHERE,
                value=f"it is {self.now:%Y-%m-%d %H:%M:%S} UTC",
                allowed=between(window),
                fix=f"until then the release that runs; or {NOW}",
            )
        elif self.now >= window.to:
            yield Problem(
                "the maintenance window is over",
                where=WHERE,
                value=f"it is {self.now:%Y-%m-%d %H:%M:%S} UTC",
                allowed=between(window),
                fix=f"agree on another one; or {NOW}",
            )


def up_refused(seen: Seen) -> Problem | None:
    """Why a plain `up` may not be; None: it changes no version that was agreed. Where nothing runs, nothing changes."""
    if misfit := next(seen.misfits(), None):
        return misfit
    if not seen.changes:
        return None
    if problem := next(seen.not_now(), None):
        return problem
    return Problem(
        "going over to other versions takes more than `up`",
        where=WHERE,
        value=said(seen.changes),
        fix="consortium upgrade run, which lets jobs finish and takes everything back if it does not work",
    )


def run_refused(seen: Seen, *, now: bool = False) -> list[Problem]:
    """Why `upgrade run` may not begin; `now`: whatever the window and the peers say."""
    found = list(_here(seen))
    if seen.runs is not None and not now:
        found += [*seen.misfits(), *(seen.not_now() if seen.changes else ()), *_agreement(seen, seen.runs)]
    return found


def _here(seen: Seen) -> Iterator[Problem]:
    if seen.placement != "docker":
        yield Problem(
            "hosts keep no earlier packages, so nothing could be taken back there",
            where=f"stacks/Pulumi.{seen.party}.yaml: consortium:settings.placement",
            value=seen.placement,
            allowed="docker",
            fix="when no job runs: `consortium up --now`; to go back: the same with the earlier release",
        )
    if seen.runs is None:
        yield Problem(
            "the own coordinator does not answer, so nothing could be drained, compared or taken back",
            where=seen.party,
            fix="consortium upgrade back, which puts back what was there"
            if seen.begun
            else "consortium doctor; an institution that is down comes up with `consortium up`",
        )
    if not seen.image_here:
        yield Problem(
            "the node image of this release is not on the engine", where=seen.image, fix="consortium image bake"
        )


def _agreement(seen: Seen, runs: Runs) -> Iterator[Problem]:
    """Whether everybody has taken up the file with the window: the digests of those who wait are one and the same."""
    window = seen.window
    if not seen.changes or window is None:
        return
    if runs.window != (window.from_, window.to):
        yield Problem(
            "the own coordinator does not know this window yet",
            where=WHERE,
            allowed=between(window),
            fix="`consortium up` with the release that runs, before the window",
        )
        return
    for name, peer in sorted(seen.peers.items()):
        if peer.error:
            yield Problem(
                f"{name} does not say whether it agrees", where=name, value=peer.error,
                fix=f"it may be going over just now: again in a minute; else consortium doctor --peer {name}",
            )  # fmt: skip
        elif peer.files not in (runs.files, seen.files):
            yield Problem(
                f"{name} has other consortium files in force",
                where=name,
                value=peer.files[:SHORT],
                allowed=f"{runs.files[:SHORT]}, or {seen.files[:SHORT]} when it has gone over",
                fix=f"{name} runs `consortium up` with the same files",
            )


def said(changes: Mapping[str, tuple[str, str]]) -> str:
    """For people: `ray 2.9.3 → 2.10.0, coordinator 3f2a… → 9c1b…`."""
    return ", ".join(f"{name} {_short(old) or 'unknown'} → {_short(new)}" for name, (old, new) in changes.items())


def between(window: Maintenance) -> str:
    """The window for people."""
    return f"{window.from_:%Y-%m-%d %H:%M} to {window.to:%Y-%m-%d %H:%M} UTC"


def _short(version: str) -> str:
    return version[:SHORT]
