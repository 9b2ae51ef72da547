"""What the suite of test_kuscia_live.py is run against: nodes that run somewhere, Kuscia built from its source and
started here, or else the conformance server.

`KUSCIA_NODES` names a JSON file: a list of {party, url, ca, certificate, key, token}, where ca, certificate and key are
PEM files and token is the token itself. The first party makes jobs; the second, if there is one, answers, and the two
must know each other already (domains, routes). `KUSCIA_SOURCE` names a checkout of secretflow/kuscia.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import httpx

from consortium.kuscia import keys
from consortium.kuscia.objects import interop
from coordinator.kuscia.api import KusciaApi
from coordinator.kuscia.channel import Channel, Json, tls
from tests.kuscia import api_server, conformance, kuscia_builders, real_node
from tests.kuscia.api_server import ROOT, Rejected
from tests.kuscia.conformance_jobs import Jobs, Play
from tests.kuscia.conformance_objects import Failed
from tests.kuscia.conftest import definitions
from tests.kuscia.real_node import Endpoint, kubeconfig
from tests.kuscia.tls_files import tls_files

NODES, SOURCE = "KUSCIA_NODES", "KUSCIA_SOURCE"
PARTIES = ("alice", "bob")
SKIPPED = 3
"""Exit code of `make kuscia-live` where there is no Kuscia to ask."""
NOTHING = f"no real Kuscia was asked: set {NODES}=FILE (nodes that run) or {SOURCE}=CHECKOUT (of secretflow/kuscia)"


@contextlib.contextmanager
def nodes(folder: Path) -> Iterator[dict[str, Endpoint]]:
    """By party, in the order in which they are named; where neither variable is set, the conformance server."""
    if os.environ.get(NODES):
        yield given(Path(os.environ[NODES]))
    elif os.environ.get(SOURCE):
        with from_source(program(os.environ[SOURCE]), folder) as found:
            yield found
    else:
        with imitated(folder) as found:
            yield found


@contextlib.contextmanager
def imitated(folder: Path) -> Iterator[dict[str, Endpoint]]:
    """Two parties of the conformance server, between which jobs are carried."""
    with contextlib.ExitStack() as stack:
        found, jobs = {}, []
        for party in PARTIES:
            (behind := folder / f"kubernetes-{party}").mkdir()
            store = stack.enter_context(api_server.running(behind))
            for definition in definitions():
                store.define(definition)
            (folder / party).mkdir()
            domain = kuscia_builders.domain(party)
            files = tls_files(domain, folder / party)
            node = stack.enter_context(conformance.serving(domain, store, files))
            jobs.append(node.jobs)
            found[party] = Endpoint(party, node.url, files.ca, files.certificate, files.key, node.token)
        stack.enter_context(_carrying(jobs))
        yield found


@contextlib.contextmanager
def _carrying(jobs: list[Jobs]) -> Iterator[None]:
    play, over = Play(*jobs), threading.Event()

    def work() -> None:
        while not over.wait(0.05):
            with contextlib.suppress(Failed, Rejected):
                play.clean()
            for job in jobs[0].all():
                # It may be taken away at any time.
                with contextlib.suppress(Failed, Rejected, httpx.HTTPStatusError):
                    play.carry(job["metadata"]["name"])

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def given(path: Path) -> dict[str, Endpoint]:
    """Nodes that run somewhere. A file that lacks something is an error, not a reason to skip."""
    found = {}
    for one in json.loads(path.read_text()):
        files = (path.parent / one[name] for name in ("ca", "certificate", "key"))
        found[one["party"]] = Endpoint(one["party"], one["url"], *files, one["token"])
    return found


def program(source: str) -> Path:
    """The node's program, built on the first run for this source."""
    command = [sys.executable, str(ROOT / "tools" / "kuscia" / "install.py"), source]
    return Path(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip())


