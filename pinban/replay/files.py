"""Reading old logs, plain or gzip, batch by batch, damaged ones too. Does not know what a line says."""

from __future__ import annotations

import gzip
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, cast

from shared.errors import PinbanError

#: What is read at a time, bytes.
CHUNK = 1 << 20

#: A line is cut after this many bytes; by default nginx takes no longer header (large_client_header_buffers, 4 of 8k).
LONGEST_LINE = 1 << 16

_GZIP = b"\x1f\x8b"


class _Counted:
    """A file, or a pipe, that tells how far it was read."""

    def __init__(self, file: BinaryIO, progress: Callable[[int], None]) -> None:
        self._file = file
        self._progress = progress

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._progress(len(data))
        return data


def distinct(files: Sequence[str], note: Callable[[str], None]) -> tuple[list[str], int | None]:
    """The files, each once, and their total size in bytes; None if one is a pipe.

    PinbanError for one that cannot be read, before any is read: with a year of logs a bad name must show at once.
    """
    sizes: dict[tuple[int, int], int | None] = {}
    kept = []
    for name in files:
        try:
            facts = os.stat(sys.stdin.fileno() if name == "-" else name)
        except OSError as error:
            raise PinbanError(f"{name}: cannot be read ({error.strerror}); name log files, plain or gzip") from error
        if stat.S_ISDIR(facts.st_mode):
            raise PinbanError(f"{name}: is a directory; name the log files in it")
        if name != "-" and not os.access(name, os.R_OK):
            raise PinbanError(f"{name}: cannot be read (Permission denied); run as a user who may read it")
        if (facts.st_dev, facts.st_ino) in sizes:
            note(f"{name}: named twice, read once")
            continue
        sizes[facts.st_dev, facts.st_ino] = facts.st_size if stat.S_ISREG(facts.st_mode) else None
        kept.append(name)
    known = [size for size in sizes.values() if size is not None]
    return kept, sum(known) if len(known) == len(sizes) else None


def batches(name: str, progress: Callable[[int], None], note: Callable[[str], None]) -> Iterator[list[bytes]]:
    """The lines of a file, without line feeds; "-" is standard input. Raises nothing but PinbanError.

    The first bytes tell gzip. A damaged file gives all lines before the damage, and a note. `progress` is called with
    the number of bytes read since the last call; of a gzip file, compressed bytes.
    """
    try:
        # Standard input stays open: it is not ours.
        with nullcontext(cast("BufferedReader", sys.stdin.buffer)) if name == "-" else Path(name).open("rb") as file:
            counted = cast("BinaryIO", _Counted(file, progress))
            if file.peek(2)[:2] == _GZIP:
                yield from _lines(_unpacked(name, counted, note))
            else:
                yield from _lines(iter(lambda: counted.read(CHUNK), b""))
    except OSError as error:
        raise PinbanError(f"{name}: cannot be read ({error.strerror or error})") from error


def _unpacked(name: str, file: BinaryIO, note: Callable[[str], None]) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=file) as packed:
        while True:
            try:
                chunk = packed.read1(CHUNK)  # read() would lose what it had when it met the damage
            except EOFError:
                note(f"{name}: the gzip file ends too early; what could be unpacked was read")
                return
            except (gzip.BadGzipFile, zlib.error) as error:
                note(f"{name}: the gzip file is damaged ({error}); what could be unpacked before was read")
                return
            if not chunk:
                return
            yield chunk


def _lines(chunks: Iterator[bytes]) -> Iterator[list[bytes]]:
    rest = b""
    for chunk in chunks:
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()[:LONGEST_LINE]
        yield lines
    if rest:
        yield [rest]
