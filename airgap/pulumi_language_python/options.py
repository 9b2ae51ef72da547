"""Which interpreter runs the program: the ``runtime.options`` of Pulumi.yaml, and what it holds."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TOOLCHAINS = ("pip", "poetry", "uv")


class OptionError(Exception):
    """A runtime option that cannot be honoured; the message says what to change."""


@dataclass(frozen=True)
class Interpreter:
    """A Python program and, for a virtual environment, its folder."""

    executable: str
    prefix: Path

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """``base`` as an activated environment would have it."""
        env = dict(base)
        if (self.prefix / "pyvenv.cfg").exists():
            env["VIRTUAL_ENV"] = str(self.prefix)
            env["PATH"] = os.pathsep.join([str(self.prefix / "bin"), env.get("PATH", os.defpath)])
            env.pop("PYTHONHOME", None)
        return env

    def site_packages(self) -> list[Path]:
        """Where its packages are."""
        return sorted(self.prefix.glob("lib/python3*/site-packages"))

    def resource_plugins(self) -> list[tuple[str, str, str]]:
        """Name, version and download URL that each installed provider SDK asks for.

        Packages say so in a file; looking is much quicker than asking pip.
        """
        found = []
        for site in self.site_packages():
            for path in sorted(site.glob("*/pulumi-plugin.json")):
                said = json.loads(path.read_text())
                if said.get("resource") and "parameterization" not in said:
                    name = said.get("name") or path.parent.name.removeprefix("pulumi_")
                    found.append((name, said.get("version", ""), said.get("server", "")))
        return found


def choose(options: Mapping[str, object], root: str) -> Interpreter:
    """The interpreter for a program whose Pulumi.yaml is in ``root``.

    ``virtualenv`` names a folder and must hold; ``toolchain: uv`` means ``.venv`` when there is one.
    Otherwise it is the interpreter that airgap/install was told of.
    """
    unserved = sorted(set(options) - {"virtualenv", "toolchain"})
    if unserved:
        raise OptionError(
            f"runtime option {unserved[0]} = {options[unserved[0]]!r} is not served by the "
            "stand-in Python language host: remove it from Pulumi.yaml"
        )
    toolchain = options.get("toolchain", "pip")
    if toolchain not in TOOLCHAINS:
        raise OptionError(f"runtime option toolchain = {toolchain!r}: one of {', '.join(TOOLCHAINS)}")
    folder = options.get("virtualenv") or (".venv" if toolchain == "uv" else None)
    if folder:
        prefix = Path(root, str(folder)).absolute()
        python = prefix / "bin" / "python"
        if python.exists():
            return Interpreter(str(python), prefix)
        if options.get("virtualenv"):
            raise OptionError(
                f"runtime option virtualenv = {folder!r}: {python} does not exist. Make the "
                f"environment (python3 -m venv {prefix}, or uv sync) or remove the option"
            )
    return Interpreter(sys.executable, Path(sys.prefix))
