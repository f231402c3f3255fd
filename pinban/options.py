"""What all commands of the command line share: option types, the way errors are told."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import click

from shared.durations import Milliseconds, parse_duration
from shared.errors import PinbanError

P = ParamSpec("P")

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


def reported(command: Callable[P, None]) -> Callable[P, None]:
    """A command whose errors are one line and exit code 1."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except PinbanError as error:
            raise click.ClickException(str(error)) from error
        except BrokenPipeError:
            raise  # click ends quietly when nobody reads on
        except OSError as error:
            raise click.ClickException(f"{error.filename or 'a file'}: {error.strerror or error}") from error

    return run
