"""python -m tests.docker: an engine from nothing, pinban's images, every check, and nothing left of it.

The host's part makes a directory and a control group, and starts the rest in a process namespace of its own; when that
is killed, the kernel kills all in it: dockerd, containers, everything. Mounts and networks are gone with them.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.docker.engine import DIRECTORY, Engine, enter_empty_network, locked_packages, make_base_image
from tests.docker.site import build_images, print_sizes
from tests.lab.process import LabError, wait_until

#: Directories and control groups of ours begin with this and the id of the process that will remove them.
OURS = "pinban-docker-"

#: Longest that one check may take, s: images are built and engines restarted in it.
CHECK_S = 1_800

_begun = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - _begun:6.1f} s] {text}", flush=True)


def outside(arguments: list[str]) -> int:
    """Start the inner part and remove what it leaves, however this ends."""
    if os.geteuid():
        print("tests.docker needs root: it starts a Docker engine", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(130))
    for left in [*Path("/var/tmp").glob(f"{OURS}*"), *Path("/sys/fs/cgroup").glob(f"**/{OURS}*")]:
        if not Path("/proc", left.name.removeprefix(OURS).split("-")[0]).exists():
            clean(left.name)
    directory = Path(tempfile.mkdtemp(prefix=f"{OURS}{os.getpid()}-", dir="/var/tmp"))
    inner = [sys.executable, "-m", "tests.docker", *arguments]
    # If even we are killed, the first of these words has unshare killed, and the last its child.
    alone = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
    environment = {**os.environ, DIRECTORY: str(directory)}
    child = subprocess.Popen([*alone, *inner], env=environment, start_new_session=True)
    try:
        return child.wait()
    finally:
        child.kill()
        child.wait()
        clean(directory.name)
        say("the engine, its containers, images, networks and control groups are gone")


def clean(name: str) -> None:
    """Remove the control groups and the directory of this name; the processes in them are dead or dying."""
    groups = [group for top in Path("/sys/fs/cgroup").glob(f"**/{name}") for group in (*top.rglob("*/"), top)]
    for group in sorted(groups, key=lambda path: -len(path.parts)):
        wait_until(partial(is_removed, group), f"{group} is empty")
    shutil.rmtree(Path("/var/tmp", name), ignore_errors=True)


def is_removed(group: Path) -> bool:
    with suppress(OSError):
        group.rmdir()
    return not group.exists()


def inside(directory: Path, arguments: list[str]) -> int:
    """Build, run the checks; what is left is removed by others."""
    engine = Engine(directory)
    say("getting the locked Python packages")
    with locked_packages(directory / "wheels") as port:
        say("starting dockerd in the host's network, without bridge and firewall, to build")
        engine.start("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false")
        say("making the base image by debootstrap")
        make_base_image(engine, port)
        for image in build_images(engine):
            say(f"built {image}")
        print_sizes(engine)
        engine.stop()
    say("entering an empty network namespace: from here on nothing touches the host's network")
    enter_empty_network()
    checks = ["-o", "python_files=check_*.py", "-p", "no:cacheprovider", "-v", "-s", "--durations=0", *arguments]
    return int(pytest.main(["-o", f"timeout={CHECK_S}", *checks, str(Path(__file__).parent)]))


if __name__ == "__main__":
    try:
        sys.exit(
            inside(Path(os.environ[DIRECTORY]), sys.argv[1:]) if DIRECTORY in os.environ else outside(sys.argv[1:])
        )
    except LabError as error:
        sys.exit(f"tests.docker: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
