"""Runs pipelines from their own YAML, as the forge's runner would: expressions, conditions, environments, shells.

What is not known here (an expression, an action, a key of a job) raises: a pipeline that uses more than this runner has
must not look as if it had run. Checkouts are real clones of a bare repository.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = re.compile(r"actions/checkout@[0-9a-f]{40}")
JOB_KEYS = {
    "if", "needs", "runs-on", "environment", "timeout-minutes", "permissions", "concurrency", "env", "steps",
}  # fmt: skip
STEP_KEYS = {"uses", "with", "name", "id", "if", "env", "run"}


@dataclass
class Result:
    """How a job ended: `outcome` is success, failure or skipped; `said` what its steps printed."""

    outcome: str
    said: str = ""
    secrets: tuple[str, ...] = ()
    """Steps (GitHub) in whose environment a secret stood."""


@dataclass
class Runner:
    """A runner on the institution's machine: `secrets` and `variables` are by environment."""

    remote: Path
    work: Path
    base: Mapping[str, str]
    """The machine's own environment."""
    secrets: Mapping[str, Mapping[str, str]]
    variables: Mapping[str, Mapping[str, str]]
    forge: Mapping[str, str] = field(default_factory=dict)
    token: str = ""

    def checkout(self, folder: Path, commit: str) -> None:
        subprocess.run(["git", "clone", "-q", str(self.remote), str(folder)], check=True)
        subprocess.run(["git", "-c", "advice.detachedHead=false", "checkout", "-q", commit], cwd=folder, check=True)

    def shell(self, script: str, folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=folder,
            env=dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
        )

    def github(self, path: str, event: Mapping[str, Any], commit: str) -> dict[str, Result]:
        """Every job of the workflow at `path` of `commit`. `event` is the context `github` that it makes."""
        self.work.mkdir(parents=True)
        source = subprocess.run(
            ["git", "show", f"{commit}:{path}"], cwd=self.remote, capture_output=True, text=True, check=True
        ).stdout
        workflow = yaml.safe_load(source)
        assert workflow["permissions"] == {}, "a job has the rights that it names, and no other"
        assert workflow["defaults"] == {"run": {"shell": "bash"}}
        if not _triggered(workflow[True], event):  # YAML 1.1 reads the key `on` as true
            return {}
        results: dict[str, Result] = {}
        for name, job in workflow["jobs"].items():
            assert set(job) <= JOB_KEYS, f"{name}: {set(job) - JOB_KEYS}"
            needs = job.get("needs")
            context = {"github": {**event, "sha": commit, "token": self.token}}
            if (needs and results[needs].outcome != "success") or not evaluate(job.get("if", "true"), context):
                results[name] = Result("skipped")
                continue
            results[name] = self._github_job(name, job, context, commit)
        return results

    def _github_job(self, name: str, job: Mapping[str, Any], context: dict[str, Any], commit: str) -> Result:
        environment = str(job.get("environment", ""))
        context |= {
            "secrets": self.secrets.get(environment, {}),
            "vars": self.variables.get(environment, {}),
            "steps": {},
        }
        folder, temporary = self.work / name, self.work / f"{name}.temp"
        temporary.mkdir()
        base = {
            **self.base, **self.forge, "RUNNER_TEMP": str(temporary), "GITHUB_SHA": commit,
            "GITHUB_REF": context["github"]["ref"],
        }  # fmt: skip
        result = Result("success")
        for step in job["steps"]:
            assert set(step) <= STEP_KEYS, f"{name}: {set(step) - STEP_KEYS}"
            wanted = evaluate(step["if"], {**context, "cancelled": False}) if "if" in step else True
            # A condition without a function that asks for the outcome counts only as long as all went well.
            if not wanted or (result.outcome == "failure" and "cancelled()" not in step.get("if", "")):
                context["steps"][step.get("id", "")] = {"outcome": "skipped", "outputs": {}}
                continue
            if "uses" in step:
                assert CHECKOUT.fullmatch(step["uses"]), step["uses"]
                assert step["with"] == {"persist-credentials": False}
                self.checkout(folder, commit)
                continue
            output = temporary / "output"
            output.write_text("")
            given = {k: filled(str(v), context) for k, v in {**job.get("env", {}), **step.get("env", {})}.items()}
            if any("secrets." in str(value) for value in step.get("env", {}).values()):
                result.secrets += (step["name"],)
            assert not any("secrets." in str(value) for value in job.get("env", {}).values()), "a secret for all steps"
            assert "${{" not in step["run"], "an expression in a script is where text of a stranger becomes a command"
            done = self.shell(step["run"], folder, {**base, **given, "GITHUB_OUTPUT": str(output)})
            result.said += done.stdout
            outputs = dict(line.split("=", 1) for line in output.read_text().splitlines())
            outcome = "failure" if done.returncode else "success"
            context["steps"][step.get("id", "")] = {"outcome": outcome, "outputs": outputs}
            result.outcome = "failure" if done.returncode else result.outcome
        return result

    def gitlab(self, path: str, variables: Mapping[str, str], commit: str) -> dict[str, Result]:
        """Every job of the included file at `path`, stage by stage. `variables` are those GitLab predefines."""
        self.work.mkdir(parents=True)
        text = {
            name: subprocess.run(
                ["git", "show", f"{commit}:{name}"], cwd=self.remote, capture_output=True, text=True, check=True
            ).stdout
            for name in (".gitlab-ci.yml", path)
        }
        assert yaml.safe_load(text[".gitlab-ci.yml"]) == {"include": [{"local": path}]}
        document = yaml.safe_load(text[path])
        stages = document.pop("stages")
        jobs = {name: job for name, job in document.items() if not name.startswith(".")}
        assert {job["stage"] for job in jobs.values()} <= set(stages)
        results: dict[str, Result] = {}
        for stage in stages:
            failed = any(result.outcome == "failure" for result in results.values())
            for name, job in jobs.items():
                if job["stage"] != stage:
                    continue
                whole = {**document.get(job.get("extends", ""), {}), **job}
                rule = next((r for r in whole["rules"] if _rule(r["if"], variables)), None)
                if rule is None or failed:
                    results[name] = Result("skipped")
                    continue
                results[name] = self._gitlab_job(name, whole, {**variables, **rule.get("variables", {})}, commit)
        return results

    def _gitlab_job(self, name: str, job: Mapping[str, Any], variables: Mapping[str, str], commit: str) -> Result:
        folder, environment = self.work / name, job.get("environment", {}).get("name", "")
        scoped = {**self.variables.get(environment, {}), **self.secrets.get(environment, {})}
        self.checkout(folder, commit)
        script = "\n".join([*job.get("before_script", []), *job["script"]])
        done = self.shell(script, folder, {**self.base, **self.forge, **variables, "CI_COMMIT_SHA": commit, **scoped})
        secrets = (name,) if self.secrets.get(environment) else ()
        return Result("failure" if done.returncode else "success", done.stdout, secrets)


