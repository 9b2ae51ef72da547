"""How a Pulumi plugin process lives: it prints its port, serves, and leaves with its engine."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent import futures
from typing import NoReturn

import grpc

POLL_SECONDS = 0.3
# As the SDK's: state of a whole stack may travel in one message.
CHANNEL_OPTIONS = (("grpc.max_receive_message_length", 400 * 1024 * 1024),)


def abort(context: grpc.ServicerContext, code: grpc.StatusCode, message: str) -> NoReturn:
    """Ends a request with an error; gRPC raises to do so."""
    context.abort(code, message)
    raise AssertionError("unreachable: gRPC has raised")


def exit_when_signalled(leave: Callable[[], None]) -> None:
    """SIGINT is how an engine closes a plugin; waiting any longer only delays the command."""

    def handle(*_: object) -> None:
        leave()
        os._exit(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)


def leave_with(parent: int, leave: Callable[[], None]) -> None:
    """Returns never: ends this process once ``parent`` is gone, as an engine killed outright
    closes nothing. (A death signal will not do: Linux ties it to the parent's thread.)"""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    leave()
    os._exit(1)


def watch_parent(leave: Callable[[], None]) -> None:
    """Runs `leave_with` beside whatever the main thread does."""
    threading.Thread(target=leave_with, args=(os.getppid(), leave), daemon=True).start()


def serve(register: Callable[[grpc.Server], None], leave: Callable[[], None], workers: int) -> None:
    """Serves on a free loopback port until the engine ends this process or dies."""
    parent = os.getppid()
    exit_when_signalled(leave)
    server = grpc.server(futures.ThreadPoolExecutor(workers), options=CHANNEL_OPTIONS)
    register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    leave_with(parent, leave)
