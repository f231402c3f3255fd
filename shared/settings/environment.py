"""The variables PINBAN_*: which key each sets, and the value that its text means."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from shared.settings.errors import meant, settings_error

_PREFIX = "PINBAN_"

#: Variables that are not settings and are ignored: compose.yaml uses one for its networks, and the tests have some.
#: Those of compose.rp.yaml are an error: PINBAN_NODE in an enforcer's environment is meant as PINBAN_ENFORCER_NODE.
#: What Kubernetes and Docker's links set for a service called pinban or pinban-redis, is none either.
_NO_SETTINGS = re.compile(r"PINBAN_(NET|TEST_\w+|(\w+_)?(SERVICE_HOST|SERVICE_PORT\w*|PORT|PORT_\d+_(TCP|UDP)\w*))")


def variable_of(key: str) -> str:
    """The variable that sets a key: PINBAN_REDIS_URL for redis.url."""
    return _PREFIX + key.replace(".", "_").replace("-", "_").upper()


def variables_in(environment: Iterable[str], keys: Iterable[str]) -> dict[str, str]:
    """By key, the variable in the environment that sets it. SettingsError for one that sets no key, or two."""
    known = defaultdict[str, list[str]](list)
    for key in keys:
        known[variable_of(key).removeprefix(_PREFIX)].append(key)
    found = {}
    for variable in sorted(environment):
        if not variable.startswith(_PREFIX) or _NO_SETTINGS.fullmatch(variable):
            continue
        name = variable.removeprefix(_PREFIX)
        match known.get(name, []):
            case []:
                raise settings_error(f"{variable}: there is no such setting; {meant(name, known, _PREFIX)}")
            case [key]:
                found[key] = variable
            case several:
                raise settings_error(f"{variable}: it means {' and '.join(several)}; set them in the file instead")
    return found


def value_of(text: str, kind: Any) -> object:
    """The value that the text means for this type: the text read as TOML, a list split at commas, else the text."""
    try:
        value: object = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text.strip()
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    words = [word for option in options if get_origin(option) is Literal for word in get_args(option)]
    elements = [get_args(option)[0] for option in options if get_origin(option) is tuple]
    if kind is str and not isinstance(value, str):
        return text.strip()  # a node may be called 1
    if elements and not isinstance(value, list) and value not in words:
        return [value_of(part, elements[0]) for part in text.split(",") if part.strip()]
    return value
