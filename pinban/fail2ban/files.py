"""fail2ban's configuration files: sections, includes, %(name)s and <name>. Does not know what an option means.

files -> sections, later files replace what earlier ones say -> a value with its %(...)s and <...> resolved
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from shared.errors import SettingsError

_PERCENT = re.compile(r"%(?:%|\(([^()]+)\)s)")
_TAG = re.compile(r"<([^ <>]+)>")

#: Nesting as deep as Python's ConfigParser allows, and more tags and text than any real filter has.
_DEEPEST, _MOST_TAGS, _LONGEST = 10, 500, 100_000


class Config:
    """Sections of options, read from files as fail2ban reads them."""

    def __init__(self, defaults: Mapping[str, str] | None = None) -> None:
        self.defaults: dict[str, str] = dict(defaults or {})
        self.sections: dict[str, dict[str, str]] = {}
        self.known: dict[str, dict[str, str]] = {}  #: what %(known/name)s stands for in a section
        self.notes: list[str] = []
        self.given: set[str] = set()  #: options of [DEFAULT] that a file has set

    def read(self, file: Path) -> None:
        """Read a file, what it includes, and FILE.local beside it. SettingsError when it cannot be read."""
        for path in _ordered(file, self.notes, ()):
            self._merge(_parsed(path, self.notes))

    def get(self, section: str, option: str, over: Mapping[str, str] | None = None) -> str | None:
        """An option with %(...)s resolved; options in `over` come before the section's. None when it is not set."""
        raw = self._raw(section, option, over or {})
        return None if raw is None else self._resolved(section, raw, over or {}, 0)

    def _merge(self, parser: configparser.RawConfigParser) -> None:
        own = parser.defaults()
        self.given |= set(own)
        self.defaults.update(own)
        for name in parser.sections():
            options = dict(parser._sections[name])  # type: ignore[attr-defined]  # without the defaults
            section = self.sections.setdefault(name, {})
            known = self.known.setdefault(name, {})
            known.update({option: section[option] for option in options if option in section})
            section.update(options)

    def _raw(self, section: str, option: str, over: Mapping[str, str]) -> str | None:
        if option == "__name__":
            return section
        for options in (over, self.sections.get(section, {}), self.defaults):
            if option in options:
                return options[option]
        where, slash, name = option.partition("/")
        if not slash:
            return None
        if where.lower() == "known":
            places = (self.known.get(section, {}), self.defaults)
        elif where.lower() == "default":
            places = (self.defaults, {})
        else:
            places = (self.sections.get(where, {}), self.defaults)
        return next((options[name] for options in places if name in options), None)

    def _resolved(self, section: str, raw: str, over: Mapping[str, str], depth: int) -> str:
        def value(found: re.Match[str]) -> str:
            if found[1] is None:
                return "%"
            name = found[1].lower()
            inner = self._raw(section, name, over)
            if inner is None:
                raise SettingsError(f"[{section}]: %({found[1]})s is not defined; also name the file that defines it")
            return self._resolved(section, inner, over, depth + 1)

        if depth > _DEEPEST or len(raw) > _LONGEST:
            raise SettingsError(f"[{section}]: {raw[:60]!r} refers to itself; correct the file")
        return _PERCENT.sub(value, raw)


def with_tags(value: str, lookup: Callable[[str], str | None]) -> str:
    """The value with every <name> that the lookup knows resolved, innermost first; others stay as they are."""
    at, left = 0, _MOST_TAGS
    while tag := _TAG.search(value, at):
        name = tag[1]
        meaning = None if name.isupper() or name.startswith(("F-", "/F-")) else lookup(name)
        if meaning is None:
            at = tag.start() + 1
            continue
        value = value.replace(tag[0], meaning)
        left -= 1
        if left < 0 or len(value) > _LONGEST:
            raise SettingsError(f"<{name}> refers to itself; correct the file")
        at = 0  # the result may be part of another tag, as in <mdre-<mode>>
    return value


def _ordered(file: Path, notes: list[str], seen: tuple[Path, ...]) -> list[Path]:
    """What the file includes before, the file, what it includes after; each .local right after its .conf."""
    files: list[Path] = []
    local = file.with_suffix(".local")
    for path in (file, local) if local != file and local.is_file() else (file,):
        parser = _parsed(path, [])
        around: dict[str, list[Path]] = {"before": [], "after": []}
        for option, files_there in around.items():
            for name in parser.get("INCLUDES", option, fallback="").split("\n"):
                included = path.parent / name.strip()
                if not name.strip() or included in (*seen, path):
                    continue
                if included.is_file():
                    files_there.extend(_ordered(included, notes, (*seen, path)))
                elif included.suffix != ".local":
                    notes.append(f"{path}: {option} = {name.strip()} does not exist; it is left out")
        files += [*around["before"], path, *around["after"]]
    return files


def _parsed(path: Path, notes: list[str]) -> configparser.RawConfigParser:
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); name a file of fail2ban") from error
    try:
        return _parse(text)
    except configparser.MissingSectionHeaderError:
        pass
    except configparser.Error as error:
        raise SettingsError(f"{path}: is no configuration file ({_one_line(error)}); mend it") from error
    try:
        parser = _parse("[INCLUDES]\n" + text)
    except configparser.Error as error:
        raise SettingsError(f"{path}: is no configuration file ({_one_line(error)}); mend it") from error
    notes.append(f"{path}: the first section's header is missing; read as [INCLUDES], which fail2ban would refuse")
    return parser


def _parse(text: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(
        strict=False, interpolation=None, comment_prefixes=("#", ";"), inline_comment_prefixes=(";",)
    )
    parser.read_string(text)
    return parser


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def words_of(value: str) -> list[str]:
    """A list as fail2ban reads it: words between spaces, commas and line ends."""
    return [word for word in re.split(r"[ ,\n]+", value) if word]


def is_true(value: str) -> bool:
    """Whether fail2ban reads the value as true."""
    return value.strip().lower() in ("1", "on", "true", "yes")


def with_options(value: str) -> tuple[str, dict[str, str]]:
    """Name and options of `name[option=value, other="..."][more=...]`. SettingsError for anything else."""
    name, bracket, listed = value.strip().partition("[")
    options: dict[str, str] = {}
    if not bracket:
        return name.strip(), options
    part = re.compile(r"""\s*([\w.-]+)=(?:"([^"]*)"|'([^']*)'|([^,\]]*))\s*(?:,|\]\s*\[|\]\s*$)|\s*\]\s*$""")
    at = 0
    while at < len(listed):
        found = part.match(listed, at)
        if found is None:
            raise SettingsError(f"filter = {value!r} cannot be read; write name[option=value]")
        if found[1]:
            options[found[1].lower()] = next(v for v in found.groups()[1:] if v is not None).strip()
        at = found.end()
    return name.strip(), options


def listed(names: Iterable[str], most: int = 12) -> str:
    """Names with commas between them; of many, only the first ones."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
