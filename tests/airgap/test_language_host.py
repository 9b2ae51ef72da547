"""The language host: its protocol without a CLI, and programs with one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from airgap_harness import Stack, eventually

from airgap.protos import language_pb2, language_pb2_grpc
from airgap.pulumi_language_python.options import OptionError, choose
from airgap.pulumi_language_python.program import outcome

PACKAGE = Path(__file__).resolve().parents[2] / "airgap" / "pulumi_language_python"


@pytest.fixture
def host() -> Iterator[tuple[Any, subprocess.Popen[str]]]:
    """A running host and a stub that talks to it."""
    child = subprocess.Popen(
        [sys.executable, str(PACKAGE), "/no/runner", "127.0.0.1:1"], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout
    port = int(child.stdout.readline())
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield language_pb2_grpc.LanguageRuntimeStub(channel), child
    child.kill()
    child.wait()
    child.stdout.close()


def info(**options: str) -> Any:
    """A program's description."""
    made = language_pb2.ProgramInfo(root_directory="/nowhere", program_directory="/nowhere")
    made.options.update(options)
    return made


def test_it_tells_about_itself(host: tuple[Any, subprocess.Popen[str]]) -> None:
    """The calls that the CLI makes before and beside a run."""
    stub, _ = host
    stub.Handshake(language_pb2.LanguageHandshakeRequest(engine_address="127.0.0.1:2"))
    assert stub.About(language_pb2.AboutRequest(info=info())).executable == sys.executable
    packages = stub.GetRequiredPackages(language_pb2.GetRequiredPackagesRequest(info=info())).packages
    assert [(p.name, p.kind, p.version) for p in packages] == [("docker", "resource", "5.2.0")]
    found = stub.GetProgramDependencies(language_pb2.GetProgramDependenciesRequest(info=info()))
    assert "pulumi" in [d.name for d in found.dependencies]


def test_it_refuses_what_it_does_not_do(host: tuple[Any, subprocess.Popen[str]]) -> None:
    """A clear word instead of "Method not implemented!"."""
    stub, _ = host
    with pytest.raises(grpc.RpcError) as caught:
        stub.GenerateProgram(language_pb2.GenerateProgramRequest())
    assert "the resource is imported" in caught.value.details()
    with pytest.raises(grpc.RpcError) as caught:
        stub.About(language_pb2.AboutRequest(info=info(typechecker="mypy")))
    assert "typechecker = 'mypy' is not served" in caught.value.details()
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.InstallDependencies(language_pb2.InstallDependenciesRequest(info=info())))
    assert "uv sync" in caught.value.details()


def test_it_leaves_on_sigint(host: tuple[Any, subprocess.Popen[str]]) -> None:
    """An engine closes a plugin with SIGINT and waits for it."""
    _, child = host
    child.send_signal(2)
    assert child.wait(timeout=5) == 0


def test_virtualenv_option(tmp_path: Path) -> None:
    """It names a folder beside Pulumi.yaml and must hold; uv's default only when it is there."""
    with pytest.raises(OptionError, match="does not exist"):
        choose({"virtualenv": "venv"}, str(tmp_path))
    assert choose({"toolchain": "uv"}, str(tmp_path)).executable == sys.executable
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    (tmp_path / ".venv" / "pyvenv.cfg").touch()
    chosen = choose({"toolchain": "uv"}, str(tmp_path))
    assert chosen.executable == str(python)
    env = chosen.environment({"PATH": "/bin", "PYTHONHOME": "/x"})
    assert env == {"PATH": f"{tmp_path}/.venv/bin{os.pathsep}/bin", "VIRTUAL_ENV": f"{tmp_path}/.venv"}
    with pytest.raises(OptionError, match="toolchain = 'conda'"):
        choose({"toolchain": "conda"}, str(tmp_path))


def test_outcomes() -> None:
    """Exit codes as the engine wants them: 32 means that the error has been shown."""
    assert outcome(0) == ("", False)
    assert outcome(32) == ("", True)
    assert outcome(1) == ("Program exited with non-zero exit code: 1", False)
    assert outcome(-9) == ("Program was ended by SIGKILL", False)


@pytest.mark.docker
def test_programs(stack: Stack) -> None:
    """A program's error is shown once, its configuration arrives, dynamic resources work."""
    stack.program("""raise ValueError("a plain mistake")""")
    said = stack.up(ok=False).said
    assert said.count("ValueError: a plain mistake") == 1
    assert "exit code" not in said

    project = stack.folder / "project"
    (project / "greeting.py").write_text(
        "from pulumi.dynamic import CreateResult, Resource, ResourceProvider\n"
        "class Provider(ResourceProvider):\n"
        "    def create(self, props):\n"
        "        return CreateResult('id', {'text': props['text'].upper()})\n"
        "class Greeting(Resource):\n"
        "    text: object\n"
        "    def __init__(self, name, text):\n"
        "        super().__init__(Provider(), name, {'text': text})\n"
    )
    stack.program("""
    from greeting import Greeting
    config = pulumi.Config()
    assert pulumi.get_project() == "airgaptest" and pulumi.get_stack() == "dev"
    pulumi.export("plain", config.require("plain"))
    pulumi.export("secret", config.require_secret("secret"))
    pulumi.export("greeting", Greeting("greeting", "hello").text)
    """)
    stack.run("config", "set", "plain", "one")
    stack.run("config", "set", "--secret", "secret", "two")
    stack.up()
    said = stack.run("stack", "output").text
    assert "HELLO" in said and "one" in said and "[secret]" in said and "two" not in said
    eventually(lambda: stack.processes() == [])
