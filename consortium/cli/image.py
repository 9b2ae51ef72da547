"""`consortium image bake|digest|prune`: the image that nodes are made from."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from consortium.cli._common import JsonOption, PartyOption, WorkspaceOption, emit, err, open_workspace, say

if TYPE_CHECKING:
    from consortium.spec import Model

BaseOption = Annotated[str | None, typer.Option("--base", help="A Debian 12 image. Default: debian:12-slim.")]


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="The image that nodes are made from.", no_args_is_help=True)
    group.command()(bake)
    group.command()(digest)
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
    from consortium.image import Downloads
    from consortium.image import bake as bake_image

    model = _model(party, workspace)
    settings = model.settings
    downloads = Downloads.from_environment(
        os.environ,
        ca_bundle=model.workspace / settings.ca_bundle if settings.ca_bundle else None,
        apt=settings.package_mirror.apt,
        pip=settings.package_mirror.pip,
    )
    name = bake_image(
        settings.engine, *_base(base), downloads=downloads, on_progress=lambda line: err.print(escape(line))
    )
    emit({"image": name}, as_json, lambda: say(name))


def digest(base: BaseOption = None, as_json: JsonOption = False) -> None:
    """The digest of everything the image is made of. Needs no engine and no workspace.

    Example: `consortium image digest`
    """
    from consortium.image import content_digest, image_name

    found = {"digest": content_digest(*_base(base)), "image": image_name(*_base(base))}
    emit(found, as_json, lambda: say(f"{found['digest']}  {found['image']}"))


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


def _model(party: str | None, workspace: WorkspaceOption) -> Model:
    from consortium.documents import load_model

    place = open_workspace(workspace)
    return load_model(place.root, place.party(party))


def _base(base: str | None) -> list[str]:
    return [base] if base else []
