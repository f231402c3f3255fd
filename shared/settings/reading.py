"""Reads the settings: a TOML file, then the environment, which wins. An error is one line."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from shared.errors import SettingsError
from shared.settings.declared import declared
from shared.settings.environment import value_of, variables_in
from shared.settings.errors import meant, settings_error, shown
from shared.settings.levels import parse_level, scaled
from shared.settings.schema import BUILT_IN, Rule, Settings

S = TypeVar("S", bound=Struct)

#: The file that is read when none is named.
DEFAULT_FILE = "/etc/pinban/pinban.toml"


def load(path: str | None, environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings in the file at `path`; a PINBAN_* variable wins over the file.

    Without a path: DEFAULT_FILE if it exists, else the defaults. SettingsError names file, key, value and remedy.
    """
    source = path or (DEFAULT_FILE if os.path.lexists(DEFAULT_FILE) else "")
    table: dict[str, Any] = {}
    if source:
        try:
            table = tomllib.loads(Path(source).read_text(encoding="utf-8"))
        except OSError as error:
            raise settings_error(f"{source}: cannot be read ({error.strerror}); name a file with -c") from error
        except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, too many digits or brackets for Python
            raise settings_error(f"{source}: is not TOML: {error}; correct the file") from error
    return _Reading(source or "the environment", table, environment).settings()


def password_of(settings: Settings) -> str | None:
    """The first line of redis.password_file, or None if no file is set."""
    return secret_of("redis.password_file", settings.redis.password_file)


def secret_of(key: str, path: str) -> str | None:
    """The first line of the file at `path`, which the setting `key` names; None if the path is "".

    SettingsError if the file cannot be read.
    """
    if not path:
        return None
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise SettingsError(f"{key} = {path!r} cannot be read ({why}); make it readable for this user") from error
    return text.splitlines()[0].strip() if text.strip() else None


class _Reading:
    """Makes settings of a table and the variables, which win. An error names the file or variable with the value."""

    def __init__(self, source: str, table: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        named = table.get("rules")
        self._rules = dict.fromkeys([*BUILT_IN, *(named if isinstance(named, dict) else ())])
        self._source = source
        self._table = table
        self._environment = environment
        self._keys = declared(self._rules)
        self._variables = variables_in(environment, self._keys)

    def settings(self) -> Settings:
        """The settings; SettingsError for the first thing that is wrong."""
        settings = self._section(Settings(), self._table, "")
        if settings.enforcer.protocol == "all" and settings.enforcer.ports != "all":
            raise self._error("enforcer.protocol", ' = "all" needs enforcer.ports = "all"; set both, or "tcp" or "udp"')
        rules = {name: replace(rule, levels=self._levels(name, settings)) for name, rule in settings.rules.items()}
        return replace(settings, rules=rules)

    def _section(self, default: S, table: object, name: str) -> S:
        """The section of this name: the default, changed by the table and then by the environment."""
        if not isinstance(table, dict):
            raise self._error(name, f" = {shown(table)} is not a section; write [{name}] as a section")
        prefix = f"{name}." if name else ""
        for field in table:
            if field not in default.__struct_fields__:
                raise self._unknown(prefix + field)
        values: dict[str, Any] = {}
        for field in default.__struct_fields__:
            key = prefix + field
            if isinstance(inner := getattr(default, field), Struct):
                values[field] = self._section(inner, table.get(field, {}), key)
            elif key == "rules":
                values[field] = self._all_rules(table.get(field, {}))
            elif key in self._variables:
                text = self._environment[self._variables[key]]
                values[field] = self._value(key, value_of(text, self._keys[key].type))
            elif field in table:
                values[field] = self._value(key, table[field])
        return replace(default, **values)

    def _value(self, key: str, written: object) -> object:
        field = self._keys[key]
        try:
            value = field.convert(written)
        except ValueError as error:
            raise self._error(key, f" = {shown(written)} is not {field.description}") from error
        try:
            field.check(value)
        except ValueError as error:
            raise self._error(key, f": {error}; write {field.description}") from error
        return value

    def _all_rules(self, table: object) -> dict[str, Rule]:
        if not isinstance(table, dict):
            raise self._error("rules", f" = {shown(table)} is not a section; write [rules.pin] as a section")
        rules = {}
        for name in self._rules:
            rules[name] = self._section(BUILT_IN.get(name, Rule()), table.get(name, {}), f"rules.{name}")
            self._check_rule(name, rules[name])
        return rules

    def _check_rule(self, name: str, rule: Rule) -> None:
        key = f"rules.{name}"
        if name in BUILT_IN:
            for word in ("failregex", "prefregex"):
                if getattr(rule, word):
                    raise self._error(f"{key}.{word}", " cannot be set for a built-in rule; add a rule with a new name")
        elif not re.fullmatch(r"[a-z][a-z0-9_-]{0,15}", name):
            raise self._error(key, " is not a rule's name; use at most 16 lower-case letters, digits, dashes")
        elif not rule.failregex.strip():
            remedy = meant(name, BUILT_IN, "rules.", "give it one")
            raise self._error(key, f": this is not a built-in rule, and it has no failregex; {remedy}")

    def _levels(self, name: str, settings: Settings) -> tuple[str, ...]:
        """The levels of a rule: as written, or the defaults as far as they fit what else is set."""
        key, rule = f"rules.{name}.levels", settings.rules[name]
        prefixes = {True: settings.ipv6_prefix, False: settings.ipv4_prefix}
        levels = {text: parse_level(text) for text in rule.levels}
        if not self._is_set(name, "levels"):
            fitting = [text for text, level in levels.items() if level.length < prefixes[level.ipv6]]
            return scaled(fitting, rule.maxretry, BUILT_IN.get(name, Rule()).maxretry)
        for text, level in levels.items():
            if level.length >= prefixes[level.ipv6]:
                family = "ipv6" if level.ipv6 else "ipv4"
                remedy = f"{family}_prefix = {prefixes[level.ipv6]} has it already; write a shorter prefix"
                raise self._error(key, f": {text!r} is no wider network: {remedy}")
            if level.maxretry < rule.maxretry:
                raise self._error(key, f": {text!r} is below maxretry = {rule.maxretry}; write a higher limit")
        if len({(level.ipv6, level.length) for level in levels.values()}) < len(rule.levels):
            raise self._error(key, f" = {shown(list(rule.levels))} names a network twice; write each once")
        return rule.levels

    def _is_set(self, rule: str, field: str) -> bool:
        table = self._table.get("rules", {}).get(rule, {})
        return field in table or f"rules.{rule}.{field}" in self._variables

    def _unknown(self, key: str) -> SettingsError:
        known = dict.fromkeys(part for key in self._keys for part in accumulate(key.split("."), "{}.{}".format))
        return self._error(key, f": there is no such setting; {meant(key, known)}")

    def _error(self, key: str, what: str) -> SettingsError:
        return settings_error(f"{self._variables.get(key, self._source)}: {key}{what}")
