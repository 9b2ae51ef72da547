"""A Kubernetes API server of one's own, for tests: kube-apiserver from Go modules, etcd from Debian's package.

Nothing is installed on the machine and no service starts: both programs lie in the user's cache folder, whose path is
printed. A second run finds them there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])

from airgap.installer import build, go  # noqa: E402 - the path above makes these importable
from airgap.installer.cli import default_cache, locked  # noqa: E402
from airgap.installer.errors import InstallError  # noqa: E402

HERE = Path(__file__).resolve().parent
COMMAND = "k8s.io/kubernetes/cmd/kube-apiserver"
VERSION = build.pin(r"k8s.io/kubernetes (v\S+)", HERE)
# Without a version the server says v0.0.0-master, and the versions of its features follow from what it says.
VERSION_OF = "k8s.io/component-base/version"
MAJOR, MINOR = VERSION.removeprefix("v").split(".")[:2]
FLAGS = [
    "-trimpath",
    "-ldflags",
    f"-s -w -X {VERSION_OF}.gitVersion={VERSION} -X {VERSION_OF}.gitMajor={MAJOR} -X {VERSION_OF}.gitMinor={MINOR}",
]
ETCD = "etcd-server"


def main() -> int:
    """Prints the folder that holds `kube-apiserver` and `etcd`."""
    cache = default_cache().parent / "kubernetes"
    try:
        with locked(cache):
            print(ensure(cache))
    except InstallError as error:
        print(f"kubernetes: {error}", file=sys.stderr)
        return 1
    return 0


def ensure(cache: Path) -> Path:
    """The folder of both programs under `cache`; makes it when it is not there."""
    release = cache / f"{VERSION}-{build.digest(HERE, FLAGS)}"
    if release.exists():
        return release
    with tempfile.TemporaryDirectory(dir=cache, prefix=".building-") as temp:
        work, made = Path(temp), Path(temp) / "release"
        made.mkdir()
        fetch_etcd(work, made / "etcd")
        compile_server(go.ensure(cache, build.pin(r"^go (\S+)", HERE)), work, made / "kube-apiserver")
        made.replace(release)
    return release


def compile_server(command: str, work: Path, binary: Path) -> None:
    """Builds `binary` in `work`, obeying go.sum."""
    for name in ("go.mod", "go.sum"):
        shutil.copy(HERE / name, work / name)
    env = {**os.environ, **build.ENVIRONMENT}
    print(f"kubernetes: building kube-apiserver {VERSION} (minutes the first time)", file=sys.stderr)
    build.run_with_progress([command, "build", "-v", *FLAGS, "-o", str(binary), COMMAND], work, env, "kubernetes")
    said = run(str(binary), "--version")
    if said != f"Kubernetes {VERSION}":
        raise InstallError(f"the built server says {said!r}")


def fetch_etcd(work: Path, binary: Path) -> None:
    """etcd from PATH, else out of Debian's package, whose signature apt checks; installing it would start a service."""
    if found := shutil.which("etcd"):
        binary.symlink_to(found)
        return
    if not shutil.which("apt-get"):
        raise InstallError("no etcd on PATH, and no apt-get to fetch Debian's: install etcd 3.4 or newer")
    folder = work / "debian"
    folder.mkdir()
    try:
        run("apt-get", "-q", "download", ETCD, cwd=folder)
    except InstallError as error:
        raise InstallError(f"{error}\nis the list of packages there? apt-get update, as root") from None
    (package,) = folder.glob(f"{ETCD}_*.deb")
    run("dpkg-deb", "--extract", str(package), str(folder / "files"))
    shutil.copy(folder / "files" / "usr" / "bin" / "etcd", binary)


def run(*command: str, cwd: Path | None = None) -> str:
    """A command's standard output."""
    said = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if said.returncode:
        raise InstallError(f"{' '.join(command)}: {said.stderr.strip()}")
    return said.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
