"""Reading the settings: a TOML file, then the environment over it. One clear line for whatever is wrong."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec

from shared.addresses import parse_network
from shared.durations import Milliseconds, parse_duration
from shared.errors import AddressError, SettingsError
from shared.settings import Settings, parse_endpoint

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
        except ValueError as error:  # no UTF-8, no TOML, or a number of more digits than Python reads
            raise SettingsError(f"{source}: is not TOML: {error}") from error
    origin = dict.fromkeys(_leaves(table), source)
    for key, description in described_keys():
        variable = "PINBAN_" + key.replace(".", "_").upper()
        if variable in environment:
            value = _from_environment(environment[variable], listed="a list of" in description)
            if isinstance(default_of(key), str) and not isinstance(value, str):
                value = environment[variable].strip()  # a node may be called 1
            _set(table, key, value)
            origin[key] = variable
    return _convert(table, origin, source or "the environment")


def described_keys() -> Iterator[tuple[str, str]]:
    """Every key in dotted form, with the description of its values."""
    yield from _described(Settings, "")


def default_of(key: str) -> object:
    """The default of a dotted key."""
    value: object = Settings()
    for part in key.split("."):
        value = getattr(value, part)
    return value


def password_of(settings: Settings) -> str | None:
    """The first line of redis.password_file, or None when no file is set."""
    if not settings.redis.password_file:
        return None
    try:
        text = Path(settings.redis.password_file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"redis.password_file = {settings.redis.password_file!r} cannot be read ({error}); "
            "make it readable for this user"
        ) from error
    return text.splitlines()[0].strip() if text.strip() else None


def _described(struct: type[msgspec.Struct], prefix: str) -> Iterator[tuple[str, str]]:
    for name, annotation in get_type_hints(struct, include_extras=True).items():
        if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
            yield from _described(annotation, f"{prefix}{name}.")
            continue
        texts = [m.description for m in get_args(annotation)[1:] if isinstance(m, msgspec.Meta) and m.description]
        yield prefix + name, texts[-1]


def _from_environment(text: str, *, listed: bool) -> object:
    """TOML where it is TOML, commas for lists, else the text itself."""
    try:
        value: object = tomllib.loads(f"value = {text}")["value"]
    except ValueError:
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


def _convert(table: dict[str, Any], origin: Mapping[str, str], source: str) -> Settings:
    try:
        settings = msgspec.convert(table, Settings, dec_hook=_hook)
    except msgspec.ValidationError as error:
        raise _explained(error, table, origin, source) from error
    for check, key, values in (
        (parse_network, "ignoreip", settings.ignoreip),
        (parse_network, "receiver.senders", settings.receiver.senders),
        (parse_endpoint, "receiver.listen", settings.receiver.listen),
    ):
        _check_each(check, values, key, origin.get(key, source))
    if settings.enforcer.protocol == "all" and settings.enforcer.ports != "all":
        key = "enforcer.protocol"
        raise SettingsError(f'{origin.get(key, source)}: {key} = "all" goes with enforcer.ports = "all" only')
    return settings


def _check_each(check: Callable[[str], object], values: tuple[str, ...], key: str, source: str) -> None:
    for value in values:
        try:
            check(value)
        except AddressError as error:
            raise SettingsError(f"{source}: {key}: {error}") from error
        except ValueError as error:
            raise SettingsError(f"{source}: {key}: {error}; {dict(described_keys())[key]}") from error


def _hook(kind: type, value: object) -> object:
    if kind is Milliseconds:
        return parse_duration(value)
    raise NotImplementedError(kind)


def _explained(
    error: msgspec.ValidationError, table: Mapping[str, Any], origin: Mapping[str, str], source: str
) -> SettingsError:
    text = str(error)
    place = re.search(r"at `\$\.?([^`\[]*)", text)
    key = place[1] if place else ""
    unknown = re.search(r"unknown field `([^`]*)`", text)
    keys = dict(described_keys())
    if unknown:
        full = f"{key}.{unknown[1]}".lstrip(".")
        known = [*keys, *{name.rpartition(".")[0] for name in keys} - {""}]
        close = difflib.get_close_matches(full, known, 1, 0.5)
        remedy = f"did you mean {close[0]}?" if close else "the README has the table of all settings"
        return SettingsError(f"{source}: {full}: there is no such setting; {remedy}")
    if key not in keys:
        # A check across a struct names the field in its message; a section with a bare value names none.
        named = f"{key}.{text.split(' ', 1)[0]}"
        if named not in keys:
            return SettingsError(
                f"{source}: {key or 'the file'}: {text.split(' - at', maxsplit=1)[0]}; write [{key}] as a section"
            )
        key = named
    value: Any = table
    for part in key.split("."):
        value = value[part]
    shown = re.sub(r"//.*@", "//***@", repr(value))  # a URL may hold a password
    return SettingsError(f"{origin.get(key, source)}: {key} = {shown} is not {keys[key]}")
