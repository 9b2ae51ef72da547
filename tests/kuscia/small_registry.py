"""A registry of images with a login, as small as it can be, and archives of `docker save` made by hand."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True)
class SmallImage:
    """One layer with one file. `mark` makes it another image."""

    mark: str

    @property
    def layer(self) -> bytes:
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as tar:
            entry = tarfile.TarInfo("mark")
            entry.size = len(self.mark)
            tar.addfile(entry, io.BytesIO(self.mark.encode()))
        return made.getvalue()

    @property
    def config(self) -> bytes:
        layers = {"type": "layers", "diff_ids": [digest(self.layer)]}
        return json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": layers}).encode()

    @property
    def packed(self) -> bytes:
        return gzip.compress(self.layer, mtime=0)

    @property
    def manifest(self) -> bytes:
        def about(kind: str, content: bytes) -> dict[str, object]:
            return {"mediaType": kind, "size": len(content), "digest": digest(content)}

        config = about("application/vnd.docker.container.image.v1+json", self.config)
        layer = about("application/vnd.docker.image.rootfs.diff.tar.gzip", self.packed)
        found = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}
        return json.dumps(found).encode()

    @property
    def id(self) -> str:
        return digest(self.config)

    def archive(self, *, config: bytes | None = None) -> bytes:
        """As `docker save` makes it. `config`: another one under the same name, which a thief would put there."""
        name = f"{self.id.removeprefix('sha256:')}.json"
        files = {
            name: self.config if config is None else config,
            "layer.tar": self.layer,
            "manifest.json": json.dumps([{"Config": name, "RepoTags": None, "Layers": ["layer.tar"]}]).encode(),
        }
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as tar:
            for path, content in files.items():
                entry = tarfile.TarInfo(path)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        return made.getvalue()


@dataclass
class Running:
    """Where it listens, and what was asked."""

    address: str
    asked: list[str] = field(default_factory=list)


@contextmanager
def registry(image: SmallImage, user: str, password: str) -> Iterator[Running]:
    """Serves one image to who knows the password."""
    login = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    content = {digest(part): part for part in (image.config, image.packed, image.manifest)}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            running.asked.append(self.path)
            if self.headers.get("Authorization") != login:
                self._answer(401, b"{}", **{"WWW-Authenticate": 'Basic realm="small"'})
                return
            found = b"{}" if self.path == "/v2/" else content.get(self.path.rpartition("/")[2])
            if found is None:
                self._answer(404, b"{}")
                return
            kind = MANIFEST if "/manifests/" in self.path else "application/octet-stream"
            self._answer(200, found, **{"Content-Type": kind, "Docker-Content-Digest": digest(found)})

        do_HEAD = do_GET

        def _answer(self, code: int, body: bytes, **headers: str) -> None:
            self.send_response(code)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Tests are quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running = Running(f"127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
