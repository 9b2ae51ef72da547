"""Finds a Go that is new enough, or fetches a pinned one from the Go module proxy."""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from airgap.installer.errors import InstallError

TOOLCHAIN = "1.25.11"
# Go's own module checksums (what sum.golang.org says), so that any proxy may be used.
TOOLCHAIN_SUMS = {"linux-amd64": "h1:AUChz5pzC7L9cEGXaGD6Z0N5m2H2JDiTZywfitOXskU="}
DEFAULT_PROXY = "https://proxy.golang.org"
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def version_of(text: str) -> tuple[int, ...]:
    """``go version go1.25.11 linux/amd64`` or ``1.25.11`` as numbers; () when it has none."""
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(n or 0) for n in found.groups()) if found else ()


def candidates() -> list[str]:
    """Every go command that may be on the machine, the one on PATH first."""
    folders = [Path("/usr/local/go/bin"), *sorted(Path("/usr/lib").glob("go-*/bin"), reverse=True)]
    found = [shutil.which("go"), *(shutil.which("go", path=str(f)) for f in folders)]
    return [go for go in found if go]


def installed(needed: str) -> str | None:
    """The first installed go that is at least ``needed``."""
    for go in candidates():
        # GOTOOLCHAIN=local asks for this go's own version, not for one that it would download.
        env = {**os.environ, "GOTOOLCHAIN": "local"}
        said = subprocess.run([go, "version"], capture_output=True, text=True, env=env, cwd="/")
        if said.returncode == 0 and version_of(said.stdout) >= version_of(needed):
            return go
    return None


def proxies(setting: str | None = None) -> list[str]:
    """The URLs in GOPROXY; words as direct and off are none."""
    setting = os.environ.get("GOPROXY", "") if setting is None else setting
    parts = re.split(r"[,|]", setting or DEFAULT_PROXY)
    return [p.strip().rstrip("/") for p in parts if "://" in p]


def module_sum(archive: Path) -> str:
    """Go's ``h1:`` checksum of a module zip: a hash of the sorted hashes of its files."""
    with zipfile.ZipFile(archive) as z:
        lines = [f"{hashlib.sha256(z.read(n)).hexdigest()}  {n}\n" for n in sorted(z.namelist())]
    return "h1:" + base64.b64encode(hashlib.sha256("".join(lines).encode()).digest()).decode()


def ensure(cache: Path, needed: str) -> str:
    """A go command: an installed one, else the pinned toolchain under ``cache``."""
    found = installed(needed)
    if found:
        return found
    home = cache / "go" / TOOLCHAIN
    go = home / "bin" / "go"
    if not go.exists():
        fetch(home, needed)
    return str(go)


def fetch(home: Path, needed: str) -> None:
    """Downloads, verifies and unpacks the pinned toolchain into ``home``."""
    target = f"{platform.system().lower()}-{MACHINES.get(platform.machine(), platform.machine())}"
    advice = (
        f"install Go {needed} or newer and put it on PATH "
        "(https://go.dev/dl, or golang-go of bookworm-backports when that is new enough)"
    )
    if target not in TOOLCHAIN_SUMS:
        raise InstallError(f"no Go {needed} here and no pinned toolchain for {target}: {advice}")
    name = f"v0.0.1-go{TOOLCHAIN}.{target}"
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent) as temp:
        archive = Path(temp) / "toolchain.zip"
        problems = []
        for proxy in proxies():
            url = f"{proxy}/golang.org/toolchain/@v/{name}.zip"
            print(f"airgap: no Go {needed} found, fetching {url}", file=sys.stderr)
            try:
                download(url, archive)
                break
            except (urllib.error.URLError, OSError) as error:
                problems.append(f"{url}: {error}")
        else:
            tried = "; ".join(problems) or "GOPROXY names no URL"
            raise InstallError(f"cannot fetch a Go toolchain ({tried}): {advice}")
        if module_sum(archive) != TOOLCHAIN_SUMS[target]:
            raise InstallError(f"{url} has not the pinned content: {advice}")
        unpack(archive, f"golang.org/toolchain@{name}/", Path(temp) / "go")
        (Path(temp) / "go").replace(home)


def download(url: str, into: Path) -> None:
    """Fetches a URL of a proxy that GOPROXY names."""
    with urllib.request.urlopen(url, timeout=60) as source, into.open("wb") as file:  # noqa: S310
        shutil.copyfileobj(source, file)


def unpack(archive: Path, prefix: str, into: Path) -> None:
    """Unpacks a module zip, which keeps no modes, and makes Go's programs executable."""
    with zipfile.ZipFile(archive) as z:
        for name in z.namelist():
            if not name.startswith(prefix) or ".." in Path(name).parts:
                raise InstallError(f"{archive.name} holds an unexpected path: {name}")
            path = into / name[len(prefix) :]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(z.read(name))
            if path.parent.name == "bin" or path.is_relative_to(into / "pkg" / "tool"):
                path.chmod(0o755)
