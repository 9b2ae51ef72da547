"""The LanguageRuntime service."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import grpc

from airgap import plugin
from airgap.protos import language_pb2, language_pb2_grpc, plugin_pb2
from airgap.pulumi_language_python.options import Interpreter, OptionError, choose
from airgap.pulumi_language_python.program import Children, command, environment, outcome

VERSION = "3.256.0"


class Host(language_pb2_grpc.LanguageRuntimeServicer):  # type: ignore[name-defined,misc]
    """Serves one engine."""

    def __init__(self, engine: str, runner: str) -> None:
        self.engine = engine
        self.runner = runner
        self.children = Children()

    def Handshake(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Learns where the engine listens."""
        self.engine = request.engine_address or self.engine
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request: Any, context: grpc.ServicerContext) -> Any:
        """The CLI's version: the two are made for one another."""
        return plugin_pb2.PluginInfo(version=VERSION)

    def GetRequiredPackages(self, request: Any, context: grpc.ServicerContext) -> Any:
        """The plugins that installed SDKs name, so that a missing one is noticed before the run."""
        packages = [
            plugin_pb2.PackageDependency(name=name, kind="resource", version=version, server=server)
            for name, version, server in self._python(request, context).resource_plugins()
        ]
        return language_pb2.GetRequiredPackagesResponse(packages=packages)

    def GetRequiredPlugins(self, request: Any, context: grpc.ServicerContext) -> Any:
        """The same in the older form."""
        plugins = [
            plugin_pb2.PluginDependency(name=name, kind="resource", version=version, server=server)
            for name, version, server in self._python(request, context).resource_plugins()
        ]
        return language_pb2.GetRequiredPluginsResponse(plugins=plugins)

    def About(self, request: Any, context: grpc.ServicerContext) -> Any:
        """For ``pulumi about``."""
        return language_pb2.AboutResponse(
            executable=self._python(request, context).executable, version=sys.version.split()[0]
        )

    def RuntimeOptionsPrompts(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Nothing to ask: the options of a project are in its Pulumi.yaml."""
        return language_pb2.RuntimeOptionsResponse()

    def GetProgramDependencies(self, request: Any, context: grpc.ServicerContext) -> Any:
        """The installed distributions; needed for ``pulumi about`` only, so imported here."""
        from importlib import metadata

        sites = [str(site) for site in self._python(request, context).site_packages()]
        found = {d.metadata["Name"]: d.version for d in metadata.distributions(path=sites)}
        return language_pb2.GetProgramDependenciesResponse(
            dependencies=[
                language_pb2.DependencyInfo(name=name, version=version) for name, version in sorted(found.items())
            ]
        )

    def InstallDependencies(self, request: Any, context: grpc.ServicerContext) -> NoReturn:
        """Refused: this host does not know how the project is installed, its README does."""
        self._refuse(context, "`pulumi install` is not served: run `uv sync` (or pip) yourself")

    def GenerateProgram(self, request: Any, context: grpc.ServicerContext) -> NoReturn:
        """Refused: asked for at the end of ``pulumi import``, when the import is already done."""
        self._refuse(
            context,
            "code is not generated: the resource is imported, write it into the program yourself "
            "(`pulumi import --generate-code=false` says nothing of it)",
        )

    def Run(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Runs the program to its end."""
        if request.attach_debugger:
            self._refuse(context, "--attach-debugger is not served")
        python = self._python(request, context)
        code = self.children.run(
            command(request, self.engine, python, self.runner),
            cwd=request.info.program_directory,
            env=environment(request, python),
        )
        error, bail = outcome(code)
        return language_pb2.RunResponse(error=error, bail=bail)

    def Cancel(self, request: Any, context: grpc.ServicerContext) -> Any:
        """The engine gives up on the program."""
        from google.protobuf import empty_pb2

        self.children.kill()
        return empty_pb2.Empty()

    def _python(self, request: Any, context: grpc.ServicerContext) -> Interpreter:
        options = {name: _scalar(value) for name, value in request.info.options.fields.items()}
        try:
            return choose(options, request.info.root_directory)
        except OptionError as error:
            plugin.abort(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))

    @staticmethod
    def _refuse(context: grpc.ServicerContext, reason: str) -> NoReturn:
        plugin.abort(context, grpc.StatusCode.UNIMPLEMENTED, f"the stand-in Python language host: {reason}")


def _scalar(value: Any) -> object:
    """An option's value; options are words and switches."""
    kind = value.WhichOneof("kind")
    return getattr(value, kind) if kind and kind != "null_value" else None


def main(argv: list[str]) -> None:
    """Serves until the engine closes this process: ``RUNNER [engine's options...] ENGINE``."""
    host = Host(engine=argv[-1], runner=argv[0])
    plugin.serve(
        lambda server: language_pb2_grpc.add_LanguageRuntimeServicer_to_server(host, server),
        leave=host.children.kill,
        workers=8,
    )
