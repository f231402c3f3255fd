"""Reading the settings: a TOML file, then the environment over it. One clear line for whatever is wrong."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from shared.addresses import parse_network
from shared.errors import AddressError, SettingsError
from shared.probe import parse_probe_url
from shared.settings.rules import BUILT_IN, Rule, built_in_rules, decode_hook
from shared.settings.schema import Settings, parse_endpoint, parse_ignored
from shared.settings.servers import parse_servers

T = TypeVar("T")

#: Settings are looked for here when no file is named.
DEFAULT_FILE = "/etc/pinban/pinban.toml"


def load(path: str | None, environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of the file at `path`, with PINBAN_* variables over it.

    Without a path: DEFAULT_FILE when it exists, else the defaults. SettingsError names file, key, value and remedy.
    """
    source = path or (DEFAULT_FILE if os.path.lexists(DEFAULT_FILE) else "")
    table: dict[str, Any] = {}
    if source:
        try:
            table = tomllib.loads(Path(source).read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"{source}: cannot be read ({error.strerror}); name a file with -c") from error
        except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, digits or brackets beyond what Python reads
            raise SettingsError(f"{source}: is not TOML: {error}") from error
    origin = dict.fromkeys(_leaves(table), source)
    named = table.get("rules")
    rules = {*BUILT_IN, *(named if isinstance(named, dict) else ())}
    for key, description in _concrete_keys(rules):
        variable = "PINBAN_" + key.replace(".", "_").replace("-", "_").upper()
        if variable in environment:
            value = _from_environment(environment[variable], listed="a list of" in description)
            if isinstance(default_of(key), str) and not isinstance(value, str):
                value = environment[variable].strip()  # a node may be called 1
            _set(table, key, value)
            origin[key] = variable
    return _Reading(table, origin, source or "the environment", dict(_concrete_keys(rules))).settings()


def described_keys() -> Iterator[tuple[str, str]]:
    """Every key in dotted form, with the description of its values; `rules.NAME.` stands for every rule."""
    yield from _described(Settings, "")
    yield from _described(Rule, "rules.NAME.")


def default_of(key: str) -> object:
    """The default of a dotted key."""
    section, _, rest = key.partition(".")
    if section == "rules":
        name, _, field = rest.partition(".")
        return getattr(built_in_rules().get(name, Rule()), field)
    value: object = Settings()
    for part in key.split("."):
        value = getattr(value, part)
    return value


def password_of(settings: Settings) -> str | None:
    """The first line of redis.password_file, or None when no file is set."""
    return secret_of("redis.password_file", settings.redis.password_file)


def secret_of(key: str, path: str) -> str | None:
    """The first line of the file that the setting `key` names, or None when it names none. SettingsError."""
    if not path:
        return None
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise SettingsError(f"{key} = {path!r} cannot be read ({why}); make it readable for this user") from error
    return text.splitlines()[0].strip() if text.strip() else None


def _concrete_keys(rules: Iterable[str]) -> Iterator[tuple[str, str]]:
    yield from _described(Settings, "")
    for rule in rules:
        yield from _described(Rule, f"rules.{rule}.")


def _described(struct: type[msgspec.Struct], prefix: str) -> Iterator[tuple[str, str]]:
    for name, annotation in get_type_hints(struct, include_extras=True).items():
        if name == "rules":
            continue
        if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
            yield from _described(annotation, f"{prefix}{name}.")
            continue
        texts = [m.description for m in get_args(annotation)[1:] if isinstance(m, msgspec.Meta) and m.description]
        yield prefix + name, texts[-1]


def _from_environment(text: str, *, listed: bool) -> object:
    """TOML where it is TOML, commas for lists, else the text itself."""
    try:
        value: object = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        if not listed or text.strip() == "all":
            return text.strip()
        value = [part.strip() for part in text.split(",") if part.strip()]
        if all(str(part).isdecimal() for part in value):
            return [int(str(part)) for part in value]
    if listed and not isinstance(value, list):
        return [value]
    return value


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def _set(table: dict[str, Any], key: str, value: object) -> None:
    *sections, name = key.split(".")
    for section in sections:
        inner = table.setdefault(section, {})
        if not isinstance(inner, dict):  # the file is wrong there; converting it will say so
            return
        table = inner
    table[name] = value