def filled(text: str, context: Mapping[str, Any]) -> str:
    """A value with its `${{ … }}` put in."""
    return re.sub(r"\$\{\{(.*?)\}\}", lambda found: str(evaluate(found[1], context)), text)


def evaluate(text: str, context: Mapping[str, Any]) -> Any:
    """An expression of GitHub Actions: == != && || ! strings, contexts, cancelled(). Raises for anything else."""
    text = re.sub(r"^\$\{\{(.*)\}\}$", r"\1", text.strip())
    tokens = re.findall(r"'[^']*'|[a-z_]+\(\)|[A-Za-z_][\w.-]*|==|!=|&&|\|\||!|[()]|\S", text)
    words = {"&&": "and", "||": "or", "!": "not", "==": "==", "!=": "!=", "(": "(", ")": ")", "true": "True"}
    python = []
    for token in tokens:
        if token == "cancelled()":
            python.append(repr(context["cancelled"]))
        elif token in words:
            python.append(words[token])
        elif token.startswith("'"):
            python.append(repr(token[1:-1]))
        elif re.fullmatch(r"[A-Za-z_][\w-]*(\.[\w-]+)+", token):
            python.append(repr(_looked_up(token, context)))
        else:
            raise ValueError(f"{token!r} in {text!r} is not known to this runner")
    return eval(" ".join(python), {"__builtins__": {}})


def _looked_up(name: str, context: Mapping[str, Any]) -> Any:
    """GitHub: what is not there is an empty text. But a context nobody made is a mistake of this test."""
    first, *rest = name.split(".")
    found: Any = context[first]
    for part in rest:
        found = found.get(part, "") if isinstance(found, Mapping) else ""
    return found


def _rule(text: str, variables: Mapping[str, str]) -> bool:
    """A GitLab condition: `$A == "x" && $B == $C`."""
    return all(_equal(part.strip(), variables) for part in text.split("&&"))


def _equal(text: str, variables: Mapping[str, str]) -> bool:
    sides = re.fullmatch(r'(\$\w+) == (\$\w+|"[^"]*")', text)
    if sides is None:
        raise ValueError(f"{text!r} is not known to this runner")

    def value(side: str) -> str | None:
        return variables.get(side[1:]) if side.startswith("$") else side[1:-1]

    return value(sides[1]) == value(sides[2])


def _triggered(on: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
    name = event["event_name"]
    if name not in on:
        return False
    if name in ("pull_request", "push"):
        branch = event["base_ref"] if name == "pull_request" else event["ref"].removeprefix("refs/heads/")
        return branch in on[name]["branches"]
    return True


def machine(bin_folder: Path) -> dict[str, str]:
    """The environment of a runner as a service: `consortium` on PATH, and nothing of the person who tests."""
    keep = {k: v for k, v in os.environ.items() if k in ("HOME", "LANG", "XDG_CACHE_HOME", "GOPROXY", "DOCKER_HOST")}
    proxies = {k: v for k, v in os.environ.items() if k.lower().endswith("_proxy") or k.endswith("CA_BUNDLE")}
    return {**keep, **proxies, "PATH": f"{bin_folder}:{os.environ['PATH']}"}
