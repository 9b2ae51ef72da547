"""Lays out what the CLI looks for: itself, its bundled programs and PULUMI_HOME/plugins.

The CLI takes bundled plugins without a warning only from its own folder (it follows its own path,
not a symbolic link), and other plugins only from PULUMI_HOME. The wrappers name one checkout and
one interpreter, so each such pair gets folders of its own, and bin/pulumi is a hard link.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from airgap.installer.build import HERE
from airgap.installer.errors import InstallError

DOCKER_PLUGIN = "resource-docker-v5.2.0"
NEEDED = ("pulumi", "pulumi_docker", "docker", "grpc")


@dataclass(frozen=True)
class Installed:
    """The folders of one checkout and interpreter."""

    bin: Path
    home: Path
    python: str

    def variables(self) -> dict[str, str]:
        """What to export besides PATH."""
        return {
            "PULUMI_HOME": str(self.home),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        }

    def as_json(self) -> dict[str, object]:
        """The same for scripts; PATH is the caller's with bin in front."""
        path = os.pathsep.join([str(self.bin), os.environ.get("PATH", os.defpath)])
        return {
            "pulumi": str(self.bin / "pulumi"),
            "bin": str(self.bin),
            "python": self.python,
            "env": {"PATH": path, **self.variables()},
        }


def interpreter(python: str) -> str:
    """The absolute path of an interpreter that has all packages the plugins import."""
    found = shutil.which(python)
    if not found:
        raise InstallError(f"--python {python}: no such program")
    # Not resolved: the python of a virtual environment is a link that must be called as itself.
    path = str(Path(found).absolute())
    code = (
        "import importlib.util as u, sys; "
        f"print(*[m for m in {NEEDED!r} if not u.find_spec(m)]); sys.exit(sys.version_info < (3, 11))"
    )
    said = subprocess.run([path, "-c", code], capture_output=True, text=True, cwd="/")
    if said.returncode:
        raise InstallError(f"--python {path}: Python 3.11 or newer is needed. {said.stderr.strip()}")
    if said.stdout.strip():
        raise InstallError(
            f"{path} lacks {', '.join(said.stdout.split())}: install pulumi, pulumi-docker, docker "
            "and grpcio for it, or name the project's interpreter with --python"
        )
    return path


def wrapper(python: str, package: str, *args: str) -> str:
    """A script that becomes ``package``: exec, so that the CLI signals the plugin itself."""
    words = " ".join(shlex.quote(word) for word in (python, str(HERE / package), *args))
    return f'#!/bin/sh\nexec {words} "$@"\n'


def dynamic_wrapper(python: str) -> str:
    """As the SDK's own script: the project's virtual environment wins over ``python``."""
    return (
        "#!/bin/sh\n"
        f"python={shlex.quote(python)}\n"
        'if [ -x "${PULUMI_RUNTIME_VIRTUALENV:+$PULUMI_RUNTIME_VIRTUALENV/bin/python}" ]; then\n'
        '    python="$PULUMI_RUNTIME_VIRTUALENV/bin/python"\n'
        "fi\n"
        f'exec "$python" -u {shlex.quote(str(HERE / "pulumi_dynamic"))} "$@"\n'
    )


def write(path: Path, text: str) -> None:
    """Writes an executable by rename, only when it differs: plugins may be starting from it."""
    if path.is_file() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(text)
    new.chmod(0o755)
    new.replace(path)


def link(source: Path, path: Path) -> None:
    """Makes ``path`` the same file as ``source``, without copying 100 MB."""
    if path.exists() and path.samefile(source):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    os.link(source, new)
    new.replace(path)


def lay_out(cache: Path, release: Path, python: str) -> Installed:
    """Makes or refreshes the folders of this checkout and interpreter."""
    key = hashlib.sha256(f"{HERE}\0{python}".encode()).hexdigest()[:12]
    base = cache / "checkouts" / key
    made = Installed(bin=base / "bin", home=base / "home", python=python)
    for source in (release / "bin").iterdir():
        link(source, made.bin / source.name)
    runner = str(made.bin / "pulumi-language-python-exec")
    write(made.bin / "pulumi-language-python", wrapper(python, "pulumi_language_python", runner))
    write(made.bin / "pulumi-resource-pulumi-python", dynamic_wrapper(python))
    plugin = made.home / "plugins" / DOCKER_PLUGIN / "pulumi-resource-docker"
    write(plugin, wrapper(python, "pulumi_resource_docker"))
    return made