class _Reading:
    """A table on its way to settings; its errors name where each value came from."""

    def __init__(self, table: dict[str, Any], origin: Mapping[str, str], source: str, keys: Mapping[str, str]) -> None:
        self._table = table
        self._origin = origin
        self._source = source
        self._keys = keys

    def settings(self) -> Settings:
        """The settings; SettingsError for the first thing that is wrong."""
        settings = self._converted({k: v for k, v in self._table.items() if k != "rules"}, Settings, "")
        settings = msgspec.structs.replace(settings, rules=self._rules())
        self._check_each(parse_ignored, "ignoreip", settings.ignoreip)
        self._check_each(parse_network, "receiver.senders", settings.receiver.senders)
        self._check_each(parse_endpoint, "receiver.listen", settings.receiver.listen)
        self._check_each(parse_servers, "redis.url", (settings.redis.url,))
        self._check_each(parse_probe_url, "enforcer.probe_url", (settings.enforcer.probe_url,))
        if settings.enforcer.protocol == "all" and settings.enforcer.ports != "all":
            raise self._error("enforcer.protocol", '= "all" goes with enforcer.ports = "all" only')
        return settings

    def _rules(self) -> dict[str, Rule]:
        named = self._table.get("rules", {})
        if not isinstance(named, dict):
            raise self._error("rules", f"is {named!r}; write [rules.pin] as a section")
        rules = {}
        for name in (*BUILT_IN, *(name for name in named if name not in BUILT_IN)):
            facts = named.get(name, {})
            if not isinstance(facts, dict):
                raise self._error(f"rules.{name}", f"is {type(facts).__name__}; write [rules.{name}] as a section")
            rules[name] = self._converted({**BUILT_IN.get(name, {}), **facts}, Rule, f"rules.{name}.")
            self._check_rule(name, rules[name])
        return rules

    def _check_rule(self, name: str, rule: Rule) -> None:
        if name in BUILT_IN:
            if rule.failregex or rule.prefregex:
                raise self._error(
                    f"rules.{name}.failregex", "is not for a built-in rule; give a rule of your own a name"
                )
            return
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,15}", name):
            raise self._error(f"rules.{name}", "is no name of a rule: 16 lower-case letters, digits, dashes at most")
        if not rule.failregex.strip():
            close = difflib.get_close_matches(name, BUILT_IN, 1, 0.5)
            remedy = f"did you mean rules.{close[0]}?" if close else "give it one"
            raise self._error(f"rules.{name}", f"there is no such rule, nor has it a failregex; {remedy}", ":")

    def _converted(self, table: dict[str, Any], kind: type[T], prefix: str) -> T:
        try:
            return msgspec.convert(table, kind, dec_hook=decode_hook)
        except msgspec.ValidationError as error:
            raise self._explained(str(error), table, prefix) from error

    def _check_each(self, check: Callable[[str], object], key: str, values: tuple[str, ...]) -> None:
        for value in values:
            try:
                check(value)
            except AddressError as error:
                raise self._error(key, f"{error}", ":") from error
            except ValueError as error:
                raise self._error(key, f"{error}; {self._keys[key]}", ":") from error

    def _explained(self, text: str, table: Mapping[str, Any], prefix: str) -> SettingsError:
        place = re.search(r"at `\$\.?([^`\[]*)", text)
        key = prefix + (place[1] if place else "")
        unknown = re.search(r"unknown field `([^`]*)`", text)
        if unknown:
            full = f"{key}.{unknown[1]}".replace("..", ".").lstrip(".")
            known = [*self._keys, *{name.rpartition(".")[0] for name in self._keys} - {""}]
            close = difflib.get_close_matches(full, known, 1, 0.5)
            remedy = f"did you mean {close[0]}?" if close else "the README has the table of all settings"
            return self._error(full, f"there is no such setting; {remedy}", ":")
        if key not in self._keys:
            # A check across a struct names the field in its message; a section with a bare value names none.
            section = key.rstrip(".")
            named = f"{section}.{text.split(' ', 1)[0]}"
            if named not in self._keys:
                what = text.split(" - at", maxsplit=1)[0]
                return self._error(section or "the file", f"{what}; write [{section}] as a section", ":")
            key = named
        value: Any = table
        for part in key.removeprefix(prefix).split("."):
            value = value[part]
        shown = re.sub(r"//.*@", "//***@", repr(value))  # a URL may hold a password
        return self._error(key, f"= {shown} is not {self._keys[key]}")

    def _error(self, key: str, what: str, colon: str = "") -> SettingsError:
        return SettingsError(f"{self._origin.get(key, self._source)}: {key}{colon} {what}")
