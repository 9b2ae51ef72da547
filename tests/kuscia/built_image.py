"""An image that a test builds: a recipe, and the programs that it copies."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

import docker


def build(engine: docker.DockerClient, name: str, recipe: str, programs: Mapping[str, str]) -> str:
    """The image's id. `recipe`: a Dockerfile; `programs`: file → text, executable for everybody."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for path, text in {"Dockerfile": recipe, **programs}.items():
            content = text.encode()
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    made.seek(0)
    image, _ = engine.images.build(fileobj=made, custom_context=True, tag=name, rm=True)
    return str(image.id)
