"""`consortium image bake|digest|manifest|prune`: the image that nodes are made from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from consortium.cli._common import (
    JsonOption,
    PartyOption,
    WorkspaceOption,
    emit,
    emit_differences,
    err,
    open_workspace,
    say,
)

if TYPE_CHECKING:
    from consortium.image import Downloads
    from consortium.spec import Model

BaseOption = Annotated[
    str | None, typer.Option("--base", help="A Debian 12 image. Default: that of the lock file, else debian:12-slim.")
]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="The image that nodes are made from.", no_args_is_help=True)
    group.command()(bake)
    group.command()(digest)
    group.command()(manifest)
    group.command()(prune)
    app.add_typer(group, name="image")


def bake(
    party: PartyOption = None,
    base: BaseOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the node image on the institution's engine, unless it is there.

    Takes some minutes the first time, about half a minute after an edit of the coordinator.

    Example: `consortium image bake`
    """
    from consortium.image import bake as bake_image

    engine, downloads = engine_and_downloads(party, workspace, needed=True)
    name = bake_image(engine, base, downloads=downloads, on_progress=lambda line: err.print(escape(line)))
    emit({"image": name}, as_json, lambda: say(name))


def digest(base: BaseOption = None, as_json: JsonOption = False) -> None:
    """The digest of everything the image is made of. Needs no engine and no workspace.

    Example: `consortium image digest`
    """
    from consortium.image import content_digest, image_name

    found = {"digest": content_digest(base), "image": image_name(base)}
    emit(found, as_json, lambda: say(f"{found['digest']}  {found['image']}"))


def manifest(
    image: Annotated[str | None, typer.Argument(help="An image on the engine. Default: the node image.")] = None,
    against: Annotated[
        Path | None, typer.Option("--against", help="A manifest in JSON; name every file that differs, exit code 1.")
    ] = None,
    party: PartyOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """The digest of all files in an image; as JSON, every file with owner, mode and digest. Nothing is started.

    Example: `consortium image manifest --json > here.json`, and on another machine
    `consortium image manifest --against here.json`
    """
    from consortium import manifest as manifests
    from consortium.image import connect, image_name

    engine, _ = engine_and_downloads(party, workspace)
    name = image or image_name()
    found = manifests.of_image(connect(engine), name)
    if against is None:
        digest = found.digest()
        return emit(found.model_dump(), as_json, lambda: say(f"{digest}  {name}  {len(found.entries)} files"))
    lines = manifests.load(against).differences(found)
    return emit_differences(lines, as_json, some="files differ", none="equal")


def prune(party: PartyOption = None, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Remove images of earlier bakes that no container uses. The image of the present content stays.

    Example: `consortium image prune`
    """
    from consortium.image import prune as prune_images

    removed = prune_images(_model(party, workspace).settings.engine)

    def human() -> None:
        for name in removed:
            say(f"removed {name}")
        if not removed:
            say("nothing to remove")

    emit({"removed": removed}, as_json, human)


def engine_and_downloads(
    party: str | None, workspace: WorkspaceOption, *, needed: bool = False
) -> tuple[str, Downloads]:
    """The engine and the mirrors of an institution; of this machine where no party is named and none is `needed`."""
    from consortium.image import Downloads
    from consortium.settings import StackSettings

    if party is None and workspace is None and not needed:
        return StackSettings.model_fields["engine"].default, Downloads.from_environment(os.environ)
    model = _model(party, workspace)
    settings = model.settings
    return settings.engine, Downloads.from_environment(
        os.environ,
        ca_bundle=model.workspace / settings.ca_bundle if settings.ca_bundle else None,
        apt=settings.package_mirror.apt,
        pip=settings.package_mirror.pip,
    )


def _model(party: str | None, workspace: WorkspaceOption) -> Model:
    from consortium.documents import load_model

    place = open_workspace(workspace)
    return load_model(place.root, place.party(party))
