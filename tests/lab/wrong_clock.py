"""Gives a program of the lab another wall clock, and sets it while the program runs.

libfaketime does not work here: its waits fail under Python 3.11 (EINVAL from time.sleep), and Redis' allocator asks for
the time before libfaketime is ready.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.lab.process import Process

_SOURCE = Path(__file__).with_name("wrong_clock.c")


class WrongClock:
    """The wall clock of a process that is still to be started, so many seconds from the host's."""

    def __init__(self, process: Process, seconds: int, directory: Path) -> None:
        """`directory` is for the library and for the file with the offset."""
        directory.mkdir(parents=True, exist_ok=True)
        library = directory / "wrong_clock.so"
        if not library.exists():
            subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", library, _SOURCE], check=True)
        self._file = directory / f"{process.name}.{id(process)}.clock"
        self.set(seconds)
        process.argv[:0] = ["env", f"LD_PRELOAD={library}", f"PINBAN_TEST_CLOCK={self._file}"]

    def set(self, seconds: int) -> None:
        """Set the clock to so many seconds from the host's."""
        with self._file.open("r+b" if self._file.exists() else "wb", buffering=0) as file:
            file.write(seconds.to_bytes(8, "little", signed=True))
