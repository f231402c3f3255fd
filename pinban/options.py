"""What several commands take: option types, and --json."""

from __future__ import annotations

from typing import Any

import click

from shared.addresses import parse_network
from shared.durations import Milliseconds, parse_duration
from shared.errors import AddressError

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


class Length(click.ParamType[Milliseconds]):
    """A length of time as pinban writes it."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Milliseconds:
        """From what was typed (click.ParamType)."""
        try:
            length = parse_duration(value)
        except ValueError:
            self.fail(f"{value!r} is no length of time; write 10m, 1h30m or 2d", param, ctx)
        if not 2_000 <= length <= 3_650 * 86_400_000:
            self.fail(f"{value!r} is not from 2s to 3650d", param, ctx)
        return length


class Address(click.ParamType[str]):
    """An address or network, as it was typed: whether a prefix was written decides what is meant."""

    name = "address"

    def __init__(self, *also: str) -> None:
        self._also = also

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """From what was typed (click.ParamType)."""
        text = str(value)
        try:
            if text not in self._also:
                parse_network(text)
        except AddressError as error:
            words = ["203.0.113.7", "2001:db8::1", *self._also]
            self.fail(f"{error}; write {', '.join(words)} or 203.0.113.0/24", param, ctx)
        return text


class Note(click.ParamType[str]):
    """A text for the history. Bytes that are no UTF-8, which Redis would refuse, become question marks."""

    name = "text"

    def convert(self, value: Any, _param: click.Parameter | None, _ctx: click.Context | None) -> str:
        """From what was typed (click.ParamType)."""
        return str(value).encode("utf-8", "replace").decode()
