"""An institution's repository: a workspace with pipelines, pushed to a bare repository that stands for the forge's."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=operator", "-c", "user.email=operator@bank.example", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@dataclass(frozen=True)
class Repository:
    """`folder` is the operator's clone, `bare` the remote."""

    folder: Path
    bare: Path

    @classmethod
    def make(cls, folder: Path, bare: Path) -> Repository:
        """Commit what is in the workspace `folder` and push it as main."""
        bare.mkdir(parents=True)
        git(bare, "init", "-q", "--bare")
        git(folder, "init", "-q")
        git(folder, "remote", "add", "origin", str(bare))
        made = cls(folder, bare)
        made.push("main", "the workspace")
        return made

    def push(self, branch: str, message: str) -> str:
        """Commit everything to `branch`, push it, and return the commit."""
        if git(self.folder, "branch", "--show-current") != branch:
            git(self.folder, "checkout", "-q", "-B", branch)
        git(self.folder, "add", ".")
        git(self.folder, "commit", "-q", "-m", message)
        git(self.folder, "push", "-q", "origin", branch)
        return git(self.folder, "rev-parse", "HEAD")

    def merge(self, branch: str) -> str:
        """Merge `branch` into main, push, and return the commit."""
        git(self.folder, "checkout", "-q", "main")
        git(self.folder, "merge", "-q", "--no-ff", "-m", f"merge {branch}", branch)
        git(self.folder, "push", "-q", "origin", "main")
        return git(self.folder, "rev-parse", "HEAD")
