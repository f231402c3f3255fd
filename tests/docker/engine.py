"""A Docker engine of our own, and the image that every Dockerfile begins with. Knows nothing of pinban's services.

dockerd is started twice. First in the host's network, without bridges and firewall rules of its own, to build: what
apt and pip can reach is what the host can reach. Then in a network namespace that is empty but for a loopback, to run.
"""

from __future__ import annotations

import ctypes
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path

from tests.lab.netns import CLONE_NEWNET
from tests.lab.process import ROOT, LabError, Process

#: What the Dockerfiles say after FROM. There it is Debian's official image; here one made by debootstrap.
BASE, SUITE = "debian:bookworm-slim", "bookworm"

#: Names the directory to the part of the test that runs in namespaces of its own.
DIRECTORY = "PINBAN_TEST_DIRECTORY"

#: Starting dockerd, and anything that it is asked for, may take so long on a busy machine, s.
START_S, COMMAND_S = 60.0, 600.0


class Engine:
    """dockerd with everything that it keeps in one directory."""

    def __init__(self, directory: Path) -> None:
        """The control group above every container's is named after the directory."""
        self.directory = directory
        (directory / "client").mkdir(parents=True, exist_ok=True)
        (directory / "none.json").write_text("{}")
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("DOCKER_", "COMPOSE_", "PINBAN_"))},
            "DOCKER_HOST": f"unix://{directory}/docker.sock",
            "DOCKER_CONFIG": str(directory / "client"),
        }
        self._daemon: Process | None = None

    def start(self, *options: str, path: str = "") -> None:
        """Start dockerd in the caller's network namespace; `path` is searched for its iptables first."""
        at = self.directory
        argv = ["env", f"PATH={path}:{os.environ['PATH']}:/usr/sbin:/sbin"] if path else []
        argv += ["dockerd", "-H", f"unix://{at}/docker.sock", "--config-file", f"{at}/none.json"]
        argv += ["--data-root", f"{at}/data", "--exec-root", f"{at}/exec", "--pidfile", f"{at}/pid"]
        argv += ["--cgroup-parent", f"/{at.name}", *options]
        self._daemon = Process("dockerd", argv, at)
        self._daemon.start()
        self._daemon.await_ready(lambda: not self.run(["docker", "version"], check=False).returncode, START_S)

    def stop(self) -> None:
        """Stop dockerd, and with it all containers."""
        if self._daemon:
            self._daemon.stop(START_S)

    def docker(self, *words: str) -> str:
        """What a docker command prints; LabError with its errors if it fails."""
        return self.run(["docker", *words]).stdout.strip()

    @cached_property
    def has_plugin(self) -> bool:
        """Whether compose is Docker's plugin; else it is the program `docker-compose` of before."""
        return self.run(["docker", "compose", "version"], check=False).returncode == 0

    @property
    def compose(self) -> list[str]:
        """The words that compose is called by."""
        return ["docker", "compose"] if self.has_plugin else ["docker-compose"]

    def container(self, project: str, service: str) -> str:
        """The id of a service's container, whatever this compose names it; "" when there is none."""
        labels = {"project": project, "service": service, "oneoff": "False"}
        wanted = [f"--filter=label=com.docker.compose.{key}={value}" for key, value in labels.items()]
        return self.docker("ps", "--all", "--quiet", *wanted)

    def run(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """A command that speaks to this engine."""
        done = subprocess.run(
            argv,
            cwd=ROOT,
            env={**self.environment, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        if check and done.returncode:
            raise LabError(f"{' '.join(argv)}: status {done.returncode}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}")
        return done


def enter_empty_network() -> None:
    """Leave the host's network for a new one: this thread, and all that it starts from now on."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise LabError(f"unshare: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")  # as on any host with Docker


def make_base_image(engine: Engine, wheels_port: int) -> None:
    """BASE from Debian's packages, with what it takes to install more of them here: the host's way to its mirror, and
    a pip that asks the host.
    """
    root = engine.directory / "base"
    sources = debian_sources()
    mirror = next(uri for uri, release, _ in sources if release == SUITE)
    run_quietly(["debootstrap", "--variant=minbase", SUITE, str(root), mirror])
    (root / "etc/apt/sources.list").write_text("".join(f"deb {' '.join(source)}\n" for source in sources))
    acquire = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout.splitlines()
    (root / "etc/apt/apt.conf.d/99host").write_text("\n".join(x for x in acquire if x.startswith("Acquire::")) + "\n")
    (root / "etc/pip.conf").write_text(f"[global]\nno-index = true\nfind-links = http://127.0.0.1:{wheels_port}/\n")
    (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
    (root / "usr/sbin/policy-rc.d").chmod(0o755)
    left_out = (
        "./dev",
        "./proc",
        "./sys",
        "./var/cache/apt/archives/*.deb",
        "./var/lib/apt/lists/*",
        "./usr/share/doc",
    )
    tar = ["tar", "-C", str(root), *(f"--exclude={pattern}" for pattern in left_out), "-c", "."]
    archive = engine.directory / "base.tar"
    with archive.open("wb") as file:
        subprocess.run(tar, stdout=file, check=True)
    engine.docker("import", "--change", 'CMD ["bash"]', str(archive), BASE)
    archive.unlink()
    shutil.rmtree(root)


def debian_sources() -> list[tuple[str, str, str]]:
    """Where the host gets Debian from: URI, release and component, as in sources.list(5)."""
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(LABEL)"
    asked = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
    lines = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [line.split(" ", 3) for line in lines]
    found = [(row[0], row[1], row[2]) for row in rows if row[3].startswith("Debian") and row[1].startswith(SUITE)]
    if not any(release == SUITE for _, release, _ in found):
        raise LabError(f"apt on this host knows no {SUITE}; this test needs Debian 12")
    return found


@contextmanager
def locked_packages(directory: Path) -> Iterator[int]:
    """Everything in the roles' lock files, got the way that this host gets it, on a port of the loopback."""
    directory.mkdir()
    pip = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--require-hashes", "--no-deps"]
    for role in ("build", "receiver", "enforcer"):
        run_quietly([*pip, "--no-build-isolation", "-d", str(directory), "-r", f"requirements/{role}.lock"])
    handler = partial(QuietHandler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and says nothing about it."""

    def log_message(self, format: str, *args: object) -> None:
        pass


def run_quietly(argv: Sequence[str]) -> None:
    """LabError with all that it said if it fails."""
    done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise LabError(f"{' '.join(argv)}: status {done.returncode}\n{done.stdout[-6000:]}")
