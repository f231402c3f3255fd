"""A fail2ban filter with the parameters of a jail: its patterns as receiver.failregex takes them. Reads files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pinban.fail2ban.files import Config, with_tags
from receiver.failregex import patterns_of

#: The options of a filter that a rule of pinban has too.
PATTERNS = ("failregex", "ignoreregex", "prefregex")

#: The other options of a filter, and what pinban does instead.
_WITHOUT_COUNTERPART = {
    "datepattern": "pinban finds dates by itself, and a line counts when it arrives",
    "journalmatch": "pinban reads syslog, not the journal; send the lines by syslog",
    "maxlines": "each line is judged by itself",
}


@dataclass(frozen=True, slots=True)
class Patterns:
    """The patterns of a jail, with every reference resolved."""

    failregex: Sequence[str]
    ignoreregex: Sequence[str]
    prefregex: str
    usedns: str
    notes: Sequence[str]


#: A jail's own value of an option, given what %(known/name)s stands for; None when the jail does not set it.
Own = Callable[[str, Mapping[str, str]], str | None]


class FilterFile:
    """A filter's file with what it includes; without a path, an empty filter."""

    def __init__(self, path: Path | None) -> None:
        self._config = Config()
        if path is not None:
            self._config.read(path)
        self.notes = list(self._config.notes)

    def patterns(self, parameters: Mapping[str, str], own: Own, backend: str) -> Patterns:
        """The patterns that a jail uses: `parameters` as in name[mode=..], `own` gives the jail's own options.

        SettingsError for a reference to nothing, or to itself.
        """
        config = self._config
        definition = config.sections.get("Definition", {})
        known = config.known.setdefault("Definition", {})
        given = dict(parameters)
        if "logtype" not in definition:
            given.setdefault("logtype", "journal" if backend.startswith("systemd") else "file")
        for name in config.sections.get("Init", {}):
            initial = config.get("Init", name) or ""
            known.setdefault(name, initial)
            given.setdefault(name, initial)

        def lookup(name: str) -> str | None:
            where, slash, option = name.partition("/")
            if name.lower() in given:
                return given[name.lower()]
            if slash and option.lower() in config.sections.get(where, {}):
                return config.get(where, option.lower())
            return config.get("Definition", name.lower(), given)

        def filters(option: str) -> str | None:
            value = config.get("Definition", option, given)
            return None if value is None else with_tags(value, lookup)

        jails = {
            f"known/{option}": value.replace("%", "%%")
            for option in (*PATTERNS, *_WITHOUT_COUNTERPART)
            if (value := filters(option)) is not None
        }

        def of(option: str) -> str:
            mine = own(option, jails)
            return (filters(option) or "") if mine is None else with_tags(mine, lookup)

        notes = []
        for option, what in _WITHOUT_COUNTERPART.items():
            value = of(option).strip()
            if value and not (option == "maxlines" and value == "1"):
                notes.append(f"{option} = {' '.join(value.split())} has no counterpart: {what}")
        return Patterns(
            tuple(patterns_of(of("failregex"))),
            tuple(patterns_of(of("ignoreregex"))),
            " ".join(patterns_of(of("prefregex"))),
            of("usedns").strip().lower(),
            tuple(notes),
        )
