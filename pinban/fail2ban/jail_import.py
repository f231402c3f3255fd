"""`pinban import-fail2ban`: jails become pinban's settings. Reads files; what has no counterpart becomes a note.

jail files -> jails -> filter files -> patterns -> [rules.NAME]
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pinban.fail2ban.files import Config, listed, with_options
from pinban.fail2ban.filters import FilterFile, Patterns
from pinban.fail2ban.jails import Jail, enforcer_of, ignored_by, left_out, limits_of
from pinban.fail2ban.mail import mail_of
from pinban.fail2ban.values import toml_key, toml_lines
from receiver.failregex import FailregexError, compile_filter
from shared.errors import SettingsError
from shared.settings import BUILT_IN, LONG

#: What fail2ban's own jail.conf says, for jails without a jail.conf beside them.
_STOCK = {
    "enabled": "false",
    "filter": "%(__name__)s[mode=%(mode)s]",
    "mode": "normal",
    "maxretry": "5",
    "findtime": "10m",
    "bantime": "10m",
    "port": "0:65535",
    "protocol": "tcp",
    "backend": "auto",
}

#: A failed PIN as the appliance's nginx writes it and as nginx's "combined" does, and a 403 that is no failed PIN.
_PIN = (
    '1.2.3.4 - - [24/Apr/2016:12:39:32 +0000]  "POST /api/client/v2/conferences/meet.alice/request_token HTTP/1.1" '
    '403 56 "-" "python-requests/2.2.1" "" "403" "4.016"',
    '1.2.3.4 - - [24/Apr/2016:12:39:32 +0000] "POST /api/client/v2/conferences/meet.alice/request_token HTTP/1.1" '
    '403 56 "-" "python-requests/2.2.1"',
)
_OTHER = tuple(
    line.replace("POST", "GET").replace("/api/client/v2/conferences/meet.alice/request_token", "/admin")
    for line in _PIN
)


@dataclass(frozen=True, slots=True)
class Imported:
    """The settings as TOML, and notes about them for the reader."""

    toml: str
    notes: list[str]


def import_jails(jail_files: Sequence[Path], filter_files: Sequence[Path]) -> Imported:
    """The enabled jails of the files as rules of pinban. SettingsError for files that cannot be read.

    Filters are looked for by name in `filter_files`, then in filter.d beside the jail files. With a jail.local, the
    jail.conf and jail.d beside it are read too, as in fail2ban.
    """
    config = Config(_STOCK)
    notes: list[str] = []
    for file in _all_of(jail_files, notes):
        config.read(file)
    notes += config.notes
    filters = _Filters(jail_files, filter_files)
    jails = [Jail(name, config) for name in config.sections if name not in ("INCLUDES", "DEFAULT")]
    enabled = [jail for jail in jails if jail.enabled]
    off = [jail.name for jail in jails if not jail.enabled]
    if off:
        notes.append(f"not enabled, so not imported: {listed(off)}")
    if not enabled:
        notes.append("no jail is enabled; set enabled = true in those that you want to import")
    rules: list[str] = []
    taken: set[str] = set()
    for jail in enabled:
        rule = _rule(jail, filters, taken)
        rules += rule.lines
        notes += [f"[{jail.name}] {note}" for note in rule.notes]
    lines = ["# From fail2ban's configuration, by pinban import-fail2ban."]
    lines += ignored_by(enabled, notes)
    lines += enforcer_of(enabled, notes)
    lines += mail_of(enabled, notes)
    notes += left_out(config, enabled)
    return Imported("\n".join(lines + rules).rstrip() + "\n", notes)


def _all_of(files: Sequence[Path], notes: list[str]) -> list[Path]:
    """The files and those beside a jail.local, in the order in which fail2ban reads them."""
    every: list[Path] = []
    for file in files:
        beside = []
        if file.name == "jail.local":
            folder = file.parent / "jail.d"
            beside = [file.with_name("jail.conf"), *sorted(folder.glob("*.conf"))]
            beside = [path for path in beside if path.is_file() and path not in files]
            if beside:
                notes.append(f"{file}: read after {listed(str(path) for path in beside)}, as fail2ban does")
        every += [*beside, file]
        if file.name == "jail.local":
            every += [path for path in sorted((file.parent / "jail.d").glob("*.local")) if path not in files]
    return list(dict.fromkeys(every))


class _Filters:
    def __init__(self, jail_files: Sequence[Path], filter_files: Sequence[Path]) -> None:
        self._files = {path.stem: path for path in sorted(filter_files, key=lambda path: path.suffix, reverse=True)}
        self._folders = [path.parent / "filter.d" for path in jail_files]

    def named(self, name: str) -> Path | None:
        if name in self._files:
            return self._files[name]
        places = (folder / f"{name}{suffix}" for folder in self._folders for suffix in (".conf", ".local"))
        return next((path for path in places if path.is_file()), None)


@dataclass(slots=True)
class _Rule:
    lines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _rule(jail: Jail, filters: _Filters, taken: set[str]) -> _Rule:
    rule = _Rule()
    try:
        patterns = _patterns(jail, filters, rule.notes)
        limits = limits_of(jail, rule.notes)
    except SettingsError as error:
        rule.notes.append(f"cannot be imported: {error}")
        return rule
    rule.notes += patterns.notes
    if not patterns.failregex:
        rule.notes.append("has no failregex; name the file of its filter")
        return rule
    failregex, ignoreregex, prefregex = list(patterns.failregex), list(patterns.ignoreregex), patterns.prefregex
    if patterns.usedns == "no":  # then <HOST> matches addresses only
        failregex = [pattern.replace("<HOST>", "<ADDR>") for pattern in failregex]
        prefregex = prefregex.replace("<HOST>", "<ADDR>")
    elif patterns.usedns not in ("", "warn"):
        rule.notes.append(f"usedns = {patterns.usedns} has no counterpart: pinban resolves no names from the log")
    refused = ""
    try:
        found = compile_filter(failregex, ignoreregex, prefregex)
    except FailregexError as error:
        refused = str(error)
    else:
        sees_pins = any(found.match(line) for line in _PIN)
        if sees_pins and not any(found.match(line) for line in _OTHER):
            if "pin" in taken:
                rule.notes.append("recognises failed PINs like the jail before it; its limits are left out")
                return rule
            taken.add("pin")
            rule.notes.append(
                "recognises failed PINs, so it becomes [rules.pin], and pinban's own reading replaces its failregex: "
                "it knows the other log formats, and tells a prompt for a PIN from a wrong PIN"
            )
            rule.lines += ["", "[rules.pin]", *limits]
            return rule
        if sees_pins:
            rule.notes.append("matches failed PINs among other lines; [rules.pin] counts those too, by its own limits")
    lines = [f"[rules.{toml_key(_named(jail.name, taken, rule.notes))}]", *limits]
    lines.append(f"failregex = {toml_lines(failregex)}")
    if ignoreregex:
        lines.append(f"ignoreregex = {toml_lines(ignoreregex)}")
    if prefregex:
        lines.append(f"prefregex = {toml_lines([prefregex])}")
    if refused:
        rule.notes.append(f"is written as a comment: {refused}")
        lines = [f"# {line}".rstrip() for line in "\n".join(lines).split("\n")]
    rule.lines += ["", *lines]
    return rule


def _patterns(jail: Jail, filters: _Filters, notes: list[str]) -> Patterns:
    name, parameters = with_options(jail.get("filter"))
    path = filters.named(name)
    if path is None:
        notes.append(f"filter = {name} is not among the files; name {name}.conf too")
    file = FilterFile(path)
    notes += file.notes
    return file.patterns(parameters, jail.own, jail.get("backend"))


def _named(name: str, taken: set[str], notes: list[str]) -> str:
    safe = re.sub(r"[^A-Za-z0-9_.-]", "-", name)[:32].lstrip("_.-") or "rule"
    if safe in BUILT_IN or safe in taken or safe.endswith(LONG):
        safe = safe.replace(".", "-")
        safe = next(n for n in (f"{safe[:28]}-{i}" for i in range(2, 999)) if n not in taken)
    if safe != name:
        notes.append(f"is called {safe} here")
    taken.add(safe)
    return safe


def summary(notes: Iterable[str]) -> str:
    """The notes as comments, to put above the settings."""
    return "".join(f"# {' '.join(note.split())}\n" for note in notes)
