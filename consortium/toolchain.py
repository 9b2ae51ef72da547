"""Finds the Pulumi CLI with its Python language host: the official one on PATH, else the airgap toolchain."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from consortium.errors import ConsortiumError
from consortium.folders import INSTALLATION

AIRGAP = INSTALLATION / "airgap" / "install"


class ToolchainMissing(ConsortiumError):
    """There is no Pulumi to run."""


def pulumi_environment() -> dict[str, str]:
    """This process's environment, completed so that `pulumi` and its plugins are found.

    The official toolchain is used untouched where it is there; nothing of airgap/ takes part then. Raises
    ToolchainMissing where neither can be had.
    """
    environment = dict(os.environ)
    if not (shutil.which("pulumi") and shutil.which("pulumi-language-python")):
        environment |= _airgap()
    # The program must run with this interpreter's packages, whatever python3 comes first on PATH.
    return {
        **environment,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)]),
    }


def _airgap() -> dict[str, str]:
    if not AIRGAP.is_file():
        raise ToolchainMissing(
            "Pulumi is not on PATH",
            value="pulumi, pulumi-language-python",
            fix="install Pulumi (pulumi.com/docs/install)",
        )
    done = subprocess.run([sys.executable, str(AIRGAP), "--json"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise ToolchainMissing(
            "the airgap toolchain could not be prepared",
            where=str(AIRGAP),
            value=f"exit code {done.returncode}; its message stands above",
            fix="mend that, or install Pulumi (pulumi.com/docs/install)",
        )
    return {str(k): str(v) for k, v in json.loads(done.stdout)["env"].items()}
