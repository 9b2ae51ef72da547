"""A whole consortium on this machine, made for a test and gone afterwards."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import docker
import yaml

from consortium import example_data, files
from consortium.documents import CONSORTIUM_FILE, load_consortium
from consortium.engine import engine_address
from consortium.errors import ConsortiumError, TimedOut, UsageError
from consortium.founding import found
from consortium.image import Downloads, bake
from consortium.joining import Wishes
from consortium.settings import StackSettings
from testing import registry
from testing.party import Party
from testing.registry import Environment
from testing.run import Run

NAMES = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy")
EXAMPLE_ROWS = 10_000
CONNECT_S = 180.0
AT_ONCE = 3
"""Institutions brought up at the same time: each keeps about one core busy."""
Progress = Callable[[str], None]
Datasets = Mapping[str, Mapping[str, str | Path]]

log = logging.getLogger("consortium.testing")


class LeftBehind(ConsortiumError):
    """`pulumi destroy` left something; it has been removed all the same."""


class Consortium:
    """So many institutions, each with its own workspace, state, keys, nodes and gateway.

    `parties`: how many (alice, bob, carol, …), or their names. `workers`: Ray workers of each party, or per party.
    `timeouts`, `versions`, `slots`, `limits`: as in consortium.yaml. `settings`: party → stack settings that differ.
    `datasets`: party → dataset → file; by default alice and bob have the tables of the example `jobs/psi`.
    `image`: an image of the engine; by default the one of the present content, baked unless it is there.
    `kept`: it outlives this process, until `consortium testing reap NAME`.

    Use it as a context manager, or call `up` and `close`. Nothing is made before `up`.
    """

    def __init__(
        self,
        parties: int | Sequence[str] = 2,
        *,
        workers: int | Mapping[str, int] = 1,
        slots: int = 2,
        timeouts: Mapping[str, float] | None = None,
        versions: Mapping[str, str] | None = None,
        limits: Mapping[str, int] | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        datasets: Datasets | None = None,
        image: str | None = None,
        kept: bool = False,
        on_progress: Progress = log.info,
    ) -> None:
        names = _names(parties)
        workers = dict.fromkeys(names, workers) if isinstance(workers, int) else workers
        _refuse_strangers(names, workers=workers, settings=settings or {}, datasets=datasets or {})
        self._workers, self._settings, self._datasets, self._image = workers, settings or {}, datasets, image
        agreed = {"slots": slots, "timeouts": timeouts, "versions": versions, "limits": limits}
        self._agreed = {key: value for key, value in agreed.items() if value is not None}
        self._kept, self._say, self._names = kept, on_progress, names
        self._environment: Environment | None = None
        self.runs: list[Run] = []
        self.parties: dict[str, Party] = {}

    @classmethod
    def attach(cls, name: str, on_progress: Progress = log.info) -> Consortium:
        """A consortium that another process keeps (`consortium up --ephemeral`). `close` leaves it up.

        Raises ConsortiumError if there is none of this name.
        """
        environment = registry.find(name)
        attached = cls(list(environment.gateway_ports), kept=True, on_progress=on_progress)
        attached.adopt(environment)
        return attached

    @property
    def name(self) -> str:
        """As in consortium.yaml; every name on the engine begins with it."""
        return self._there.name

    @property
    def folder(self) -> Path:
        """Holds one workspace per party."""
        return self._there.folder

    @property
    def engine(self) -> docker.DockerClient:
        """The container engine of this machine."""
        return docker.from_env()

    @property
    def _there(self) -> Environment:
        if self._environment is None:
            raise UsageError("the consortium is not up", fix="with Consortium() as c: …, or c.up() first")
        return self._environment

    def party(self, name: str) -> Party:
        """One institution. Raises UsageError for a name that is not there."""
        if name not in self.parties:
            raise UsageError("no such party", value=name, allowed=", ".join(self.parties) or ", ".join(self._names))
        return self.parties[name]

    def __enter__(self) -> Self:
        return self.up()

    def __exit__(self, *_: object) -> None:
        if not self._kept:
            self.close()

    def up(self) -> Self:
        """Make everything and wait until all parties hear one another. What killed runs left is removed first.

        An error carries the logs of the nodes as a note, and nothing is left of the attempt.
        """
        for name, removed in registry.reap(self.engine).items():
            self._say(f"removed what a killed run left of {name}: {', '.join(removed) or 'its folder'}")
        engine = os.environ.get("DOCKER_HOST") or str(StackSettings.model_fields["engine"].default)
        image = self._image or bake(engine, downloads=Downloads.from_environment(os.environ), on_progress=self._say)
        self.adopt(registry.claim(self._names, engine_address()))
        try:
            self._say(f"{self.name}: keys and documents of {', '.join(self.parties)}")
            self._prepare(image, engine)
            self._say(f"{self.name}: pulumi up")
            self.each(lambda party: party.up())
            self.wait_until_connected()
        except BaseException as error:
            error.add_note("\n".join(f"--- {title}\n{text}" for title, text in self.logs().items()))
            registry.remove(self.engine, self._there)
            raise
        if self._kept:
            self._environment = self._there.kept()
        self._say(f"{self.name}: up")
        return self

    def close(self) -> None:
        """`pulumi destroy` for every party, then make sure that nothing is left. Raises LeftBehind if something was."""
        self._say(f"{self.name}: down")
        try:
            self.each(lambda party: party.down())
        finally:
            left = registry.remove(self.engine, self._there)
        if left:
            raise LeftBehind("pulumi destroy left something behind; it has been removed", value=", ".join(left))

    def each(self, act: Callable[[Party], object], parties: Iterable[str] | None = None) -> None:
        """Do something at every party (or at those named), some at a time. Raises the first error, at the end."""
        chosen = [self.party(name) for name in (parties or self.parties)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for done in [pool.submit(act, party) for party in chosen]:
                done.result()

    def exchange_party_files(self) -> None:
        """Each institution sends the others its public face, and nothing else."""
        for sender in self.parties.values():
            public = sender.workspace.party_file(sender.name)
            for receiver in self.parties.values():
                if receiver is not sender:
                    shutil.copyfile(public, receiver.workspace.party_file(sender.name))

    def wait_until_connected(self, timeout_s: float = CONNECT_S) -> None:
        """Until every coordinator hears every other one. Raises TimedOut naming those that are not heard."""
        end = time.monotonic() + timeout_s
        for party in self.parties.values():
            while silent := self._silent(party):
                if time.monotonic() > end:
                    raise TimedOut(
                        f"{party.name} does not hear {', '.join(silent)} after {timeout_s:g} s", where=self.name
                    )
                time.sleep(0.3)

    def logs(self) -> dict[str, str]:
        """What every node logged last, by host name."""
        return {node.name: node.logs() for party in self.parties.values() for node in self._nodes(party)}

    @property
    def environment(self) -> Environment:
        """Its entry in the registry. Raises UsageError before `up`."""
        return self._there

    def adopt(self, environment: Environment) -> dict[str, Party]:
        """Take up an entry of the registry; parties that are known already stay the same objects."""
        self._environment = environment
        ports = environment.operator_ports
        self.parties = {name: self.parties.get(name) or Party(self, name, port) for name, port in ports.items()}
        return self.parties

    def _prepare(self, image: str, engine: str) -> None:
        datasets = self._datasets if self._datasets is not None else self._example_data()
        for party in self.parties.values():
            found(party.workspace.root, self.name, self._names)
            self._agree(party.workspace.root / CONSORTIUM_FILE)
        common = {"image": image, "engine": engine}
        self.each(lambda party: self.join(party, datasets.get(party.name, {}), common))
        self.exchange_party_files()
        for party in self.parties.values():
            party.model  # noqa: B018 raises DocumentErrors before anything is made

    def _agree(self, path: Path) -> None:
        """The agreement with what the test wants different."""
        document = yaml.safe_load(files.read(path))
        for key, value in self._agreed.items():
            document[key] = {**document[key], **value} if isinstance(value, Mapping) else value
        files.write(path, yaml.safe_dump(document, sort_keys=False))
        load_consortium(path.parent)

    def join(
        self, party: Party, datasets: Mapping[str, str | Path], common: Mapping[str, Any], workers: int | None = None
    ) -> None:
        """Keys, party file and settings of one party, with the ports that are registered for it."""
        wishes = Wishes(
            endpoint=(engine_address(), self._there.gateway_ports[party.name]),
            bind=engine_address(),
            operator_port=party.operator_port,
            workers=self._workers.get(party.name, 1) if workers is None else workers,
            datasets={name: str(Path(path).absolute()) for name, path in datasets.items()},
        )
        party.join(wishes, {**common, **self._settings.get(party.name, {})})

    def _example_data(self) -> dict[str, dict[str, Path]]:
        example_data.psi(self.folder / "data", EXAMPLE_ROWS, EXAMPLE_ROWS // 2)
        tables = {name: sorted((self.folder / "data" / name).glob("*.csv")) for name in self.parties}
        return {name: {path.stem: path for path in paths} for name, paths in tables.items()}

    @staticmethod
    def _silent(party: Party) -> list[str]:
        peers = party.coordinator.wait("/status", lambda _: True, CONNECT_S, f"an answer of {party.name}")["peers"]
        return [name for name, peer in peers.items() if not peer["up"]]

    @staticmethod
    def _nodes(party: Party) -> list[Any]:
        try:
            return party.nodes
        except ConsortiumError:  # its documents are not written yet: nothing has been made of it
            return []


def _names(parties: int | Sequence[str]) -> tuple[str, ...]:
    if isinstance(parties, int):
        if not 2 <= parties <= len(NAMES):
            raise UsageError(
                "not a number of parties", value=str(parties), allowed=f"2 to {len(NAMES)}, or their names"
            )
        return NAMES[:parties]
    return tuple(parties)


def _refuse_strangers(names: Sequence[str], **options: Mapping[str, Any]) -> None:
    for option, given in options.items():
        if strangers := sorted(set(given) - set(names)):
            raise UsageError("not a party", where=option, value=", ".join(strangers), allowed=", ".join(names))
