"""KusciaAPI of one party as its documents and its source describe it, its state in a real API server.

It is no Kuscia: nothing runs a task. What happens to a job between parties and in its tasks is played by `Play`
(conformance_jobs.py), in the steps and with the words of Kuscia's controllers.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from consortium.kuscia import keys
from tests.coordinator.coordinator_rig import free_ports
from tests.kuscia.api_server import ApiServer, Rejected
from tests.kuscia.conformance_jobs import Jobs
from tests.kuscia.conformance_objects import SERVICES, VALIDATE, Failed, Json, Service, made, need
from tests.kuscia.tls_files import TlsFiles

START_S = 20


@dataclass
class Trouble:
    """What a test makes go wrong, by path (`job/create`)."""

    silent: set[str] = field(default_factory=set)
    """Carried out, and not answered: the caller does not know."""
    broken: set[str] = field(default_factory=set)
    """Refused as one that could not be carried out (11101)."""


@dataclass(frozen=True)
class Node:
    """One party's KusciaAPI. `url`, `files` and `token` are what a caller needs."""

    domain: keys.Domain
    store: ApiServer
    url: str
    files: TlsFiles
    trouble: Trouble
    jobs: Jobs

    @property
    def token(self) -> str:
        return keys.api_token(self.domain)


@contextlib.contextmanager
def serving(domain: keys.Domain, store: ApiServer, files: TlsFiles, *, host: str = "127.0.0.1") -> Iterator[Node]:
    """The server in a thread of its own; the party's own domain and its namespaces are there, as a node makes them."""
    for namespace in (domain.party, "cross-domain"):
        with contextlib.suppress(Rejected):
            store.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    with contextlib.suppress(Rejected):
        store.create(made("Domain", domain.party, {"cert": keys.encoded(domain.certificate)}))
    (port,) = free_ports(1)
    node = Node(domain, store, f"https://{host}:{port}", files, Trouble(), Jobs(domain.party, store))
    config = uvicorn.Config(
        _app(node), host=host, port=port, log_config=None, lifespan="off", timeout_graceful_shutdown=1,
        ssl_ca_certs=str(files.ca), ssl_certfile=str(files.server_certificate), ssl_keyfile=str(files.server_key),
        ssl_cert_reqs=ssl.CERT_REQUIRED,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + START_S
    while not server.started:
        assert time.monotonic() < end, "the server does not start"
        time.sleep(0.02)
    try:
        yield node
    finally:
        node.jobs.closing.set()
        server.should_exit = True
        thread.join(10)


def _app(node: Node) -> Starlette:
    calls: dict[str, Callable[[Json], Json]] = {"/healthZ": lambda _: {"ready": True}}
    for service in SERVICES:
        calls |= _calls(node, service)
    calls |= {f"/api/v1/job/{name}": call for name, call in node.jobs.calls().items()}

    def handle(request: Request, body: Json) -> Response:
        path = request.url.path.removeprefix("/api/v1/")
        try:
            data = (_break if path in node.trouble.broken else calls[request.url.path])(body)
        except Failed as failed:
            return JSONResponse(
                {"status": {"code": failed.code, "message": failed.message, "details": []}, "data": None}
            )
        if path in node.trouble.silent:
            time.sleep(60)
        return JSONResponse({"status": {"code": 0, "message": "success", "details": []}, "data": data})

    async def endpoint(request: Request) -> Response:
        from anyio.to_thread import run_sync

        if request.headers.get("token") != node.token:
            return Response(status_code=401)
        try:
            body = json.loads(await request.body() or b"{}")
        except ValueError:
            return JSONResponse({"status": {"code": VALIDATE, "message": "syntax error", "details": []}})
        if request.url.path.endswith("/job/watch"):
            return StreamingResponse(
                node.jobs.watch(int(body.get("timeout_seconds", 0))), media_type="application/json"
            )
        if request.url.path.endswith("/log/task/query"):
            return StreamingResponse(node.jobs.log(body.get("task_id", "")), media_type="application/json")
        return await run_sync(handle, request, body)

    paths = [*calls, "/api/v1/job/watch", "/api/v1/log/task/query"]
    return Starlette(routes=[Route(path, endpoint, methods=["POST"]) for path in paths])


def _break(_: Json) -> Json:
    raise Failed(11101, "unexpected")


def _calls(node: Node, of: Service) -> dict[str, Callable[[Json], Json]]:
    store = node.store

    def found(body: Json) -> Json | None:
        namespace, name = of.name(body)
        return _read(store, of.kind, namespace, name)

    def create(body: Json) -> Json:
        _named(of, body)
        there = found(body)
        if there and of.exists_silently:
            return update(body)
        if there and of.exists_badly:
            raise Failed(of.create_failed, f"{of.name(body)[1]} is exist")
        wanted = of.make(body, node.domain)
        for (kind, namespace, name), code in of.needs(body):
            if _read(store, kind, namespace, name) is None:
                raise Failed(code, f"{kind} {name} not exists")
        try:
            store.create(wanted)
        except Rejected as error:
            raise Failed(of.exists if error.reason == "AlreadyExists" else of.create_failed, str(error)) from None
        return {}

    def query(body: Json) -> Json:
        body = (body.get("data") or {}) if of.nested else body
        _named(of, body)
        there = found(body)
        if there is None:
            raise Failed(of.missing, f'{of.kind.lower()}s.kuscia.secretflow "{of.name(body)[1]}" not found')
        return of.tell(there, node.domain)

    def update(body: Json) -> Json:
        _named(of, body)
        there = found(body)
        if there is None:
            raise Failed(of.missing, "not found")
        wanted = of.make(body, node.domain)
        namespace = of.name(body)[0]
        body = {**there, "spec": wanted["spec"]}
        store.call("PUT", f"{store.path(there, namespace)}/{there['metadata']['name']}", body, fieldValidation="Strict")
        return {}

    def delete(body: Json) -> Json:
        _named(of, body)
        namespace, name = of.name(body)
        there = found(body)
        if there is None and of.deleted_silently:
            return {}
        if there is None:
            raise Failed(of.delete_failed or of.missing, f'"{name}" not found')
        store.call("DELETE", f"{store.path(there, namespace)}/{name}")
        return {}

    made_of = {"create": create, "query": query, "delete": delete} | ({"update": update} if of.updates else {})
    return {f"/api/v1/{of.path}/{name}": call for name, call in made_of.items()}


def _named(of: Service, body: Json) -> None:
    try:
        names = of.name(body)
    except KeyError as error:
        raise Failed(VALIDATE, f"{error.args[0]} can not be empty") from None
    need({"name": names[1]}, "name")


def _read(store: ApiServer, kind: str, namespace: str, name: str) -> Any:
    try:
        return store.read(made(kind, name, {}), namespace or "default")
    except Rejected as error:
        if error.code == 404:
            return None
        raise
