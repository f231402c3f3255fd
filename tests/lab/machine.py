"""The machine and the programs that a measurement was made with, for its report."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path


def machine() -> str:
    """One line each: processor and cores, kernel, versions."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    nginx = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
    server = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout
    versions = [
        f"pinban {version('pinban')}",
        f"Python {platform.python_version()}",
        nginx.strip().removeprefix("nginx version: "),
        "Redis " + server.split("v=")[1].split()[0],
        f"redis-py {version('redis')}",
        f"gunicorn {version('gunicorn')}",
    ]
    processor = model[1] if model else platform.machine()
    command = Path(sys.argv[0])
    return "\n".join(
        (
            f"machine   {processor}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f} at the start",
            f"kernel    {platform.release()}",
            f"versions  {', '.join(versions)}",
            " ".join(["command   python -m", f"{command.parent.name}.{command.stem}", *sys.argv[1:]]),
        )
    )
