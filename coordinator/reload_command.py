"""`python -m coordinator reload`: ask the coordinator that runs here to take up its configuration file anew."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import httpx
from pydantic import ConfigDict, ValidationError

from coordinator.config import ConfigError, Model, Ports, Secrets
from coordinator.context import read_secret

TAKEN, REFUSED, NO_ANSWER, RESTART = 0, 1, 2, 3
"""Exit codes. RESTART: the file is right, but only a restart takes it up."""
_PATIENCE_S = 10.0  # a coordinator that was started just now does not answer yet
_ANSWER_S = 30.0


class _Place(Model):
    """Where the coordinator answers. The rest of the file is for itself to judge, and to record."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    ports: Ports = Ports()
    secrets: Secrets


def ask_to_reload(path: Path, patience_s: float = _PATIENCE_S) -> int:
    """Prints what came of it and returns the exit code."""
    try:
        place = _Place.model_validate_json(path.read_bytes())
        headers = {"authorization": f"Bearer {read_secret(place.secrets.operator_token_file)}"}
    except (OSError, ValidationError, ConfigError) as e:
        print(f"coordinator: {path}: the old configuration stays: {e}", file=sys.stderr)
        return REFUSED
    url = f"http://127.0.0.1:{place.ports.operator}/api/v1/reload"
    end = time.monotonic() + patience_s
    while True:
        try:
            answer = httpx.post(url, headers=headers, timeout=_ANSWER_S, trust_env=False)
            break
        except httpx.HTTPError as e:
            if time.monotonic() > end:
                print(f"coordinator: {url} does not answer: {e}", file=sys.stderr)
                return NO_ANSWER
            time.sleep(0.2)
    if answer.is_success:
        print(f"in force: {answer.text}")
        return TAKEN
    print(f"coordinator: HTTP {answer.status_code}: {answer.text[:2000]}", file=sys.stderr)
    return RESTART if answer.status_code == httpx.codes.CONFLICT else REFUSED
