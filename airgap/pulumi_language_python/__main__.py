"""Started by path from a wrapper, so that no PYTHONPATH reaches the program."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])

from airgap.pulumi_language_python.server import main  # noqa: E402 - the path above makes this importable

main(sys.argv[1:])
