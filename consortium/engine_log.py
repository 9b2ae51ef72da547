"""What a dynamic resource shows on its own row while it works."""

from __future__ import annotations

import sys


def tell(urn: str, message: str, *, severity: str = "INFO", ephemeral: bool = False) -> None:
    """Show a line on the resource's own row. The engine's address is this provider process's last argument."""
    import grpc
    from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

    with grpc.insecure_channel(sys.argv[-1]) as channel:
        engine_pb2_grpc.EngineStub(channel).Log(
            engine_pb2.LogRequest(
                severity=engine_pb2.LogSeverity.Value(severity),
                message=message,
                urn=urn,
                ephemeral=ephemeral,
            )
        )


def child_urn(parent_urn: str, type_name: str, name: str) -> str:
    """A provider is not told its resource's URN, which it needs to show progress on the right row."""
    head, chain, _ = parent_urn.rsplit("::", 2)
    return f"{head}::{chain}$pulumi-python:dynamic/{type_name.split('/', 1)[1]}::{name}"
