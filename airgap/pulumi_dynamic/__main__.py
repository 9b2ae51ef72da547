"""Runs ``python -m pulumi.dynamic``; ``sys.argv`` stays as the engine made it."""

import runpy
import sys
from pathlib import Path

# This folder's parent's parent only for the import below: the program's own modules are found from
# the working directory, as with ``python -m``.
sys.path[0] = str(Path(__file__).resolve().parents[2])

from airgap.plugin import watch_parent  # noqa: E402 - the path above makes this importable

sys.path[0] = ""
watch_parent(lambda: None)
runpy.run_module("pulumi.dynamic", run_name="__main__", alter_sys=True)
