"""`python -m tests.fuzz TARGET`: run a target under the engine for so many inputs or seconds.

Exit code 0 when nothing was found; otherwise the engine's, with the input printed and written to --artifacts.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, cast

import atheris

from tests.fuzz import inputs

#: The variable that tells the engine which program it is.
_PROGRAM = "PINBAN_TEST_FUZZ_PROGRAM"

#: An input that takes longer hangs, s of the clock on the wall; targets judge processor time themselves.
_HANGS_S = 60

TARGETS = ("datagram", "events", "settings", "patterns")


class Target(Protocol):
    """What is fuzzed."""

    WORDS: tuple[str, ...]  #: for the engine's dictionary

    def seeds(self) -> Iterator[bytes]: ...

    def check(self, data: bytes) -> None:
        """AssertionError when a promise is broken; any other error is a broken promise too."""


class Strict(logging.Handler):
    """Formats every record as a real handler would, and fails for one that is not a line of printable text."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        assert text.isprintable(), repr(text)


def main() -> None:
    options = _options()
    if options.engine is not None:
        with atheris.instrument_imports(include=["receiver", "enforcer", "shared", "pinban", "tests.fuzz"]):
            target = _target(options.target, options.plant)
        log = logging.getLogger("pinban")
        log.addHandler(Strict())
        log.setLevel(logging.INFO)
        log.propagate = False
        atheris.Setup([os.environ[_PROGRAM], *options.engine], target.check)
        atheris.Fuzz()  # ends the process
    options.artifacts.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pinban-fuzz-", dir="/dev/shm") as place:
        program, words, seeds, smallest = (Path(place, name) for name in ("program", "words", "seeds", "smallest"))
        tempfile.tempdir = place
        target = _target(options.target, "")
        inputs.dictionary(words, target.WORDS)
        inputs.spread(seeds, [*target.seeds(), *inputs.kept(options.target)])
        arguments = [f"-artifact_prefix={options.artifacts}/", f"-max_len={inputs.LONGEST}", f"-dict={words}"]
        arguments += ["-timeout=60", "-rss_limit_mb=1024", f"-seed={options.seed}", "-print_final_stats=1"]
        if options.minimise:
            inputs.spread(smallest, [])
            arguments += ["-merge=1", str(smallest), str(options.minimise), str(seeds)]
        else:
            arguments += [f"-runs={options.runs}", f"-max_total_time={options.seconds}"]
            if options.corpus:
                options.corpus.mkdir(parents=True, exist_ok=True)
                arguments.append(str(options.corpus))
            arguments.append(str(seeds))
        # A program in a file, because the engine runs itself again to minimise.
        again = shlex.join([sys.executable, "-m", "tests.fuzz", options.target, "--plant", options.plant, "--engine"])
        program.write_text(f'#!/bin/sh\nexec {again} "$@"\n')
        program.chmod(0o700)
        environment = {**os.environ, _PROGRAM: str(program), "TMPDIR": place}
        done = subprocess.run([program, *arguments], env=environment, check=False)
        if options.minimise and not done.returncode:
            inputs.keep(options.target, smallest)
    sys.exit(done.returncode)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--runs", type=int, default=-1, help="inputs; without it until --seconds, or for ever")
    parser.add_argument("--seconds", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0, help="seed of the engine; 0 draws one")
    parser.add_argument("--plant", default="", help="a fault of tests/fuzz/planted.py that should be found")
    parser.add_argument("--corpus", type=Path, help="a folder of inputs that the engine adds to, to continue later")
    parser.add_argument("--artifacts", type=Path, default=Path("build"), help="where to write an input that fails")
    parser.add_argument("--minimise", type=Path, help="keep the smallest inputs of a folder that reach the same code")
    parser.add_argument("--engine", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser.parse_args()


def _target(name: str, plant: str) -> Target:
    from tests.fuzz import datagram, events, planted, texts  # noqa: PLC0415  the engine must see them imported

    if plant:
        return cast(Target, planted.PLANTED[name, plant]())
    match name:
        case "datagram":
            return datagram.Target()
        case "events":
            return events.Target()
        case "settings":
            return texts.SettingsTarget()
    return texts.PatternsTarget()


if __name__ == "__main__":
    main()
