"""The ``uploads`` of a container as one archive."""

from __future__ import annotations

import base64
import io
import tarfile
from pathlib import Path

from airgap.pulumi_resource_docker.wire import Props


def content(upload: Props) -> bytes:
    """What the file holds, from the one of three places that is given."""
    if upload.get("source"):
        return Path(upload["source"]).read_bytes()
    if upload.get("contentBase64"):
        return base64.b64decode(upload["contentBase64"])
    return str(upload.get("content", "")).encode()


def archive(uploads: list[Props]) -> bytes:
    """A tar that docker unpacks at the container's root."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for upload in uploads:
            data = content(upload)
            entry = tarfile.TarInfo(upload["file"].lstrip("/"))
            entry.size = len(data)
            entry.mode = 0o744 if upload.get("executable") else 0o644
            if upload.get("permissions"):
                entry.mode = int(upload["permissions"], 8)
            entry.uid = int(upload.get("owner") or 0)
            entry.gid = int(upload.get("group") or 0)
            tar.addfile(entry, io.BytesIO(data))
    return made.getvalue()
