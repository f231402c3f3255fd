"""The command line: the group of commands, its exit codes, and one line for every failure. No command is in here."""

from __future__ import annotations

from typing import Any

import click

from pinban.commands import COMMANDS
from shared.errors import PinbanError
from shared.printable import printable

EXIT_CODES = """\b
Exit codes:
  0  done; status and doctor: all is well
  1  failed, and a line on standard error says why;
     status and doctor: something is wrong; unban: still banned
  2  the command line is wrong, and nothing was done"""


class Pinban(click.Group):
    """Lists the commands under headings, and prints every failure in one line."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  click
        """The commands under the headings of COMMANDS."""
        width = max(len(name) for name in self.commands)
        for heading, commands in COMMANDS.items():
            with formatter.section(heading):
                formatter.write_dl(
                    [(f"{each.name:{width}}", each.get_short_help_str(formatter.width)) for each in commands]
                )

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the words before the command."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            raise _in_one_line(error) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Parse the rest of the words and run the command."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise _in_one_line(error) from error
        except PinbanError as error:
            raise click.ClickException(_line(str(error))) from error
        except BrokenPipeError:
            raise  # click ends without a message when the reader of a pipe has ended
        except OSError as error:
            what = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(_line(f"{what}{error.strerror or error}")) from error


def _line(text: str) -> str:
    return printable(" ".join(text.split()))


def _in_one_line(error: click.UsageError) -> click.UsageError:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return error
    text = _line(error.format_message())
    if isinstance(error, click.NoSuchOption) and error.option_name in ("-c", "--config"):
        text = "-c FILE goes before the command."
    stop = "" if text.endswith((".", "?")) else "."
    command = error.ctx.command_path if error.ctx else "pinban"
    return click.UsageError(f"{text}{stop} See {command} --help")


@click.group(cls=Pinban, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-c", "--config", metavar="FILE", help="Settings, a TOML file; the default is /etc/pinban/pinban.toml.")
@click.version_option(package_name="pinban")
@click.pass_context
def main(context: click.Context, config: str | None) -> None:
    """Ban conference-PIN guessers on every reverse proxy (RP) of a Pexip deployment."""
    context.obj = config


for _commands in COMMANDS.values():
    for _command in _commands:
        main.add_command(_command)
