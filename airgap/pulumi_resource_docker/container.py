"""docker.Container."""

from __future__ import annotations

import time

from airgap.pulumi_resource_docker import container_read
from airgap.pulumi_resource_docker.container_files import archive
from airgap.pulumi_resource_docker.container_table import CONTAINER
from airgap.pulumi_resource_docker.container_values import endpoint
from airgap.pulumi_resource_docker.diff import changed
from airgap.pulumi_resource_docker.resource import Call, InitFailed, Kind, ProviderError, Seen
from airgap.pulumi_resource_docker.table import Failure, On, request
from airgap.pulumi_resource_docker.wire import Props, objects, unknown

WAIT_SECONDS = 60
START_MILLISECONDS = 15_000
POLL_SECONDS = 0.2
SETTLE_SECONDS = 0.4  # a process that cannot work mostly ends within this time


class Container(Kind):
    """A container."""

    name = "Container"
    table = CONTAINER
    computed = container_read.COMPUTED

    def check(self, inputs: Props) -> list[Failure]:
        """Two properties may each be right and not go together."""
        failures = super().check(inputs)
        if inputs.get("cpus") and (inputs.get("cpuQuota") or inputs.get("cpuPeriod")):
            failures.append(("cpus", "and cpuQuota or cpuPeriod are two ways to say one thing"))
        mode = inputs.get("networkMode")
        if inputs.get("networksAdvanced") and mode and mode != "bridge":
            failures.append(("networkMode", f"= {mode!r} does not go with networksAdvanced"))
        return failures

    def exclusive(self, old: Props, new: Props) -> bool:
        """Nor can two containers have one port of the host or one fixed address."""
        ports = any(p.get("external") for p in objects(new, "ports"))
        nets = objects(new, "networksAdvanced")
        fixed = any(n.get("ipv4Address") or n.get("ipv6Address") for n in nets)
        return super().exclusive(old, new) or ports or fixed

    def create(self, call: Call, inputs: Props) -> str:
        """Creates, connects and fills it, starts it and waits as asked.

        A failure before the start leaves nothing behind. After it the container is kept: its log
        tells why, and the next update repairs or replaces it.
        """
        body = self._body(call, inputs)
        made = self._create(call, inputs, body)
        client = call.daemon.client
        try:
            for network in inputs.get("networksAdvanced", [])[1:]:
                path = f"/networks/{network['name']}/connect"
                call.daemon.post(path, {"Container": made, "EndpointConfig": endpoint(network)})
            if inputs.get("uploads"):
                client.put_archive(made, "/", archive(inputs["uploads"]))
        except Exception:
            client.remove_container(made, force=True, v=True)
            raise
        if inputs.get("start", True):
            self._start(call, made, inputs)
        return made

    def _body(self, call: Call, inputs: Props) -> Props:
        body = request(self.table, inputs)
        body["Labels"] = call.labels(body.get("Labels"))
        networks = inputs.get("networksAdvanced", [])
        if networks:
            # Docker before 25 takes one network here: the others are connected afterwards.
            first = networks[0]
            body.setdefault("HostConfig", {})["NetworkMode"] = first["name"]
            body["NetworkingConfig"] = {"EndpointsConfig": {first["name"]: endpoint(first)}}
        return body

    def _create(self, call: Call, inputs: Props, body: Props) -> str:
        from docker.errors import APIError

        client, name = call.daemon.client, inputs["name"]

        def attempt() -> str:
            made = client.create_container_from_config(body, name, inputs.get("platform"))
            return str(made["Id"])

        try:
            return attempt()
        except APIError as error:
            if error.status_code != 409:
                raise ProviderError(f"container {name}: {error.explanation}") from error
            there = client.inspect_container(name)
            if not call.owns(there["Config"]["Labels"]):
                raise ProviderError(
                    f"container {name} exists and is not of this stack: choose another name, remove "
                    f"it, or take it over with `pulumi import docker:index/container:Container NAME "
                    f"{there['Id'][:12]}`"
                ) from error
        call.log(f"container {name} was left by an interrupted create of this resource: removed")
        client.remove_container(name, force=True, v=True)
        return attempt()

    def _start(self, call: Call, made: str, inputs: Props) -> None:
        """Starts it and sees to it that it runs; whatever fails, the container stays known."""
        from docker.errors import APIError

        try:
            call.daemon.client.start(made)
            self._await_running(call, made, inputs)
            if inputs.get("wait"):
                self._await_healthy(call, made, inputs)
        except APIError as error:
            raise InitFailed(made, f"container {inputs['name']}: {error.explanation}") from error
        except ProviderError as error:
            raise InitFailed(made, f"container {inputs['name']}: {error}") from error

    def _await_running(self, call: Call, made: str, inputs: Props) -> None:
        if not inputs.get("mustRun", True):
            return
        if not inputs.get("wait"):  # which would notice the same later
            call.daemon.cancelled.wait(SETTLE_SECONDS)
        allowed = inputs.get("containerReadRefreshTimeoutMilliseconds", START_MILLISECONDS) / 1000
        end = time.monotonic() + allowed
        while True:
            state = call.daemon.client.inspect_container(made)["State"]
            if state["Running"] and not state.get("Restarting"):
                return
            if state["Status"] == "exited":
                raise ProviderError(f"it ended at once with {self._last_words(call, made, state)}")
            if time.monotonic() > end or call.daemon.cancelled.is_set():
                raise ProviderError(f"not running but {state['Status']} after {allowed:g} s")
            time.sleep(POLL_SECONDS)

    def _await_healthy(self, call: Call, made: str, inputs: Props) -> None:
        limits = [x for x in (inputs.get("waitTimeout", WAIT_SECONDS), call.timeout) if x]
        allowed = min(limits, default=WAIT_SECONDS)
        end = time.monotonic() + allowed
        while True:
            state = call.daemon.client.inspect_container(made)["State"]
            health = (state.get("Health") or {}).get("Status")
            if health == "healthy":
                return
            if health in (None, "none"):
                raise ProviderError("wait is set, but there is no healthcheck to wait for")
            if not state["Running"]:
                raise ProviderError(f"it ended with {self._last_words(call, made, state)}")
            if call.daemon.cancelled.is_set():
                raise ProviderError("cancelled while waiting for it to become healthy")
            if time.monotonic() > end:
                said = [entry["Output"].strip() for entry in state["Health"]["Log"] or []][-1:]
                raise ProviderError(f"not healthy within {allowed:g} s: {' '.join(said)}")
            call.log(f"waiting: {health}", ephemeral=True)
            time.sleep(POLL_SECONDS)

    @staticmethod
    def _last_words(call: Call, made: str, state: Props) -> str:
        said = call.daemon.client.logs(made, tail=5).decode(errors="replace").strip()
        return f"exit code {state['ExitCode']}{': ' + said if said else ''}"

    def read(self, call: Call, resource_id: str, inputs: Props) -> Seen:
        """Looks at the container and at what its image's name means now."""
        from docker.errors import ImageNotFound

        client = call.daemon.client
        found = client.inspect_container(resource_id)
        named = inputs.get("image") or found["Config"]["Image"]
        try:
            image = {} if unknown(named) else client.inspect_image(named)
        except ImageNotFound:
            image = {}
        outputs = container_read.outputs(found, inputs)
        drifted = container_read.drifted(found, inputs, image.get("Id"))
        return Seen(found["Id"], outputs, drifted, container_read.importable(found, image))

    def update(self, call: Call, resource_id: str, old: Props, new: Props) -> None:
        """Sets limits and restart policy; starts it when it should run."""
        names = changed(self.table, old, new)
        limits = {n for n in names if self.table[n].on is On.LIMIT}
        if limits or {"restart", "maxRetryCount"} & set(names):
            wanted = {"restart": "no", **{n: new[n] for n in (*limits, "restart") if n in new}}
            if "maxRetryCount" in new:
                wanted["maxRetryCount"] = new["maxRetryCount"]
            body = request(self.table, wanted)["HostConfig"]
            if "Memory" in body and "memorySwap" not in new:
                # What docker does at a create; without it a limit above the old one is refused.
                body["MemorySwap"] = 2 * body["Memory"]
            call.daemon.post(f"/containers/{resource_id}/update", body)
        if not (new.get("start", True) and new.get("mustRun", True)):
            return
        state = call.daemon.client.inspect_container(resource_id)["State"]
        healthy = (state.get("Health") or {}).get("Status", "healthy") == "healthy"
        if not state["Running"] or (new.get("wait") and not healthy):
            self._start(call, resource_id, new)

    def delete(self, call: Call, resource_id: str, inputs: Props) -> None:
        """Stops it if it is to have time for that, then removes it."""
        client = call.daemon.client
        if inputs.get("destroyGraceSeconds"):
            client.stop(resource_id, timeout=inputs["destroyGraceSeconds"])
        client.remove_container(resource_id, v=inputs.get("removeVolumes", True), force=True)
