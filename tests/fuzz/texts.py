"""Targets: what an operator writes. Settings, fail2ban's patterns and jails; a wrong one is an error of one line."""

from __future__ import annotations

import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

from pinban.fail2ban.jail_import import import_jails
from receiver.failregex import FailregexError
from receiver.failregex.filter import compile_filter, patterns_of
from receiver.lines.rulebook import Rulebook
from shared.errors import PinbanError, SettingsError
from shared.settings.declared import declared
from shared.settings.environment import variable_of
from shared.settings.reading import load
from shared.settings.schema import Settings

#: Processor time for one input at most, s. The slowest honest one, a failregex of a hundred lines, takes a hundredth.
_LONGEST_S = 10.0

_LINE = "203.0.113.9 - admin " + "a " * 2_000 + '[22/Nov/2026:14:12:18 +0000] "POST / HTTP/1.1" 401 5'


class SettingsTarget:
    """A TOML file, then a NUL and an environment."""

    WORDS: tuple[str, ...] = (
        "[rules.",
        "[receiver]",
        "[redis]",
        "[rooms]",
        "[enforcer]",
        "\n",
        " = ",
        "true",
        '"5m"',
        "[[",
        "{",
        "-1",
    )

    def __init__(self, loader: Callable[..., Settings] = load) -> None:
        self._file = Path(tempfile.mkdtemp(), "pinban.toml")
        self._load = loader
        self._keys = [key for key in declared() if not key.startswith("rules.")]
        _make_tables()

    def seeds(self) -> Iterator[bytes]:
        yield b'[redis]\nurl = "redis://:secret@h/0"\n[receiver]\nlisten = ["udp:[::]:5514"]\nworkers = 2\n'
        yield b'ignoreip = ["10.0.0.0/8", "rp.example.org"]\n[enforcer]\nports = "all"\nprotocol = "all"\n'
        yield b'[rules.pin]\nmaxretry = 5\nfindtime = "1h30m"\n[rules.ssh]\nfailregex = "^from <HOST>$"\n'
        yield from (b"ipv4_prefix = 32\n\0" + bytes((n,)) + b"5m" for n in range(len(self._keys)))

    def check(self, data: bytes) -> None:
        text, _, rest = data.partition(b"\0")
        environment = {}
        if rest:
            key = self._keys[rest[0] % len(self._keys)]
            environment[variable_of(key)] = rest[1:].decode("utf-8", "replace")
        self._file.write_bytes(text)
        begun = time.process_time()
        try:
            Rulebook(self._load(str(self._file), environment))
        except SettingsError as error:
            _one_line(error)
        assert time.process_time() - begun < _LONGEST_S


class PatternsTarget:
    """The failregex of a rule, and a filter and a jail with it."""

    WORDS: tuple[str, ...] = (
        "<HOST>", "<F-ID>", "</F-ID>", "(?:", "(?=", "(?!", "(?<=", "(?P<a>", "(?P=a)", "(?(1)", "\\S+", "[[:", "{9}",
        "%(__prefix_line)s", "[Definition]\n", "\nfailregex = ", "\nignoreregex = ", "\nbantime = ", "*", "|",
    )  # fmt: skip

    def __init__(self) -> None:
        folder = tempfile.mkdtemp()
        self._jail, self._filter = (Path(folder, name) for name in ("jail.local", "fuzz.conf"))
        _make_tables()

    def seeds(self) -> Iterator[bytes]:
        yield rb'^<HOST> - \S+ \[[^\]]*\] "POST /[^"]*" 401 '
        yield rb"^(?:\w+\s?)*from <HOST>(?: port \d+)?$" + b"\n" + rb"^<F-ID>x</F-ID> (?!a)<ADDR>$"
        yield rb"(?P<host>\d+)(?i:x){2,9}(?#note)[[:alpha:]]<F-NOFAIL>y</F-NOFAIL>"
        yield b"^%(__prefix_line)s<SUBNET> \\Z\n<skip>\nignoreregex = ^x$\n[Init]\nmaxlines = 1"

    def check(self, data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        begun = time.process_time()
        try:
            found = compile_filter(patterns_of(text))
        except FailregexError as error:
            _one_line(error)
        else:
            found.match(_LINE)
            found.match(text)
        assert time.process_time() - begun < _LONGEST_S, "not in linear time"
        self._filter.write_bytes(b"[Definition]\nfailregex = " + data)
        self._jail.write_bytes(b"[fuzz]\nenabled = true\nfilter = fuzz\nmaxretry = 3\n" + data)
        try:
            imported = import_jails([self._jail], [self._filter])
        except PinbanError as error:
            _one_line(error)
        else:
            tomllib.loads(imported.toml)
        assert time.process_time() - begun < 2 * _LONGEST_S


def _make_tables() -> None:
    """Have the sets of Unicode characters made, once, before an input is timed: under the engine it takes seconds."""
    compile_filter([r"\w\d <HOST>"])


def _one_line(error: Exception) -> None:
    assert str(error).strip()
    assert "\n" not in str(error), repr(str(error))
