"""The ResourceProvider service: turns the engine's requests into calls of the kinds."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf import empty_pb2

from airgap import plugin
from airgap.protos import engine_pb2, engine_pb2_grpc, plugin_pb2, provider_pb2_grpc
from airgap.protos import provider_pb2 as pb
from airgap.pulumi_resource_docker import VERSION, answers, errors, provider
from airgap.pulumi_resource_docker.container import Container
from airgap.pulumi_resource_docker.daemon import Daemon
from airgap.pulumi_resource_docker.diff import difference
from airgap.pulumi_resource_docker.image import Image
from airgap.pulumi_resource_docker.invoke import FUNCTIONS
from airgap.pulumi_resource_docker.network import Network
from airgap.pulumi_resource_docker.remote_image import RemoteImage
from airgap.pulumi_resource_docker.resource import Call, InitFailed, Kind
from airgap.pulumi_resource_docker.volume import Volume
from airgap.pulumi_resource_docker.wire import Props, props, struct

KINDS: dict[str, Kind] = {
    f"docker:index/{kind.name[0].lower()}{kind.name[1:]}:{kind.name}": kind
    for kind in (Network(), Volume(), RemoteImage(), Image(), Container())
}
WORKERS = 32  # the engine's own limit of parallel operations is lower on small machines
T = TypeVar("T")


class Host(provider_pb2_grpc.ResourceProviderServicer):  # type: ignore[name-defined,misc]
    """Serves one configured provider of one engine."""

    def __init__(self, engine: str) -> None:
        self.daemon = Daemon()
        self.provider_id = ""
        self.engine: Any = None
        self._attach(engine)

    # the plugin itself

    def Handshake(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Tells what of the protocol is served."""
        self._attach(request.engine_address)
        return pb.ProviderHandshakeResponse(supports_autonaming_configuration=True)

    def Attach(self, request: Any, context: grpc.ServicerContext) -> Any:
        """A debugger's way to join an engine."""
        self._attach(request.address)
        return empty_pb2.Empty()

    def GetPluginInfo(self, request: Any, context: grpc.ServicerContext) -> Any:
        """The version whose resources are served."""
        return plugin_pb2.PluginInfo(version=VERSION)

    def GetSchema(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Names only: code is not generated from this provider."""
        schema = {"name": "docker", "version": VERSION, "resources": {kind: {} for kind in KINDS}}
        return pb.GetSchemaResponse(schema=json.dumps(schema))

    def Cancel(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Waits end now, with what there is."""
        self.daemon.cancelled.set()
        return empty_pb2.Empty()

    # its configuration

    def CheckConfig(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Refuses what cannot be honoured."""
        failures = provider.check_config(props(request.news))
        return pb.CheckResponse(inputs=request.news, failures=answers.failures(failures))

    def DiffConfig(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Never a replacement: that would replace all it has made, volumes with their data."""
        old, new = (provider.decoded(props(p)) for p in (request.old_inputs, request.news))
        return answers.diff(difference(provider.PROVIDER, old, new))

    def Configure(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Remembers the daemon; it is first asked when a resource needs it."""
        self.daemon = Daemon(provider.decoded(props(request.args)))
        self.provider_id = request.id
        return pb.ConfigureResponse(supportsPreview=True, supports_autonaming_configuration=True)

    # resources

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Refuses what cannot be honoured and gives a name to what has none."""
        kind, old, new = self._kind(request, context), props(request.olds), props(request.news)
        if kind.autonamed and "name" not in new:
            new["name"] = answers.autoname(request, old)
            new["__defaults"] = ["name"]
        failures = kind.check(new)
        inputs = new if failures else kind.prepare(new)
        return pb.CheckResponse(inputs=struct(inputs), failures=answers.failures(failures))

    def Diff(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Compares with the inputs of the last update, which a refresh corrects for drift."""
        kind, old, new = self._kind(request, context), props(request.old_inputs), props(request.news)
        found = difference(kind.table, old, new, request.ignoreChanges)
        answer = answers.diff(found)
        answer.deleteBeforeReplace = bool(found.replaces) and kind.exclusive(old, new)
        return answer

    def Create(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Makes a resource, or says what would be made."""
        kind, inputs = self._kind(request, context), props(request.properties)
        if request.preview:
            return pb.CreateResponse(properties=struct(answers.public(kind.preview(inputs))))

        def act() -> Any:
            call = self._call(request)
            made = kind.create(call, inputs)
            seen = kind.read(call, made, inputs)
            return pb.CreateResponse(id=seen.id, properties=struct(answers.outputs(inputs, seen)))

        return self._guard(context, act, inputs)

    def Read(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Looks at a resource; without inputs it is an import or a ``get``."""
        kind, inputs = self._kind(request, context), props(request.inputs)

        def act() -> Any:
            try:
                seen = kind.read(self._call(request), request.id, inputs)
            except errors.not_found():
                return pb.ReadResponse()  # the engine drops it from state
            known = {**inputs, **seen.drifted} if inputs else seen.inputs
            outputs = struct(answers.outputs(known, seen))
            return pb.ReadResponse(id=seen.id, properties=outputs, inputs=struct(known))

        return self._guard(context, act, inputs)

    def Update(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Changes a resource in place."""
        kind, old, new = self._kind(request, context), props(request.old_inputs), props(request.news)
        if request.preview:
            return pb.UpdateResponse(properties=struct(answers.public({**props(request.olds), **new})))

        def act() -> Any:
            call = self._call(request)
            kind.update(call, request.id, old, new)
            seen = kind.read(call, request.id, new)
            return pb.UpdateResponse(properties=struct(answers.outputs(new, seen)))

        return self._guard(context, act, new)

    def Delete(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Removes a resource; one that is gone already is removed."""
        kind = self._kind(request, context)
        inputs = props(request.old_inputs) or props(request.properties)

        def act() -> Any:
            try:
                kind.delete(self._call(request), request.id, inputs)
            except errors.not_found():
                pass
            return empty_pb2.Empty()

        return self._guard(context, act, inputs)

    def Invoke(self, request: Any, context: grpc.ServicerContext) -> Any:
        """The SDK's get functions."""
        function = FUNCTIONS.get(request.tok)
        if not function:
            self._refuse(context, request.tok)
        found = self._guard(context, lambda: function(self.daemon, props(request.args)), {})
        answer = pb.InvokeResponse()
        getattr(answer, "return").CopyFrom(struct(found))
        return answer

    # what they share

    def _attach(self, address: str) -> None:
        if address:
            channel = grpc.insecure_channel(address, options=plugin.CHANNEL_OPTIONS)
            self.engine = engine_pb2_grpc.EngineStub(channel)

    def _call(self, request: Any) -> Call:
        def log(message: str, ephemeral: bool = False) -> None:
            severity = engine_pb2.INFO if ephemeral else engine_pb2.WARNING
            if self.engine:
                self.engine.Log(
                    engine_pb2.LogRequest(severity=severity, message=message, urn=request.urn, ephemeral=ephemeral)
                )

        timeout = float(getattr(request, "timeout", 0) or 0)
        return Call(self.daemon, request.urn, self.provider_id, timeout, log)

    def _kind(self, request: Any, context: grpc.ServicerContext) -> Kind:
        token = request.urn.split("::")[2].rsplit("$", 1)[-1]
        if token not in KINDS:
            self._refuse(context, token)
        return KINDS[token]

    @staticmethod
    def _refuse(context: grpc.ServicerContext, token: str) -> NoReturn:
        plugin.abort(
            context,
            grpc.StatusCode.UNIMPLEMENTED,
            f"{token} is not served by the stand-in docker provider (see docs/airgap.md): "
            "use the official plugin or another resource",
        )

    @staticmethod
    def _guard(context: grpc.ServicerContext, act: Callable[[], T], inputs: Props) -> T:
        """Runs ``act``; a failure becomes the engine's, a half-made resource stays known."""
        try:
            return act()
        except InitFailed as error:
            context.set_trailing_metadata(errors.init_failed(error, struct(inputs)))
            plugin.abort(context, grpc.StatusCode.UNKNOWN, str(error))
        except Exception as error:
            plugin.abort(context, grpc.StatusCode.UNKNOWN, errors.message(error))


def main(argv: list[str]) -> None:
    """Serves until the engine closes this process."""
    host = Host(argv[-1] if argv else "")
    plugin.serve(
        lambda server: provider_pb2_grpc.add_ResourceProviderServicer_to_server(host, server),
        leave=lambda: None,
        workers=WORKERS,
    )
