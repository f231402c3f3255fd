"""The inputs that are kept: small ones that together reach all code, and those that once broke something.

Each file has one hexadecimal input a line, so a diff shows which were added and removed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_HERE = Path(__file__).parent / "corpus"

#: Longest input, bytes: more than the longest line of a log format, less than what makes the engine slow.
LONGEST = 1_024


def kept(target: str) -> list[bytes]:
    """The corpus of a target."""
    return _read(_HERE / f"{target}.hex")


def regressions(target: str) -> list[bytes]:
    """Inputs that once broke a promise of the target and must not break it again."""
    return _read(_HERE / f"{target}-regressions.hex")


def keep(target: str, folder: Path) -> None:
    """Replace the corpus of a target by the files of a folder."""
    lines = sorted({path.read_bytes().hex() for path in folder.iterdir()}, key=lambda line: (len(line), line))
    (_HERE / f"{target}.hex").write_text("".join(f"{line}\n" for line in lines), encoding="ascii")


def spread(folder: Path, inputs: Iterable[bytes]) -> None:
    """Make a folder with a file for each input, as the engine needs it."""
    folder.mkdir()
    for number, data in enumerate(inputs):
        (folder / str(number)).write_bytes(data)


def dictionary(path: Path, words: Iterable[str]) -> None:
    """Write words that the engine may put anywhere (libFuzzer's -dict)."""
    quoted = ("".join(f"\\x{byte:02x}" for byte in word.encode()) for word in words)
    path.write_text("".join(f'"{word}"\n' for word in quoted), encoding="ascii")


def _read(path: Path) -> list[bytes]:
    return [bytes.fromhex(line) for line in path.read_text(encoding="ascii").splitlines()] if path.exists() else []
