"""Starting and ending a driver. The one real way is Ray's Jobs API; tests bring their own processes behind it.

A submission id is derived from job and attempt, so asking twice for the same driver can never make two.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import httpx

from coordinator.authorities import authorities
from coordinator.driver_log import Log, LogReader

PREFIX = "consortium-"
_SUBMIT_S = 30.0  # Ray starts a supervising actor before it answers: 1 to 6 s on a busy machine


class LauncherError(Exception):
    """The launcher cannot be reached or refused; the message carries its answer."""


class RefusedError(LauncherError):
    """The launcher answered and will not run the driver; asking again is useless."""


class State(StrEnum):
    """State of a submission, in the words of Ray's Jobs API, and one for «not known»."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class Submission:
    """What a driver needs: its id, program, Python and session file."""

    submission_id: str
    python: str
    program: Path
    session: Path


def submission_id(job_id: str, attempt: int) -> str:
    """The one submission id of an attempt at this party."""
    return f"{PREFIX}{job_id}-{attempt}"


class Launcher(Protocol):
    """Runs drivers."""

    log_bytes: int
    """Characters of a driver's output that `logs` gives at most: its end."""

    async def version(self) -> str:
        """Version of what runs drivers; raises LauncherError when it does not answer."""

    async def submit(self, what: Submission) -> None:
        """Start a driver unless its id is known already."""

    async def status(self, submission_id: str) -> tuple[State, str]:
        """State and message of a submission; UNKNOWN when there is none."""

    async def stop(self, submission_id: str) -> None:
        """Ask for the end of a driver and its process group; harmless when it has ended or is unknown."""

    async def logs(self, submission_id: str) -> Log:
        """The end of what the driver wrote; empty when unknown."""

    async def live(self) -> list[str]:
        """Ids with our prefix that have not ended."""


class RayLauncher:
    """Ray Jobs over REST (ray/dashboard/modules/job/job_head.py)."""

    def __init__(
        self,
        jobs_url: str,
        timeout_s: float = 10,
        log_bytes: int = 1_000_000,
        driver_resources: Mapping[str, float] | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(base_url=jobs_url.rstrip("/"), trust_env=False, verify=authorities())
        self._timeout_s, self.log_bytes = timeout_s, log_bytes
        self._resources = dict(driver_resources or {})

    async def close(self) -> None:
        """Close connections."""
        await self._http.aclose()

    async def _call(
        self, method: str, path: str, body: Any = None, ok: tuple[int, ...] = (200,), timeout_s: float = 0
    ) -> httpx.Response:
        for last in (False, True):
            try:
                answer = await self._http.request(method, path, json=body, timeout=timeout_s or self._timeout_s)
                break
            except (httpx.RemoteProtocolError, httpx.ReadError) as e:
                # Ray closed an idle connection in the moment of its reuse; every call here may be repeated
                if last:
                    raise LauncherError(f"Ray Jobs API {self._http.base_url}{path}: {type(e).__name__}: {e}") from e
            except httpx.HTTPError as e:
                raise LauncherError(f"Ray Jobs API {self._http.base_url}{path}: {type(e).__name__}: {e}") from e
        if answer.status_code in ok:
            return answer
        # Ray's head hands a submission to an agent and wraps the agent's 400 into a 500 (seen with Ray 2.9.3)
        refused = answer.status_code == 400 or "failed with status code 400" in answer.text
        message = f"Ray Jobs API {method} {path}: HTTP {answer.status_code}: {answer.text[-1500:]}"
        raise RefusedError(message) if refused else LauncherError(message)

    async def version(self) -> str:
        """Version of the running Ray."""
        return str(_object(await self._call("GET", "/api/version")).get("ray_version", ""))

    async def submit(self, what: Submission) -> None:
        """Submit; an id that Ray knows already means that an earlier request arrived."""
        command = ["exec", "env", f"CONSORTIUM_SESSION={what.session}", what.python, "-u", str(what.program)]
        body = {
            "submission_id": what.submission_id,
            # `exec`: the driver itself is the process Ray signals. The session rides in the command, not in a
            # runtime_env: that would keep Ray from using its prestarted workers.
            "entrypoint": shlex.join(command),
            "metadata": {"job_submission_id": what.submission_id},
            **({"entrypoint_resources": self._resources} if self._resources else {}),
        }
        try:
            await self._call("POST", "/api/jobs/", body, timeout_s=_SUBMIT_S)
        except RefusedError:
            if (await self.status(what.submission_id))[0] is State.UNKNOWN:
                raise

    async def status(self, submission_id: str) -> tuple[State, str]:
        """State and Ray's message."""
        answer = await self._call("GET", f"/api/jobs/{submission_id}", ok=(200, 404))
        if answer.status_code == 404:
            return State.UNKNOWN, ""
        details = _object(answer)
        try:
            return State(details.get("status", "")), str(details.get("message") or "")
        except ValueError as e:
            raise LauncherError(f"Ray Jobs API: {submission_id}: unknown status {details.get('status')!r}") from e

    async def stop(self, submission_id: str) -> None:
        """SIGTERM, after three seconds SIGKILL, to the driver and all its children (Ray does this)."""
        await self._call("POST", f"/api/jobs/{submission_id}/stop", ok=(200, 404))

    async def logs(self, submission_id: str) -> Log:
        """The end of the driver's output, `log_bytes` characters."""
        path, reader = f"/api/jobs/{submission_id}/logs", LogReader(self.log_bytes)
        try:
            async with self._http.stream("GET", path, timeout=self._timeout_s) as answer:
                if answer.status_code == 404:
                    return Log("", 0)
                if answer.status_code != 200:
                    raise LauncherError(f"Ray Jobs API GET {path}: HTTP {answer.status_code}")
                async for part in answer.aiter_bytes():
                    reader.feed(part)
            return reader.log()
        except (httpx.HTTPError, ValueError) as e:
            raise LauncherError(f"Ray Jobs API {path}: {type(e).__name__}: {e}") from e

    async def live(self) -> list[str]:
        """Our submissions that Ray has not ended."""
        answer = (await self._call("GET", "/api/jobs/")).json()
        found = answer.values() if isinstance(answer, dict) else answer
        return [
            str(d["submission_id"])
            for d in found
            if str(d.get("submission_id") or "").startswith(PREFIX) and d.get("status") in ("PENDING", "RUNNING")
        ]


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError as e:
        raise LauncherError(f"Ray Jobs API: not JSON: {answer.text[:200]!r}") from e
    if not isinstance(found, dict):
        raise LauncherError(f"Ray Jobs API: not an object: {answer.text[:200]!r}")
    return found
