"""compose.yaml as a running site: its images, its containers, their networks, and what is said in their logs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from functools import partial
from typing import Any

from tests.docker.engine import BASE, Engine
from tests.docker.watch import namespace_of
from tests.lab.clients import PIN, guess
from tests.lab.process import LabError, wait_until

PROJECT = "pinban"

#: A service that builds each image; others share it.
BUILDERS = {"receiver": "receiver", "enforcer": "enforcer1", "redis": "redis", "nginx": "nginx1", "stand-in": "node"}

#: To build, apt and pip need the host's network. Bans must not end while we look; an hour is longer than all of this
#: takes. The other proxy chooses its backend by itself.
OVERRIDE = """\
services:
  receiver:
    build: {network: host}
    environment: {PINBAN_RULES_PIN_BANTIME: 1h}
  enforcer1: {build: {network: host}}
  enforcer2:
    environment: {PINBAN_ENFORCER_BACKEND: iptables}
  redis: {build: {network: host}}
  nginx1: {build: {network: host}}
  node: {build: {network: host}}
"""


def compose(engine: Engine, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """`docker compose` on compose.yaml, with OVERRIDE."""
    override = engine.directory / "override.yaml"
    override.write_text(OVERRIDE)
    files = ["-f", "compose.yaml", "-f", str(override)]
    return engine.run([*engine.compose, "-p", PROJECT, *files, *words], check=check)


def build_images(engine: Engine) -> Iterator[str]:
    """Build every image of compose.yaml; yields their names."""
    for name, service in BUILDERS.items():
        compose(engine, "build", service)
        yield f"pinban/{name}"


def sizes(engine: Engine) -> dict[str, int]:
    """Bytes of each image beyond its base."""
    base = int(engine.docker("image", "inspect", "--format", "{{.Size}}", BASE))
    names = [f"pinban/{name}" for name in BUILDERS]
    return {name: int(engine.docker("image", "inspect", "--format", "{{.Size}}", name)) - base for name in names}


def print_sizes(engine: Engine) -> None:
    for name, size in sizes(engine).items():
        print(f"    {name:18} {size / 1e6:6.1f} MB beyond {BASE}", flush=True)


class Site:
    """compose.yaml, running."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def compose(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return compose(self._engine, *words, check=check)

    def replace(self, *services: str) -> None:
        """New containers for these services alone."""
        # The plugin does so by itself; it would take --no-deps for a change of the service, which the next `up` undoes.
        alone = [] if self._engine.has_plugin else ["--no-deps"]
        self.compose("up", "-d", "--no-build", *alone, "--force-recreate", "-t", "5", *services)

    def state(self, service: str) -> dict[str, Any]:
        """What docker inspect says about a service's container; {} when there is none."""
        done = self._engine.run(["docker", "inspect", self._container(service)], check=False)
        facts: list[dict[str, Any]] = json.loads(done.stdout)
        return facts[0] if facts else {}

    def _container(self, service: str) -> str:
        return self._engine.container(PROJECT, service)

    def pid(self, service: str) -> int:
        """The process id of its first process, 0 while it does not run."""
        return int(self.state(service)["State"]["Pid"])

    def is_well(self, service: str) -> bool:
        """Running, and healthy if it has a health check."""
        state = self.state(service).get("State", {})
        return bool(state.get("Running")) and state.get("Health", {}).get("Status", "healthy") == "healthy"

    def await_well(self, *services: str, seconds: float = 60.0) -> None:
        """Wait until all are; LabError with the end of the log of one that is not."""
        for service in services:
            try:
                wait_until(partial(self.is_well, service), f"{service} is well", seconds)
            except LabError as error:
                raise LabError(f"{error}: {self.state(service).get('State')}\n{self.log(service)[-3000:]}") from error

    def wrong(self) -> list[str]:
        """What `pinban status` finds wrong, but for probes that went by while a receiver was away: it tells of them for
        minutes, as it should."""
        said = self.tools("status", "--json")
        if not said.stdout:
            return [said.stderr]
        problems: list[str] = json.loads(said.stdout)["problems"]
        return [problem for problem in problems if "probes" not in problem]

    def await_nothing_wrong(self, seconds: float) -> None:
        """LabError with all that is wrong after the given seconds."""
        try:
            wait_until(lambda: not self.wrong(), "status finds nothing wrong", seconds)
        except LabError as error:
            raise LabError(f"{error}:\n{self.wrong()}") from error

    def address(self, service: str, network: str = "front") -> str:
        """Its address in a network of compose.yaml."""
        return str(self.state(service)["NetworkSettings"]["Networks"][f"{PROJECT}_{network}"]["IPAddress"])

    def serves(self, proxy: str, client: int) -> bool:
        """Whether it lets somebody in who knows the PIN, in the namespace of that process."""
        answer = namespace_of(client).call(partial(guess, self.address(proxy), PIN, timeout=0.5))
        return answer is not None and answer.status == 200

    def log(self, service: str) -> str:
        """All that it has said."""
        said = self._engine.run(["docker", "logs", self._container(service)])
        return said.stdout + said.stderr

    def tools(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The operator's command."""
        return self.compose("run", "--rm", "-T", "tools", *words, check=False)

    def down(self) -> None:
        """Remove everything but the images."""
        self.compose("--profile", "attack", "--profile", "tools", "down", "-v", "-t", "3")
