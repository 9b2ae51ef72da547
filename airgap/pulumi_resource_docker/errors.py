"""Failures as the engine takes them."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import struct_pb2

from airgap.protos import provider_pb2 as pb
from airgap.protos import status_pb2
from airgap.pulumi_resource_docker.resource import InitFailed, ProviderError


def not_found() -> type[Exception]:
    """Docker's "no such container"; imported late, as docker-py is heavy."""
    from docker.errors import NotFound

    return NotFound


def message(error: Exception) -> str:
    """What went wrong, in the daemon's words where it was the daemon that said no."""
    if isinstance(error, ProviderError):
        return str(error)
    explanation = getattr(error, "explanation", None)
    if explanation:
        return explanation.decode() if isinstance(explanation, bytes) else str(explanation)
    return f"{type(error).__name__}: {error}"


def init_failed(error: InitFailed, inputs: struct_pb2.Struct) -> tuple[tuple[str, bytes], ...]:
    """The trailing metadata that makes the engine keep a half-made resource in its state."""
    status: Any = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=str(error))
    detail = pb.ErrorResourceInitFailed(id=error.id, properties=inputs, inputs=inputs, reasons=[str(error)])
    status.details.add().Pack(detail)
    return (("grpc-status-details-bin", status.SerializeToString()),)
