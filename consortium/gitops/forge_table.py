"""How GitHub and GitLab name the same things, and what their pipelines say of themselves in the environment.

GitHub: docs.github.com/rest (version 2022-11-28). GitLab: docs.gitlab.com/api, v4.
"""

from __future__ import annotations

import ipaddress
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from consortium.errors import UsageError


@dataclass(frozen=True)
class Entry:
    """A comment or an open issue."""

    id: int
    author: str
    body: str


class Forge(ABC):
    """A repository at a forge, as the pipeline's environment names it."""

    change: ClassVar[str]
    """The method that changes a comment or issue."""
    description: ClassVar[str]
    """The field with an issue's text."""
    closed: ClassVar[Mapping[str, Any]]
    """What closes an issue."""
    permission: ClassVar[str]

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Raises UsageError naming the variable that is missing or wrong."""
        self.environment = environment
        self.api = _checked_url(self._variable(self._API).rstrip("/"), self._API)
        self.headers = self._headers(self._variable(self._TOKEN))
        self.author: str | None = None
        """Who writes with this token; None = the API must be asked."""
        self.issues = f"{self._repository()}/issues"

    _API: ClassVar[str]
    _TOKEN: ClassVar[str]

    def _variable(self, name: str) -> str:
        value = self.environment.get(name, "")
        if not value:
            raise UsageError(
                "a variable of the pipeline is missing",
                where=name,
                fix="run this in a pipeline that `consortium gitops init` wrote (docs/gitops.md)",
            )
        return value

    @abstractmethod
    def _headers(self, token: str) -> dict[str, str]: ...
    @abstractmethod
    def _repository(self) -> str: ...
    @abstractmethod
    def comments(self) -> str:
        """The path of the comments of the pull request. Raises UsageError outside of one."""

    @abstractmethod
    def one_comment(self, id_: int) -> str: ...
    @abstractmethod
    def open_issues(self, label: str) -> dict[str, str]: ...
    @abstractmethod
    def labels(self, label: str) -> Any: ...
    @abstractmethod
    def entry(self, item: Mapping[str, Any]) -> Entry | None:
        """One comment or issue of a list; None for what is neither."""

    @abstractmethod
    def footer(self) -> str:
        """Which commit and run a report is of."""


class GitHub(Forge):
    """api.github.com or GitHub Enterprise Server, with the workflow's own token."""

    change, description = "PATCH", "body"
    closed: ClassVar[Mapping[str, Any]] = {"state": "closed", "state_reason": "completed"}
    permission = "the job needs permissions: pull-requests: write (comments) or issues: write (issues)"
    _API, _TOKEN = "GITHUB_API_URL", "GITHUB_TOKEN"

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment)
        self.author = environment.get("CONSORTIUM_FORGE_USER") or "github-actions[bot]"

    def _headers(self, token: str) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {token}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        }

    def _repository(self) -> str:
        return f"/repos/{self._variable('GITHUB_REPOSITORY')}"

    def comments(self) -> str:
        number = re.fullmatch(r"refs/pull/(\d+)/merge", self._variable("GITHUB_REF"))
        if not number:
            raise UsageError("this run is not of a pull request", where="GITHUB_REF", allowed="refs/pull/NUMBER/merge")
        return f"{self.issues}/{number[1]}/comments"

    def one_comment(self, id_: int) -> str:
        return f"{self.issues}/comments/{id_}"

    def open_issues(self, label: str) -> dict[str, str]:
        return {"state": "open", "labels": label}

    def labels(self, label: str) -> Any:
        return [label]

    def entry(self, item: Mapping[str, Any]) -> Entry | None:
        if "pull_request" in item:  # GitHub lists pull requests among the issues
            return None
        return Entry(int(item.get("number") or item["id"]), str(item["user"]["login"]), str(item["body"] or ""))

    def footer(self) -> str:
        found = self.environment.get
        run = f"{found('GITHUB_SERVER_URL')}/{found('GITHUB_REPOSITORY')}/actions/runs/{found('GITHUB_RUN_ID')}"
        return f"Commit {found('GITHUB_SHA')}, [run]({run})"


class GitLab(Forge):
    """gitlab.com or a GitLab of one's own, with a project access token of scope api."""

    change, description = "PUT", "description"
    closed: ClassVar[Mapping[str, Any]] = {"state_event": "close"}
    permission = "GITLAB_TOKEN must be a project access token with scope api and the role Reporter or higher"
    _API, _TOKEN = "CI_API_V4_URL", "GITLAB_TOKEN"

    def _headers(self, token: str) -> dict[str, str]:
        return {"PRIVATE-TOKEN": token}

    def _repository(self) -> str:
        return f"/projects/{self._variable('CI_PROJECT_ID')}"

    def comments(self) -> str:
        return f"{self._repository()}/merge_requests/{self._variable('CI_MERGE_REQUEST_IID')}/notes"

    def one_comment(self, id_: int) -> str:
        return f"{self.comments()}/{id_}"

    def open_issues(self, label: str) -> dict[str, str]:
        return {"state": "opened", "labels": label}

    def labels(self, label: str) -> Any:
        return label

    def entry(self, item: Mapping[str, Any]) -> Entry | None:
        if item.get("system"):
            return None
        is_issue = "description" in item
        return Entry(
            int(item["iid"] if is_issue else item["id"]),
            str(item["author"]["id"]),
            str(item["description" if is_issue else "body"] or ""),
        )

    def footer(self) -> str:
        return f"Commit {self.environment.get('CI_COMMIT_SHA')}, [job]({self.environment.get('CI_JOB_URL')})"


def from_environment(environment: Mapping[str, str]) -> Forge:
    """The forge whose pipeline this is. Raises UsageError outside of one."""
    if environment.get("GITHUB_ACTIONS") == "true":
        return GitHub(environment)
    if environment.get("GITLAB_CI") == "true":
        return GitLab(environment)
    raise UsageError(
        "this is no pipeline of GitHub or GitLab",
        where="GITHUB_ACTIONS, GITLAB_CI",
        fix="run it in a pipeline that `consortium gitops init` wrote (docs/gitops.md)",
    )


def _checked_url(url: str, name: str) -> str:
    """A token must not travel in clear; loopback does not travel."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname or "")):
        raise UsageError("the token would travel in clear", where=name, value=url, allowed="https://")
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
