"""What schema.py declares, key by key, and the conversion of a value to the declared type."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from msgspec import Meta, Struct, convert

from shared.durations import Between
from shared.settings.schema import Rule, Settings
from shared.settings.texts import Parsed


@dataclass(frozen=True, slots=True)
class Declared:
    """One key, and the values that it takes."""

    type: Any  #: with its limits, for msgspec
    description: str  #: for README and error messages
    between: Between | None = None
    parsed: Parsed | None = None

    def convert(self, value: object) -> Any:
        """The value as Settings holds it; ValueError unless type and limits allow it."""
        return convert(value, self.type, dec_hook=lambda _, written: self._length(written))

    def check(self, converted: Any) -> None:
        """ValueError, which says why, if the function beside the type does not accept the converted value."""
        if self.parsed is not None:
            for text in converted if isinstance(converted, tuple) else (converted,):
                self.parsed.by(text)

    def _length(self, value: object) -> object:
        assert self.between is not None, "schema.py must declare limits for every length of time"
        return self.between.parse(value)


def declared(rules: Iterable[str] = ("NAME",)) -> dict[str, Declared]:
    """Every key in dotted form, in order; the keys of a rule once for each name in `rules`."""
    keys = dict(_fields(Settings, ""))
    for name in rules:
        keys.update(_fields(Rule, f"rules.{name}."))
    return keys


def _fields(struct: type[Struct], prefix: str) -> Iterator[tuple[str, Declared]]:
    for name, annotation in get_type_hints(struct, include_extras=True).items():
        if get_origin(annotation) is Annotated:
            yield prefix + name, _declared(annotation)
        elif isinstance(annotation, type) and issubclass(annotation, Struct):
            yield from _fields(annotation, f"{prefix}{name}.")


def _declared(annotation: Any) -> Declared:
    _, *beside = get_args(annotation)
    between = next((each for each in beside if isinstance(each, Between)), None)
    parsed = next((each for each in beside if isinstance(each, Parsed)), None)
    texts = [str(between)] if between else []
    texts += [each.description for each in beside if isinstance(each, Meta) and each.description]
    return Declared(annotation, ": ".join(texts), between, parsed)
