"""What the documents become in the other mode, tried in a copy before anything is changed."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests

from consortium import engine_socket, files
from consortium.documents import CONSORTIUM_FILE, PARTIES_FOLDER, STACKS_FOLDER, load_model
from consortium.errors import DocumentErrors, Problem
from consortium.kuscia.image import image_problems
from consortium.spec import Mode, Model
from consortium.stackfile import StackFile, dump
from consortium.workspace import Workspace
from consortium.yamlfile import read_yaml

ASIDE = "kuscia-settings.yaml"
"""In the private folder: what stood under `kuscia` when the consortium went to Ray, for the way back."""
_MODE = re.compile(r"^mode:.*$", re.M)
_NAME = re.compile(r"^name:.*$", re.M)


@dataclass(frozen=True)
class Change:
    """The two files that change, whole, before and after."""

    consortium: tuple[str, str]
    settings: tuple[dict[str, Any], dict[str, Any]]


def planned(place: Workspace, party: str, to: Mode, node: Path | None) -> Change:
    """`node`: a file with what comes under `kuscia` in the settings; else what was put aside. Raises DocumentErrors."""
    text = (place.root / CONSORTIUM_FILE).read_text("utf-8")
    settings = dict(StackFile(place.stack_file(party)).config()["settings"])
    new = dict(settings)
    new.pop("kuscia", None)
    if to == "kuscia" and (found := _node_settings(place, settings, node)):
        new["kuscia"] = found
    return Change((text, with_mode(text, to)), (settings, new))


def with_mode(text: str, to: Mode) -> str:
    """consortium.yaml in the other mode, every other line as it was: all members' files must stay the same."""
    if _MODE.search(text):
        return _MODE.sub(f"mode: {to}", text, count=1)
    return _NAME.sub(lambda name: f"{name.group()}\nmode: {to}", text, count=1)


def _node_settings(place: Workspace, settings: dict[str, Any], node: Path | None) -> Any:
    aside = place.private / ASIDE
    path = node or (aside if aside.exists() else None)
    if path is None:
        return settings.get("kuscia")
    found = read_yaml(path, str(path))
    if found.problems:
        raise DocumentErrors(found.problems)
    return found.data


def problems(place: Workspace, party: str, change: Change) -> list[Problem]:
    """Everything that would be wrong with the documents after the change; nothing of this workspace is touched."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in (PARTIES_FOLDER, STACKS_FOLDER):
            if (place.root / name).is_dir():
                shutil.copytree(place.root / name, root / name)
        (root / CONSORTIUM_FILE).write_text(change.consortium[1], "utf-8")
        StackFile(root / STACKS_FOLDER / place.stack_file(party).name).update(settings=change.settings[1])
        try:
            # What it names by a path lies where it did.
            model = load_model(root, party).model_copy(update={"workspace": place.root})
        except DocumentErrors as found:
            return list(found.problems)
        return list(_images(model)) if model.settings.placement == "docker" else []


def _images(model: Model) -> Iterator[Problem]:
    """What keeps the node's images from coming: better said now than when jobs are held."""
    try:
        with engine_socket.local(model.settings.engine) as address:
            yield from image_problems(docker.DockerClient(base_url=address, timeout=20), model)
    except (docker.errors.DockerException, requests.RequestException) as error:
        yield Problem("the container engine does not answer", where=model.settings.engine, value=str(error))


def write(place: Workspace, party: str, change: Change, *, back: bool = False) -> None:
    """Put both files as they are to be, or as they were. What stood under `kuscia` is put aside first."""
    text, settings = (change.consortium[0], change.settings[0]) if back else (change.consortium[1], change.settings[1])
    if "kuscia" in change.settings[0] and "kuscia" not in settings:
        files.write(place.private / ASIDE, dump(change.settings[0]["kuscia"]), private=True)
    StackFile(place.stack_file(party)).update(settings=settings)
    files.write(place.root / CONSORTIUM_FILE, text)
