"""Too long, too slow, too many: one peer or stranger costs its own share, and the others are served meanwhile."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable

import pytest

from consortium import ports
from consortium.gateway_view import COORDINATOR_CONNECTIONS
from coordinator.config import Limits
from tests.outside.rig import Attacked, read_some
from tests.outside.test_identity import GET, code

POST = "POST /peer/v1/{} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


def head(path: str = "heartbeat", **headers: object) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"{POST.format(path)}{lines}\r\n".encode()


def chunks(size: int, piece: int = 65536) -> bytes:
    """A body of `size` bytes without a length."""
    one = b"%x\r\n" % piece + b" " * piece + b"\r\n"
    return one * (size // piece + 1) + b"0\r\n\r\n"


def poured(bob: Attacked, content: bytes) -> int:
    """The status of the answer to much content; bob may answer and close before he has it all."""
    with bob.connection() as secure:
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            for at in range(0, len(content), 1 << 20):
                secure.sendall(content[at : at + (1 << 20)])
        return code(read_some(secure))


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (head(content_length=10**12), 413),
        (head(content_length=Limits().message_bytes + 1), 413),
        (head(transfer_encoding="chunked") + chunks(Limits().message_bytes), 413),
        (head("bundle/20261124-probe-abcdef", content_length=10**12), 413),
        (head("bundle/20261124-probe-abcdef", transfer_encoding="chunked") + chunks(2 * Limits().bundle_bytes), 413),
        (head(content_length="9" * 5000), 400),
        (head(x_a="a" * 100_000), 431),
        (f"{GET}{''.join(f'x-{n}: 1{chr(13)}{chr(10)}' for n in range(200))}\r\n".encode(), 431),
        (f"GET /peer/v1/{'a' * 100_000} HTTP/1.1\r\nhost: x\r\n\r\n".encode(), 431),
    ],
    ids=["length", "a byte", "no length", "folder", "folder, no length", "digits", "header", "headers", "path"],
)
def test_what_is_too_long_is_refused(bob: Attacked, content: bytes, status: int) -> None:
    assert poured(bob, content) in (status, 0)  # 0: closed with bytes unread, which may lose the answer


def lasted(sockets: list[socket.socket], limit_s: float) -> list[float]:
    """Seconds until the other side closed each of these connections."""
    begun = time.monotonic()
    found = []
    for each in sockets:
        each.settimeout(limit_s)
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            while each.recv(65536):
                pass
        found.append(time.monotonic() - begun)
    return found


def test_who_is_slow_is_closed_out_while_others_are_served(bob: Attacked) -> None:
    """Slow in the handshake, in the headers and in the body, and a byte now and then all the while."""
    address = (bob.gateway.address, ports.GATEWAY_PUBLIC_PORT)
    limit_s = 60.0  # far more than any bound on the way, far less than none
    with contextlib.ExitStack() as stack:
        begun = time.monotonic()
        hello = [stack.enter_context(socket.create_connection(address, timeout=limit_s)) for _ in range(60)]
        for each in hello[:30]:
            each.sendall(b"\x16\x03\x01\x02\x00\x01")  # the begin of a ClientHello
        secure = [stack.enter_context(bob.connection("alice", timeout_s=limit_s)) for _ in range(40)]
        for n, each in enumerate(secure):
            each.sendall(GET.encode() if n % 2 else head(content_length=500) + b'{"alive"')
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.5):
                for each in secure:
                    with contextlib.suppress(OSError):
                        each.sendall(b" ")

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            served = 0
            while time.monotonic() - begun < 3:
                assert bob.ask("GET", "/peer/v1/time", party="carol").status == 200
                served += 1
            assert served
            assert max(lasted(hello, limit_s)) < limit_s
            assert max(lasted(list(secure), limit_s)) < limit_s
        finally:
            stop.set()
            dripping.join()


def test_a_peers_idle_connections_end_at_its_bound_and_leave_the_others_theirs(bob: Attacked) -> None:
    with contextlib.ExitStack() as stack:
        served = 0
        for _ in range(COORDINATOR_CONNECTIONS + 5):
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                each = stack.enter_context(bob.connection("alice", timeout_s=30))
                each.sendall(f"{GET}\r\n".encode())
                served += code(read_some(each)) == 200
        assert 0 < served <= COORDINATOR_CONNECTIONS
        assert bob.ask("GET", "/peer/v1/time", party="carol").status == 200
    assert closes(lambda: bob.ask("GET", "/peer/v1/time", party="alice").status == 200)


def closes(condition: Callable[[], bool], limit_s: float = 30) -> bool:
    """True once the condition holds."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if condition():
                return True
        time.sleep(0.2)
    return False


def test_many_strangers_who_wait_keep_nobody_out(bob: Attacked) -> None:
    """Fewer than the public port's bound; above it, it is closed for all until they have had their time."""
    address = (bob.gateway.address, ports.GATEWAY_PUBLIC_PORT)
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(socket.create_connection(address, timeout=20))
        assert bob.ask("GET", "/peer/v1/time", party="carol").status == 200


def test_bodies_on_their_way_take_a_bounded_share_of_memory(bob: Attacked) -> None:
    """Six folders that never end, each of nearly all that one may take: not all are read to the end."""
    size = Limits().bundle_bytes
    piece = b"\0" * (1 << 20)
    with contextlib.ExitStack() as stack:
        sent = [stack.enter_context(bob.connection("alice", timeout_s=30)) for _ in range(6)]
        for each in sent:
            each.sendall(head("bundle/20261124-probe-abcdef", content_length=size))
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                for _ in range(size // len(piece)):
                    each.sendall(piece)
        answers = []
        for each in sent:
            each.settimeout(1)
            with contextlib.suppress(TimeoutError):
                answers.append(code(read_some(each)))
        assert set(answers) <= {429, 0}
        assert answers
        assert bob.ask("GET", "/peer/v1/time", party="carol").status == 200
