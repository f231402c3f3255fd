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

IMAGES = ("receiver", "enforcer", "redis", "nginx", "stand-in")

#: Bans must not end while we look; an hour is longer than all of this takes. The other proxy chooses by itself.
OVERRIDE = """\
services:
  receiver:
    environment: {PINBAN_RULES_PIN_BANTIME: 1h}
  enforcer2:
    environment: {PINBAN_ENFORCER_BACKEND: iptables}
"""


def compose(engine: Engine, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """`docker compose` on compose.yaml, with OVERRIDE."""
    override = engine.directory / "override.yaml"
    override.write_text(OVERRIDE)
    return engine.run(
        ["docker-compose", "-p", "pinban", "-f", "compose.yaml", "-f", str(override), *words], check=check
    )


def build_images(engine: Engine) -> Iterator[str]:
    """Build every image as compose.yaml says, but in the host's network; yields their names."""
    text = compose(engine, "--profile", "attack", "--profile", "tools", "config").stdout
    for name in IMAGES:
        dockerfile = f"docker/{name}.Dockerfile"
        if f"dockerfile: {dockerfile}" not in text or f"image: pinban/{name}" not in text:
            raise LabError(f"compose.yaml does not build pinban/{name} from {dockerfile}")
        engine.docker("build", "--network", "host", "-t", f"pinban/{name}", "-f", dockerfile, ".")
        yield f"pinban/{name}"


def sizes(engine: Engine) -> dict[str, int]:
    """Bytes of each image beyond its base."""
    base = int(engine.docker("image", "inspect", "--format", "{{.Size}}", BASE))
    names = [f"pinban/{name}" for name in IMAGES]
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

    def state(self, service: str) -> dict[str, Any]:
        """What docker inspect says about a service's container; {} when there is none."""
        done = self._engine.run(["docker", "inspect", f"pinban_{service}_1"], check=False)
        facts: list[dict[str, Any]] = json.loads(done.stdout)
        return facts[0] if facts else {}

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

    def address(self, service: str, network: str = "front") -> str:
        """Its address in a network of compose.yaml."""
        return str(self.state(service)["NetworkSettings"]["Networks"][f"pinban_{network}"]["IPAddress"])

    def serves(self, proxy: str, client: int) -> bool:
        """Whether it lets somebody in who knows the PIN, in the namespace of that process."""
        answer = namespace_of(client).call(partial(guess, self.address(proxy), PIN, timeout=0.5))
        return answer is not None and answer.status == 200

    def log(self, service: str) -> str:
        """All that it has said."""
        said = self._engine.run(["docker", "logs", f"pinban_{service}_1"])
        return said.stdout + said.stderr

    def tools(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The operator's command."""
        return self.compose("run", "--rm", "-T", "tools", *words, check=False)

    def down(self) -> None:
        """Remove everything but the images."""
        self.compose("--profile", "attack", "--profile", "tools", "down", "-v", "-t", "3")