@contextlib.contextmanager
def from_source(binary: Path, folder: Path, *, tasks: bool = True) -> Iterator[dict[str, Endpoint]]:
    """Two parties, each node with an API server of its own. `tasks`: real_node.running."""
    with contextlib.ExitStack() as stack:
        stores, configs = {}, {}
        for party in PARTIES:
            (behind := folder / f"kubernetes-{party}").mkdir()
            stores[party] = stack.enter_context(api_server.running(behind))
            for definition in definitions():
                stores[party].define(definition)
            certificate = behind / "certificates" / "apiserver.crt"
            configs[party] = kubeconfig(stores[party], certificate, folder / f"{party}.kubeconfig")
        found = {}
        for party in PARTIES:
            peers = {name: path for name, path in configs.items() if name != party}
            node = real_node.running(binary, party, stores[party], configs[party], folder / party, peers, tasks=tasks)
            found[party] = stack.enter_context(node)
        yield found


async def introduce(pair: Mapping[str, Endpoint]) -> None:
    """Partner, route and carrier both ways; what a node without Envoy cannot find out is told to it."""
    for own, peer in (PARTIES, PARTIES[::-1]):
        async with client(pair[own]) as api:
            await api.create("Domain", partner(peer))
            await api.create("ClusterDomainRoute", route(own, peer))
            await api.create("AppImage", engine())
        store = pair[own].kubernetes
        assert store
        store.create(interop(host=peer, member=own))  # Kuscia makes it once Envoy has fetched a token of the route


@contextlib.asynccontextmanager
async def client(node: Endpoint, *, token: str | None = None) -> AsyncIterator[KusciaApi]:
    """A client of the node."""
    context = tls(node.ca, node.certificate, node.key)
    async with Channel(node.url, context, node.token if token is None else token) as channel:
        yield KusciaApi(channel)


def partner(name: str) -> Json:
    """A peer as Kuscia is told of it."""
    return {
        "domain_id": name,
        "role": "partner",
        "cert": keys.encoded(kuscia_builders.domain(name).certificate),
        "master_domain_id": name,
        "auth_center": {"authentication_type": "Token", "token_gen_method": "RSA-GEN"},
    }


def route(source: str, destination: str, **overrides: object) -> Json:
    """The way to a peer."""
    port = {"name": "http", "port": 1080, "protocol": "HTTP", "isTLS": True, "path_prefix": "/"}
    return {
        "source": source,
        "destination": destination,
        "authentication_type": "Token",
        "endpoint": {"host": "peer.example", "ports": [port]},
        "token_config": {"token_gen_method": "RSA-GEN", "rolling_update_period": 86400},
        **overrides,
    }


def engine(name: str = "engine") -> Json:
    """An engine's image that is nowhere: what is asked of it fails, and says so."""
    container = {
        "name": "secretflow",
        "command": ["sh"],
        "args": ["-c", "true"],
        "working_dir": "/work",
        "config_volume_mounts": [{"mount_path": "/work/kuscia/task-config.conf", "sub_path": "task-config.conf"}],
        "ports": [{"name": "inference", "protocol": "HTTP", "scope": "Cluster"}],
    }
    template = {"name": "secretflow", "replicas": 1, "restart_policy": "Never", "containers": [container]}
    image = {"name": "registry.example/secretflow", "tag": "1.11.0b1", "id": kuscia_builders.DIGEST}
    configs = {"task-config.conf": "{}"}
    return {"name": name, "image": image, "config_templates": configs, "deploy_templates": [template]}


def main() -> int:
    """`make kuscia-live`: the suite, or plain words and an exit code where there is nothing to run it against."""
    if not (os.environ.get(NODES) or os.environ.get(SOURCE)):
        print(f"kuscia-live: SKIPPED: {NOTHING}", file=sys.stderr)
        return SKIPPED
    suites = [str(Path(__file__).with_name(f"test_kuscia_{name}.py")) for name in ("read", "live", "carried")]
    return subprocess.run([sys.executable, "-m", "pytest", "-v", *suites], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
