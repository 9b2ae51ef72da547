"""The SDK's own gRPC stubs, without the rest of the SDK.

``import pulumi`` costs about 0.3 s that a plugin has no use for, and every ``pulumi`` command
starts the plugins again. The stubs sit in a package below it, so empty parents stand in while
they are imported and are taken away afterwards.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types

PROTO = "pulumi.runtime.proto"


def _import_without_parents(*names: str) -> list[types.ModuleType]:
    """Imports modules of `PROTO` with its parents replaced by empty packages of the same place."""
    if "pulumi" in sys.modules:
        return [importlib.import_module(f"{PROTO}.{name}") for name in names]
    spec = importlib.util.find_spec("pulumi")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'pulumi'", name="pulumi")
    root = spec.submodule_search_locations[0]
    parents = {"pulumi": root, "pulumi.runtime": f"{root}/runtime"}
    for parent, path in parents.items():
        module = types.ModuleType(parent)
        module.__path__ = [path]
        sys.modules[parent] = module
    try:
        return [importlib.import_module(f"{PROTO}.{name}") for name in names]
    finally:
        for parent in parents:
            del sys.modules[parent]


(
    engine_pb2,
    engine_pb2_grpc,
    language_pb2,
    language_pb2_grpc,
    plugin_pb2,
    provider_pb2,
    provider_pb2_grpc,
    status_pb2,
) = _import_without_parents(
    "engine_pb2",
    "engine_pb2_grpc",
    "language_pb2",
    "language_pb2_grpc",
    "plugin_pb2",
    "provider_pb2",
    "provider_pb2_grpc",
    "status_pb2",
)
